"""How well the embedded model recalls facts: `python -m benchmarks.recall --json`.

Conversations state a full grid of facts (every subject has every attribute, so each fact has siblings that differ by
the subject alone and by the attribute alone), between prose that training never saw, with names, attributes and
values that training never saw. Each fact is asked for on the same state. An answer counts if it gives the value
whole and nothing after it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Protocol

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

from agentmem.kv.state import AgentState
from agentmem.model import forward, loader
from agentmem.model.loader import LoadedModel
from agentmem.types import Message
from benchmarks import machine
from training import facts
from training.corpus import held_out_paragraphs

GRIDS = {256: (2, 2), 1024: (4, 3), 2048: (5, 4)}
LONGEST_REPLY = 48


class State(Protocol):
    """Remembered positions: feed ids and get the logits behind them, or go back to a length."""

    def feed(self, ids: list[int]) -> mx.array: ...
    def back_to(self, length: int) -> None: ...


class Q4State:
    """agentmem's own state."""

    def __init__(self, model: LoadedModel) -> None:
        self._model, self._state = model, AgentState(model.layout)

    def feed(self, ids: list[int]) -> mx.array:
        for _ in forward.prefill(self._model, self._state, ids[:-1]):
            pass
        return forward.last_logits(self._model, self._state, ids[-1:])

    def back_to(self, length: int) -> None:
        if not self._state.trim(length):
            raise RuntimeError("the conversation has frozen into a span")


class FullState:
    """mlx-lm's unquantised cache."""

    def __init__(self, model: LoadedModel) -> None:
        self._network, self._cache = model.network, make_prompt_cache(model.network)

    def feed(self, ids: list[int]) -> mx.array:
        logits = self._network(mx.array(ids)[None], cache=self._cache)[0, -1]
        mx.eval(logits)
        return logits

    def back_to(self, length: int) -> None:
        trim_prompt_cache(self._cache, self._cache[0].offset - length)


@dataclass(frozen=True)
class Conversation:
    ids: list[int]
    known: list[facts.Fact]


def conversations(model: LoadedModel, length: int, count: int, seed: int) -> Iterator[Conversation]:
    """Conversations of nearly `length` tokens, room for one question and its answer left."""
    rng = Random(f"{seed}-{length}")
    while count:
        known = facts.world(facts.Source(rng, test=True), *GRIDS[length], keep=1.0)
        turns = [facts.tell(rng, f) for f in known]
        made = _filled(model, turns, length - 64, rng)
        if made is not None:
            yield Conversation(made, known)
            count -= 1


def _filled(model: LoadedModel, turns: list[str], room: int, rng: Random) -> list[int] | None:
    prose = held_out_paragraphs()
    turns = list(turns)
    ids = _encode(model, turns)
    if len(ids) > room:
        return None
    while True:
        longer = list(turns)
        longer.insert(rng.randint(0, len(turns)), rng.choice(prose))
        new = _encode(model, longer)
        if len(new) > room:
            return ids
        turns, ids = longer, new


def _encode(model: LoadedModel, turns: list[str]) -> list[int]:
    messages = [m for t in turns for m in (Message("user", (t,)), Message("assistant", (facts.NOTED,)))]
    return model.text.encode_chat(messages, None, False, False).ids


def answer(model: LoadedModel, state: State, length: int, question: str, last_id: int) -> str:
    """The greedy reply to a question behind the conversation; the state is set back afterwards."""
    logits = state.feed(model.text.encode_chat([Message("user", (question,))], last_id, False, True).ids)
    out: list[int] = []
    while len(out) < LONGEST_REPLY and (token := int(mx.argmax(logits).item())) not in model.text.eos_ids:
        out.append(token)
        logits = state.feed([token])
    state.back_to(length)
    return model.text.decode(out)


def measure(model: LoadedModel, length: int, questions: int, seed: int) -> dict[str, float]:
    """Share of values recalled with full-precision and with Q4 state, on the same questions."""
    right = {"full": 0, "q4": 0}
    asked, rng = 0, Random(seed)
    per_world = GRIDS[length][0] * GRIDS[length][1]
    for one in conversations(model, length, -(-questions // per_world), seed):
        states: dict[str, State] = {"full": FullState(model), "q4": Q4State(model)}
        for state in states.values():
            state.feed(one.ids)
        for fact in one.known:
            question, asked = facts.ask(rng, fact), asked + 1
            for name, state in states.items():
                reply = answer(model, state, len(one.ids), question, one.ids[-1])
                right[name] += reply.endswith(facts.answer(fact)[1]) and len(reply) < 200
        print(f"{length}: {asked} asked, right {right}", file=sys.stderr)
    return {"asked": asked, **{name: round(n / asked, 4) for name, n in right.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object (it always is)")
    parser.add_argument("--model", help="folder or hub id; the embedded model if left out")
    parser.add_argument("--questions", type=int, default=300, help="per length")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    machine.prefer_openblas()
    model = loader.load(args.model)
    results = {str(length): measure(model, length, args.questions, args.seed) for length in GRIDS}
    print("tokens  asked  full    q4")
    for length, r in results.items():
        print(f"{length:>6}  {r['asked']:>5}  {r['full']:.3f}  {r['q4']:.3f}")
    print(json.dumps({"benchmark": "recall", "model": model.name, "recall": results, "machine": machine.describe()}))


if __name__ == "__main__":
    main()

"""Documents that were read once, put into an agent's memory: `python -m benchmarks.documents --json`.

For 2, 4 and 8 documents and each way of putting them there, on a fresh agent that has read a little: seconds from
asking for the splice to the first token of a reply behind it, and how far the logits behind a suffix, fed token by
token, are from those where all was computed in context ("exact"), as a norm of the difference over the norm. The
documents are hot. Ratios are taken within one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Delta, Failed, Finished, Request, Sampling, Slice, SpliceInput, TokenInput
from agentmem.model.forward import last_logits
from agentmem.types import AgentRef, Reposition
from benchmarks import machine
from tests.helpers.checkpoints import Spec, write

LARGER = Spec(layers=8, width=512, heads=8, kv_heads=4, context=8192)
BEFORE, SUFFIX, COUNTS = 16, 16, (2, 4, 8)
RATIOS = (0.05, 0.15)


def ask(engine: Engine, request: Request) -> tuple[float, Finished]:
    """Seconds to the first token, or to the end where there is none."""
    began, first, last, done = time.perf_counter(), [], [], threading.Event()

    def sink(event: object) -> None:
        if isinstance(event, Delta):
            first.append(time.perf_counter() - began)
        if isinstance(event, Finished | Failed):
            first.append(time.perf_counter() - began)
            last.append(event)
            done.set()

    engine.submit(request, sink)
    done.wait()
    if isinstance(last[0], Failed):
        raise last[0].error
    return first[0], last[0]


def logits_of(engine: Engine, ref: AgentRef, ids: list[int]) -> np.ndarray:
    """Behind each of the ids, fed to a copy of a hot agent's state: [ids, vocab]."""

    def look() -> np.ndarray:
        agent = engine._context.memory.find(ref)
        assert agent is not None
        assert agent.state is not None
        state = agent.state.fork()
        return np.stack([np.array(last_logits(engine._context.model, state, [token])) for token in ids])

    return engine._briefly(ref, look)


def measure(engine: Engine, count: int, tokens: int, repeats: int) -> dict[str, dict[str, float]]:
    """Medians for so many documents of so many tokens."""
    rng = np.random.default_rng(count)

    def random(n: int) -> list[int]:
        return [int(i) for i in rng.integers(5, engine._context.model.vocab_size, n)]

    ways: dict[str, dict[str, Any]] = {"exact": {"reposition": Reposition.EXACT}, "reposition": {}}
    ways |= {f"blend {ratio}": {"reposition": Reposition.BLEND, "ratio": ratio} for ratio in RATIOS}
    seen: dict[str, dict[str, list[float]]] = {way: {"seconds": [], "error": [], "same_word": []} for way in ways}
    for _ in range(repeats):
        documents, before, suffix = (
            [AgentRef("default", f"doc{n}") for n in range(count)],
            random(BEFORE),
            random(SUFFIX),
        )
        for document in documents:
            ask(engine, Request(document, TokenInput(tuple(random(tokens))), create=True))
        exact = np.zeros(0)
        for way, how in ways.items():
            ref = AgentRef("default", "reader")
            ask(engine, Request(ref, TokenInput(tuple(before)), create=True))
            given = SpliceInput(tuple(Slice(document.name) for document in documents), **how)
            spliced, _ = ask(engine, Request(ref, given))
            logits = logits_of(engine, ref, suffix)
            answered, _ = ask(engine, Request(ref, TokenInput(tuple(suffix)), Sampling(max_tokens=1)))
            exact = logits if way == "exact" else exact
            seen[way]["seconds"].append(spliced + answered)
            seen[way]["error"].append(float(np.linalg.norm(logits - exact) / np.linalg.norm(exact)))
            seen[way]["same_word"].append(float((logits.argmax(axis=1) == exact.argmax(axis=1)).mean()))
            engine.delete_agent(ref)
        for document in documents:
            engine.delete_agent(document)
    return {way: {name: statistics.median(values) for name, values in of.items()} for way, of in seen.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object (it always is)")
    parser.add_argument("--tokens", type=int, default=512, help="of each document")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="the smallest case, once, on a tiny model")
    arguments = parser.parse_args()
    spec, counts, repeats, tokens = LARGER, COUNTS, arguments.repeats, arguments.tokens
    if arguments.quick:
        spec, counts, repeats, tokens = Spec(context=2048), COUNTS[:1], 1, 64
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine.open(EngineSettings(Path(folder) / "state", str(write(Path(folder) / "model", spec))))
        try:
            found = {str(count): measure(engine, count, tokens, repeats) for count in counts}
        finally:
            engine.close()
    for count, ways in found.items():
        print(f"{count} documents of {tokens} tokens", file=sys.stderr)
        for way, of in ways.items():
            ratio = of["seconds"] / ways["exact"]["seconds"]
            print(f"  {way:<12} {of['seconds']:.3f} s, {ratio:.2f} of exact; error {of['error']:.3f}", file=sys.stderr)
    figures = {"benchmark": "documents", "quick": arguments.quick, "tokens": tokens, "documents": found}
    print(json.dumps({**figures, "machine": machine.describe()}))


if __name__ == "__main__":
    machine.prefer_openblas()
    main()

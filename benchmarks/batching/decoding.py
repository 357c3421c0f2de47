"""Steps of a batch, without an engine: ragged against padded, and with against without shared attention.

Both sides decode greedily, one step ahead of the device, on copies of the same states.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import mlx.core as mx

from agentmem.kv import alongside
from agentmem.kv.span import Span
from agentmem.kv.state import AgentState
from agentmem.model import forward
from agentmem.model.loader import LoadedModel
from agentmem.types import BLOCK_TOKENS
from benchmarks.batching.cases import Cases, random_ids, random_span, random_state
from benchmarks.batching.padded import PaddedBatch
from benchmarks.batching.timing import Turns


class Ragged:
    """The product's way: each agent has the state it has."""

    def __init__(self, model: LoadedModel, states: Sequence[AgentState]) -> None:
        self._model, self._states = model, states
        self._begins = [state.offset for state in states]

    def step(self, tokens: mx.array) -> mx.array:
        return forward.decode(self._model, self._states, tokens)

    def arrays(self) -> list[mx.array]:
        return [array for state in self._states for array in state.full.arrays()]

    def rewind(self) -> None:
        for state, begin in zip(self._states, self._begins, strict=True):
            state.trim(begin)


Decoder = Ragged | PaddedBatch
"""step: from tokens to logits, both lazy. arrays: what is appended to. rewind: to where it began."""


def step_s(decoder: Decoder, tokens: mx.array, steps: int) -> float:
    """Seconds per step, of so many."""
    decoder.rewind()
    mx.eval(tokens)
    began = time.perf_counter()
    for _ in range(steps):
        tokens = mx.argmax(decoder.step(tokens), axis=-1)
        mx.async_eval(tokens, decoder.arrays())
    mx.eval(tokens, decoder.arrays())
    return (time.perf_counter() - began) / steps


def compared(decoders: Mapping[str, Decoder], tokens: mx.array, steps: int, rounds: int) -> Turns:
    """Seconds per step of each, by turns."""
    one, other = (decoder.step(tokens) for decoder in decoders.values())
    apart = mx.abs(one - other).max().item() / mx.abs(one).max().item()
    if not apart < 1e-3:
        raise RuntimeError(f"what is compared does not do the same: logits differ by {apart:.1%} of the largest")
    works = {name: lambda decoder=decoder: step_s(decoder, tokens, steps) for name, decoder in decoders.items()}
    Turns(works, 1)
    return Turns(works, rounds)


def ragged_over_padded(model: LoadedModel, lengths: Sequence[int], cases: Cases) -> dict[str, float]:
    """Tokens per second of ragged over padded decoding of contexts of these lengths."""
    states = [random_state(model, n, seed) for seed, n in enumerate(lengths)]
    tokens = mx.array(random_ids(len(lengths), 0))
    batch = PaddedBatch(model, states, cases.steps)
    decoders = {"padded": batch, "ragged": Ragged(model, states)}
    turns = compared(decoders, tokens, cases.steps, cases.repeats)
    held = sum(lengths) * model.layout.full.bytes_per_token
    return {
        "ragged_over_padded": turns.ratio("padded", "ragged"),
        "by_cpu_seconds": turns.cpu_ratio("padded", "ragged"),
        **turns.medians("step_ms", 1000),
        "ragged_mb_per_step": (model.bytes + held) / 1e6,
        "padded_mb_per_step": (model.bytes + sum(array.nbytes for array in batch.arrays())) / 1e6,
    }


def shared_prefix(model: LoadedModel, cases: Cases) -> dict[str, float]:
    """Agents on one long prefix, each with 32 positions of its own: with over without shared attention."""
    span = random_span(model.layout.full, cases.long // BLOCK_TOKENS, 0)
    forks = [_on(model, span, seed) for seed in range(cases.agents)]
    alone = [_on(model, _copy(span), seed) for seed in range(cases.agents)]
    tokens = mx.array(random_ids(cases.agents, 0))
    decoders = {"private": Ragged(model, alone), "shared": Ragged(model, forks)}
    turns = compared(decoders, tokens, cases.steps // 2, cases.repeats)
    own = sum(state.offset - cases.long for state in forks) * model.layout.full.bytes_per_token
    return {
        "shared_prefix_speedup": turns.ratio("private", "shared"),
        "by_cpu_seconds": turns.cpu_ratio("private", "shared"),
        **turns.medians("step_ms", 1000),
        "shared_mb_per_step": (model.bytes + span.nbytes + own) / 1e6,
        "private_mb_per_step": (model.bytes + cases.agents * span.nbytes + own) / 1e6,
    }


def second_stream(model: LoadedModel, lengths: Sequence[int], cases: Cases) -> dict[str, float]:
    """Steps of contexts of these lengths: all products on one CPU stream, over half of them on another."""
    states = [random_state(model, n, seed) for seed, n in enumerate(lengths)]
    tokens, decoder = mx.array(random_ids(len(lengths), 0)), Ragged(model, states)

    def step(least_units: int) -> float:
        usual, alongside.LEAST_UNITS = alongside.LEAST_UNITS, least_units
        try:
            return step_s(decoder, tokens, cases.steps)
        finally:
            alongside.LEAST_UNITS = usual

    works = {"one_stream": lambda: step(1 << 30), "two_streams": lambda: step(alongside.LEAST_UNITS)}
    Turns(works, 1)
    turns = Turns(works, cases.repeats)
    return {"one_over_two_streams": turns.ratio("one_stream", "two_streams"), **turns.medians("step_ms", 1000)}


def _on(model: LoadedModel, span: Span, seed: int) -> AgentState:
    state = AgentState(model.layout)
    state.hold(span)
    for _ in forward.prefill(model, state, random_ids(32, seed)):
        pass
    return state


def _copy(span: Span) -> Span:
    copy = Span([piece.copy(0, piece.segments) for piece in span.layers])
    mx.eval([piece.arrays for piece in copy.layers])
    return copy

"""States that tests begin with, and whether two are the same."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar

import mlx.core as mx
import numpy as np

from agentmem.kv.state import AgentState
from agentmem.latent.space import EmbeddingSpace
from agentmem.latent.splice import Part
from agentmem.latent.think import step
from agentmem.model.forward import feed, last_logits
from agentmem.model.loader import LoadedModel
from agentmem.types import Projection
from tests.helpers.checkpoints import VOCAB

T = TypeVar("T")


def ids(seed: int, count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(5, VOCAB, count)]


def prefilled(model: LoadedModel, *tokens: list[int]) -> AgentState:
    """A state that was fed so, one run after the other."""
    state = AgentState(model.layout)
    for run in tokens:
        feed(model, state, run)
    return state


def part(model: LoadedModel, state: AgentState, start: int = 0, end: int | None = None) -> Part:
    return Part(state, start, state.offset if end is None else end, model.state_id)


def logits(model: LoadedModel, state: AgentState, tokens: list[int]) -> np.ndarray:
    """Behind each of the tokens, fed one by one: [count, vocab]. The state grows."""
    return np.stack([np.array(last_logits(model, state, [token])) for token in tokens])


def fingerprint(state: AgentState) -> list[bytes]:
    """All that a state without a splice holds, to the bit."""
    blocks = [state.read(at, min(at + 256, state.offset)) for at in range(0, state.offset, 256)]
    return [block[name].tobytes() for block in blocks for name in sorted(block)]


def same(one: AgentState, other: AgentState) -> bool:
    return one.offset == other.offset and fingerprint(one) == fingerprint(other)


class Thought(NamedTuple):
    """embeddings: those that were fed, [agents, steps, width]. hidden: the last hidden states behind them."""

    embeddings: mx.array
    hidden: mx.array


def think(
    model: LoadedModel,
    space: EmbeddingSpace,
    states: Sequence[AgentState],
    hidden: mx.array,
    steps: int,
    projection: Projection = Projection.RIDGE,
) -> Thought:
    fed = []
    for _ in range(steps):
        row, hidden = step(model, space, states, hidden, [projection] * len(states))
        fed.append(row)
    return Thought(mx.stack(fed, axis=1), hidden)


def result(steps: Generator[object, None, T]) -> T:
    """What comes of work that leaves others their turn."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value

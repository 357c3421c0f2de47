"""Splice: parts of states, behind one another, as one state. Keys stay as they are stored; queries are turned.

Parts have not seen one another, nor the prefix if they were not computed behind it: what comes of it is not what a
joint prefill would be, and is labelled so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.kv import splicing
from agentmem.kv.layers import to_numpy
from agentmem.kv.placed import UNUSED
from agentmem.kv.rotation import Frequencies
from agentmem.kv.splicing import Taken
from agentmem.kv.state import AgentState
from agentmem.model.loader import LoadedModel
from agentmem.types import BLOCK_TOKENS, Exactness, Order


@dataclass(frozen=True)
class Part:
    """Positions [start, end) of a state of the model `state_id`.

    key: what the part is known by, for the canonical order; equal keys must mean equal parts. None: a digest of its
    state and start.
    """

    state: AgentState
    start: int
    end: int
    state_id: str
    key: bytes | None = None

    def __len__(self) -> int:
        return self.end - self.start


class Spliced(NamedTuple):
    """A state of its own; those that it was made of stay as they are.

    order: numbers of the parts as they follow one another. starts: the first position of each, in that order.
    """

    state: AgentState
    order: tuple[int, ...]
    starts: tuple[int, ...]
    exactness: Exactness


def splice(
    model: LoadedModel,
    frequencies: Sequence[Frequencies],
    prefix: AgentState | None,
    parts: Sequence[Part],
    order: Order = Order.GIVEN,
    reposition: bool = True,
) -> Spliced:
    """The prefix, and behind it the parts, one after the other.

    frequencies: the model's (`latent.frequencies`). prefix: of the same model; None begins at position 0. reposition:
    False leaves the keys where they are, which is right only if the reader is to see all parts at their own positions.

    EXACT is what only goes on from where the prefix ends, as a handoff does; all else is REPOSITIONED.

    Raises AgentmemError: MODEL_MISMATCH.
    """
    for part in parts:
        if part.state_id != model.state_id:
            raise AgentmemError(
                Reason.MODEL_MISMATCH, "A part of this splice is the state of another model; take it from this model's."
            )
    numbers = list(range(len(parts)))
    if order is Order.CANONICAL:
        numbers.sort(key=lambda number: _key(parts[number]))
    ordered = [parts[number] for number in numbers]
    starts: list[int] = []
    rest = ordered
    if prefix is not None and ordered and _continues(prefix, ordered[0]):
        starts.append(prefix.offset)
        state, rest = ordered[0].state.fork(), ordered[1:]
    else:
        state = AgentState(model.layout) if prefix is None else prefix.fork()
    for part in rest:
        starts.append(state.offset)
        put(state, part, frequencies, reposition)
    return Spliced(state, tuple(numbers), tuple(starts), Exactness.REPOSITIONED if rest else Exactness.EXACT)


def put(state: AgentState, part: Part, frequencies: Sequence[Frequencies], reposition: bool = True) -> None:
    """Appends a part to a state."""
    moved = state.offset - part.start
    splicing.close(state.full)
    placed = []
    for span, rows, shift in splicing.take(part.state.full, part.start, part.end):
        there = np.where(rows == UNUSED, UNUSED, rows + np.where(rows == UNUSED, 0, moved))
        placed.append(Taken(span, there, shift + moved if reposition else shift))
    splicing.place(state.full, placed, frequencies)


def _continues(prefix: AgentState, part: Part) -> bool:
    """Whether a part is all that follows the prefix in its own state: then that state is the splice."""
    state = part.state
    if part.start != prefix.offset or part.end != state.offset or prefix.full.is_spliced or state.full.is_spliced:
        return False
    at = 0
    for mine, theirs in zip(prefix.full.spans, state.full.spans, strict=False):
        if mine is not theirs:
            break
        at += mine.segments * BLOCK_TOKENS
    for start in range(at, prefix.offset, BLOCK_TOKENS):
        end = min(start + BLOCK_TOKENS, prefix.offset)
        mine_, theirs_ = prefix.read(start, end), state.read(start, end)
        if not all(np.array_equal(mine_[name], theirs_[name]) for name in mine_):
            return False
    return True


def _key(part: Part) -> bytes:
    if part.key is not None:
        return part.key
    digest = hashlib.blake2b(part.start.to_bytes(8, "little"), digest_size=32)
    for span, rows, shift in splicing.take(part.state.full, part.start, part.end):
        used = (rows != UNUSED).reshape(-1, BLOCK_TOKENS)
        digest.update(shift.to_bytes(8, "little", signed=True))
        for piece in span.layers:
            for array in piece.arrays:
                digest.update(np.ascontiguousarray(to_numpy(array).swapaxes(1, 2)[used]).tobytes())
    return digest.digest()

"""Splice: parts of states, behind one another, as one state. Keys stay as they are stored; queries are turned.

Parts have not seen one another, nor the prefix if they were not computed behind it: what comes of it is not what a
joint prefill would be. In which order they come, and whether one is a handoff, is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.kv import splicing
from agentmem.kv.placed import UNUSED
from agentmem.kv.rotation import Frequencies
from agentmem.kv.splicing import Taken
from agentmem.kv.state import AgentState
from agentmem.model.loader import LoadedModel


@dataclass(frozen=True)
class Part:
    """Positions [start, end) of a state of the model `state_id`."""

    state: AgentState
    start: int
    end: int
    state_id: str

    def __len__(self) -> int:
        return self.end - self.start


class Spliced(NamedTuple):
    """A state of its own; those that it was made of stay as they are.

    starts: the first position of each part.
    """

    state: AgentState
    starts: tuple[int, ...]


def splice(
    model: LoadedModel,
    frequencies: Sequence[Frequencies],
    prefix: AgentState | None,
    parts: Sequence[Part],
) -> Spliced:
    """The prefix, and behind it the parts, one after the other.

    frequencies: the model's (`latent.frequencies`). prefix: of the same model; None begins at position 0.

    Raises AgentmemError: MODEL_MISMATCH.
    """
    for part in parts:
        if part.state_id != model.state_id:
            raise AgentmemError(
                Reason.MODEL_MISMATCH, "A part of this splice is the state of another model; take it from this model's."
            )
    state = AgentState(model.layout) if prefix is None else prefix.fork()
    starts = []
    for part in parts:
        starts.append(state.offset)
        put(state, part, frequencies)
    return Spliced(state, tuple(starts))


def put(state: AgentState, part: Part, frequencies: Sequence[Frequencies]) -> None:
    """Appends a part to a state."""
    moved = state.offset - part.start
    splicing.close(state.full)
    placed = []
    for span, rows, shift in splicing.take(part.state.full, part.start, part.end):
        there = np.where(rows == UNUSED, UNUSED, rows + np.where(rows == UNUSED, 0, moved))
        placed.append(Taken(span, there, shift + moved))
    splicing.place(state.full, placed, frequencies)

"""What blocks a splice makes: which rows of which blocks stand where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from agentmem.kv import placed
from agentmem.memory.agent import Agent
from agentmem.memory.parts import Part, PartState
from agentmem.store.grid import is_spliced
from agentmem.store.placement import UNUSED, Placement
from agentmem.types import BLOCK_TOKENS

REPOSITION, BLEND = "REPOSITION", "BLEND"


@dataclass(frozen=True)
class Operation:
    """What was done to parts. name, params: as `Placement` has them.

    digest: of all parts and parameters, for positions that depend on all of them; b"" where each hangs on its own.
    """

    name: str
    params: str
    digest: bytes


def placements(
    operation: Operation, states: Sequence[PartState], starts: Sequence[int], recomputed: np.ndarray
) -> Iterator[Placement]:
    """Of each segment of a splice, in the order in which the spliced state holds them.

    states, starts: of each part, in order, and where it begins. recomputed: positions that were computed anew.
    """
    for state, start in zip(states, starts, strict=True):
        for rows, shift, source in zip(state.rows, state.shifts, state.sources, strict=True):
            there = np.where(rows == placed.UNUSED, UNUSED, rows + start * (rows != placed.UNUSED))
            there = np.where(np.isin(there, recomputed), UNUSED, there)
            if (there != UNUSED).any():
                yield _placement(operation, there, shift + start, source)
    for at in range(0, len(recomputed), BLOCK_TOKENS):
        rows = np.full(BLOCK_TOKENS, UNUSED)
        own = recomputed[at : at + BLOCK_TOKENS]
        rows[: len(own)] = own
        yield _placement(operation, rows, 0, b"")


def _placement(operation: Operation, rows: np.ndarray, shift: int, source: bytes) -> Placement:
    return Placement(rows.astype(np.int32), shift, operation.name, operation.params, source, operation.digest)


def goes_on(agent: Agent, part: Part) -> bool:
    """Whether a part is what follows the agent's timeline in its own: then feeding it has the state that it has."""
    source, grid = part.agent, agent.grid
    if part.start != agent.tokens or agent.splices != source.splices:
        return False
    if any(is_spliced(one.place, source.splices) for one in part.sources):
        return False
    base = grid.place_of(agent.tokens)
    begin = grid.start_of(base)
    ours, theirs = agent.ids[begin:], source.ids[begin : part.start]
    if agent.keys[:base] != source.keys[:base] or not np.array_equal(ours, theirs):
        return False
    return all(agent.latents[id_] == source.latents[id_] for id_ in ours[ours < 0].tolist())

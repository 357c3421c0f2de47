"""Which segments the agents of a batch attend to in a step, and where the results of each end up.

Segments that several agents hold (a shared prefix) are attended to once, with stacked queries. A unit is one segment
as one agent sees it. Units are numbered stretch by stretch; what concerns one agent is gathered from its units in order
of position, so that sums are taken as if it were alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from agentmem.kv.span import Piece
from agentmem.types import BLOCK_TOKENS

Held = list[tuple[int, Piece]]
"""Pieces of one layer of one agent, each with the number of its first segment, in order of position."""


class Stretch(NamedTuple):
    """A piece, and the agents that attend to it. home: the agent that it can be had from, and its number there.

    first: the number of its first segment.
    """

    members: list[int]
    home: tuple[int, int]
    first: int
    segments: int


class Plan:
    """Of one kind of layers: it holds for all of them, since their pieces begin and end alike.

    held: of each agent. firsts: the position of each agent's first query. count: queries of each.
    window: positions that a query sees, its own included; None for all.
    """

    def __init__(self, held: Sequence[Held], firsts: Sequence[int], count: int, window: int | None) -> None:
        self.agents = len(held)
        stretches: dict[int, Stretch] = {}
        for agent, (own, query) in enumerate(zip(held, firsts, strict=True)):
            for number, (first, piece) in enumerate(own):
                # What is left out here would count for nothing: its weights would be zeros.
                begin, end = first * BLOCK_TOKENS, (first + piece.segments) * BLOCK_TOKENS
                if begin < query + count and (window is None or end > query - window + 1):
                    stretches.setdefault(id(piece), Stretch([], (agent, number), first, piece.segments))
                    stretches[id(piece)].members.append(agent)
        self.stretches = list(stretches.values())
        self.borders = [0, *accumulate(one.segments * len(one.members) for one in self.stretches)]
        segments = np.concatenate(
            [np.arange(s.first, s.first + s.segments).repeat(len(s.members)) for s in self.stretches]
        )
        owners = np.concatenate([np.tile(s.members, s.segments) for s in self.stretches])
        self.mask = _mask(segments, np.array(firsts)[owners], count, window)
        if self.agents > 1:
            self._index(segments, owners)

    def _index(self, segments: np.ndarray, owners: np.ndarray) -> None:
        """Where each agent's units are, in order of position. segments, owners: of the units."""
        of_each = [np.nonzero(owners == agent)[0] for agent in range(self.agents)]
        ordered = [own[np.argsort(segments[own])] for own in of_each]
        longest, none = max(map(len, ordered)), len(owners)
        table = np.stack([np.pad(own, (0, longest - len(own)), constant_values=none) for own in ordered], axis=1)
        self._owners, self._table = mx.array(owners), mx.array(table)
        self._filled = mx.array(np.where(table == none, table[:1], table))

    def peak(self, values: mx.array) -> mx.array:
        """For each unit the largest of its agent's: [units, ...] -> [units, ...], or [1, ...] for one agent."""
        if self.agents == 1:
            return values.max(axis=0, keepdims=True)
        return mx.take(mx.take(values, self._filled, axis=0).max(axis=0), self._owners, axis=0)

    def total(self, parts: list[mx.array]) -> mx.array:
        """The sum over each agent's units, first to last, wherever pieces begin.

        parts: together [units, ...]. Returns [agents, ...].

        Agents with fewer units than others add zeros at the end, which change no bit.
        """
        if self.agents == 1:
            return joined(parts).sum(axis=0, keepdims=True)
        nothing = mx.zeros((1, *parts[0].shape[1:]), parts[0].dtype)
        return mx.take(joined([*parts, nothing]), self._table, axis=0).sum(axis=0)


def _mask(segments: np.ndarray, queries: np.ndarray, count: int, window: int | None) -> mx.array | None:
    """True where a query sees a key, [units, 1, 1, count, 256]; None if all see all.

    segments: the number of each unit's. queries: the position of the first query of each unit's agent.
    """
    begin, last = segments * BLOCK_TOKENS, queries + count - 1
    if np.all(begin + BLOCK_TOKENS <= queries + 1) and (window is None or np.all(begin > last - window)):
        return None
    keys = (begin[:, None] + np.arange(BLOCK_TOKENS))[:, None]
    asking = (queries[:, None] + np.arange(count))[:, :, None]
    seen = keys <= asking if window is None else (keys <= asking) & (keys > asking - window)
    return mx.array(seen[:, None, None])


def joined(parts: list[mx.array]) -> mx.array:
    """One after the other along the first axis; a copy only where there are several."""
    return parts[0] if len(parts) == 1 else mx.concatenate(parts)

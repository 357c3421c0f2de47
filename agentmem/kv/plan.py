"""Which segments the agents of a batch attend to in a step, and where the results of each end up.

Segments that several agents hold (a shared prefix) are attended to once, with stacked queries. A unit is one segment
as one agent sees it. Units are numbered stretch by stretch; what concerns one agent is gathered from its units in order
of position, so that sums are taken as if it were alone.

An agent with a splice has its segments in the order in which it holds their pieces (`kv.placed`). The stretches of a
piece that several agents have put at different positions are one all the same: queries differ, keys do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from agentmem.kv import alongside
from agentmem.kv.placed import Placed
from agentmem.kv.span import Piece, Quantised
from agentmem.types import BLOCK_TOKENS

Held = list[tuple[int, Piece]]
"""Pieces of one layer of one agent, each with the number of its first segment, in order.

Numbers are counted from position 0, but behind a splice, where `Placed` pieces say what their positions are.
"""


class Stretch(NamedTuple):
    """A piece, or those segments of a placed one that are used, and the agents that attend to it.

    Of each member: its number among the agents (`members`), the number of the piece there (`numbers`), the number of
    the first segment (`firsts`), how far the keys are from where they were (`shifts`), and positions where they are not
    256 times the segment's number (`places`; those of one layer, which are those of all).

    begin: how many of the segments that are used come before these.
    """

    begin: int
    segments: int
    members: list[int]
    numbers: list[int]
    firsts: list[int]
    shifts: list[int]
    places: list[Placed | None]

    @property
    def units(self) -> int:
        return self.segments * len(self.members)

    @property
    def home(self) -> tuple[int, int]:
        """The agent that the piece can be had from, and its number there."""
        return self.members[0], self.numbers[0]

    def join(self, agent: int, number: int, first: int, place: Placed | None) -> None:
        self.members.append(agent)
        self.numbers.append(number)
        self.firsts.append(first)
        self.shifts.append(place.shift if place is not None else 0)
        self.places.append(place)

    def by_shift(self) -> list[tuple[list[int], int]]:
        """Runs of members that have it at the same shift, in their order."""
        runs = groupby(zip(self.members, self.shifts, strict=True), key=lambda member: member[1])
        return [([agent for agent, _ in run], shift) for shift, run in runs]

    def cut(self, segments: int) -> tuple[Stretch, Stretch]:
        """Two in its place, the first of so many segments."""
        rest = self._replace(
            begin=self.begin + segments,
            segments=self.segments - segments,
            firsts=[first + segments for first in self.firsts],
        )
        return self._replace(segments=segments), rest

    def of(self, packed: Quantised) -> Quantised:
        """These of the segments of a piece that are used."""
        if packed[0].shape[0] == self.segments:
            return packed
        weight, scales, biases = (part[self.begin : self.begin + self.segments] for part in packed)
        return weight, scales, biases

    def positions(self) -> np.ndarray:
        """Of each row of each unit, [units, 256]."""
        of_each = [
            np.arange(first * BLOCK_TOKENS, (first + self.segments) * BLOCK_TOKENS).reshape(-1, BLOCK_TOKENS)
            if place is None
            else place.used_rows.reshape(-1, BLOCK_TOKENS)[self.begin : self.begin + self.segments]
            for first, place in zip(self.firsts, self.places, strict=True)
        ]
        return np.stack(of_each, axis=1).reshape(-1, BLOCK_TOKENS)


class Plan:
    """Of one kind of layers: it holds for all of them, since their pieces begin and end alike.

    held: of each agent. asking: the positions of each agent's queries, in ascending order, [agents, count].
    window: positions that a query sees, its own included; None for all.
    """

    def __init__(self, held: Sequence[Held], asking: np.ndarray, window: int | None) -> None:
        self.agents = len(held)
        stretches: dict[tuple[int, ...], Stretch] = {}
        is_plain = True
        for agent, (own, queries) in enumerate(zip(held, asking, strict=True)):
            for number, (first, piece) in enumerate(own):
                # What is left out here would count for nothing: its weights would be zeros.
                if isinstance(piece, Placed):
                    is_plain = False
                    used = piece.used
                    if used.start < used.stop and piece.first <= queries[-1]:
                        _join(stretches, piece.source, used, agent, number, first + used.start, piece)
                    continue
                begin, end = first * BLOCK_TOKENS, (first + piece.segments) * BLOCK_TOKENS
                if begin <= queries[-1] and (window is None or end > queries[0] - window + 1):
                    _join(stretches, piece, slice(0, piece.segments), agent, number, first, None)
        self.stretches, self._alone = list(stretches.values()), len(stretches)
        if alongside.helps(sum(one.units for one in self.stretches)):
            self.stretches, self._alone = _halved(self.stretches)
        self.borders = [0, *accumulate(one.units for one in self.stretches)]
        segments = np.concatenate(
            [(np.arange(s.segments)[:, None] + np.array(s.firsts)).ravel() for s in self.stretches]
        )
        owners = np.concatenate([np.tile(s.members, s.segments) for s in self.stretches])
        if is_plain:
            self.mask = _mask(segments, asking[owners], window)
        else:
            self.mask = _mask_of_rows(np.concatenate([s.positions() for s in self.stretches]), asking[owners])
        if self.agents > 1:
            self._index(segments, owners)

    def work(self) -> Iterator[tuple[Stretch, AbstractContextManager[Any]]]:
        """The stretches, and under what their products are to be built (`kv.alongside`)."""
        for number, stretch in enumerate(self.stretches):
            yield stretch, nullcontext() if number < self._alone else alongside.second()

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


def _halved(stretches: list[Stretch]) -> tuple[list[Stretch], int]:
    """The same units in two runs of about as many, and how many stretches the first has."""
    left = sum(one.units for one in stretches) // 2
    for number, one in enumerate(stretches):
        if one.units >= left:
            segments = round(left / len(one.members))
            if not 0 < segments < one.segments:
                return stretches, number + (segments > 0)
            return [*stretches[:number], *one.cut(segments), *stretches[number + 1 :]], number + 1
        left -= one.units
    return stretches, len(stretches)


def _join(
    stretches: dict[tuple[int, ...], Stretch],
    source: Piece,
    used: slice,
    agent: int,
    number: int,
    first: int,
    place: Placed | None,
) -> None:
    """Notes that an agent attends to segments of a piece."""
    key: tuple[int, ...] = (id(source), used.start, used.stop)
    while key in stretches and agent == stretches[key].members[-1]:  # the same piece put at two places
        key += (0,)
    if key not in stretches:
        stretches[key] = Stretch(0, used.stop - used.start, [], [], [], [], [])
    stretches[key].join(agent, number, first, place)


def _mask(segments: np.ndarray, asking: np.ndarray, window: int | None) -> mx.array | None:
    """True where a query sees a key, [units, 1, 1, count, 256]; None if all see all.

    segments: the number of each unit's. asking: the positions of the queries of each unit's agent, [units, count].
    """
    begin, first, last = segments * BLOCK_TOKENS, asking[:, 0], asking[:, -1]
    if np.all(begin + BLOCK_TOKENS <= first + 1) and (window is None or np.all(begin > last - window)):
        return None
    keys, queries = (begin[:, None] + np.arange(BLOCK_TOKENS))[:, None], asking[:, :, None]
    seen = keys <= queries if window is None else (keys <= queries) & (keys > queries - window)
    return mx.array(seen[:, None, None])


def _mask_of_rows(rows: np.ndarray, asking: np.ndarray) -> mx.array | None:
    """The same, where units do not follow from their numbers. rows: positions, or UNUSED, [units, 256]."""
    if np.all(rows.max(axis=1) <= asking[:, 0]):
        return None
    return mx.array((rows[:, None] <= asking[:, :, None])[:, None, None])


def joined(parts: list[mx.array]) -> mx.array:
    """One after the other along the first axis; a copy only where there are several."""
    return parts[0] if len(parts) == 1 else mx.concatenate(parts)

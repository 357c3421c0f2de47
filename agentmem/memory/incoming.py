"""A run of blocks that is not in RAM, on its way there."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np

from agentmem.kv import splicing
from agentmem.kv.layers import Tensors
from agentmem.kv.openspan import OpenSpan
from agentmem.kv.placed import UNUSED
from agentmem.kv.rotation import Frequencies
from agentmem.kv.splicing import Taken
from agentmem.kv.state import AgentState
from agentmem.memory import blocks as block_cutter
from agentmem.memory.agent import Agent
from agentmem.memory.needs import Wait
from agentmem.memory.reader import ReaderThreads
from agentmem.model.loader import LoadedModel
from agentmem.store.grid import is_spliced
from agentmem.store.records import BlockUse
from agentmem.store.rows import BlockRow
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS


@dataclass(frozen=True, eq=False)
class Wanted:
    """A block of a timeline, or its first positions: their ids, int32.

    timeline: None but for a block of a splice, which says itself where its positions are: the ids of the timeline.
    """

    key: bytes
    parent: bytes
    start: int
    ids: np.ndarray
    timeline: np.ndarray | None = None


def wanted_of(agent: Agent, uses: Sequence[BlockUse], first: int) -> Iterator[Wanted]:
    """Blocks of an agent's timeline, from the one at place `first` on, or the first positions of longer ones."""
    begins = agent.starts
    for place, use in enumerate(uses, first):
        start, parent = begins[place], agent.parent_of(place)
        spliced = is_spliced(place, agent.splices)
        yield Wanted(use.key, parent, start, agent.ids[start : start + use.used], agent.ids if spliced else None)


@dataclass(frozen=True, eq=False)
class _Laid:
    """Where the rows of segments stand: int64 [segments * 256], or UNUSED. shift: as `Taken`'s."""

    rows: np.ndarray
    shift: int


class IncomingBlocks:
    """Read and verified by the reader threads, in the order in which they are wanted.

    All are full but the last, or those that are placed.

    arrived: how many of them are there. To be used in a `with`, once `allocate` was gone through.
    """

    def __init__(
        self,
        store: Store,
        model: LoadedModel,
        readers: ReaderThreads,
        namespace: str,
        wanted: Sequence[Wanted],
        known: Mapping[bytes, BlockRow] | None = None,
        placed_from: int | None = None,
        to_grow: bool = True,
    ) -> None:
        """known: of the blocks, if the catalog is not who knows them. placed_from: how many go where a state ends;
        those behind them have positions of their own. to_grow: whether the last, if it is not full, is to be grown.
        """
        self._store, self._model, self._namespace = store, model, namespace
        grows = to_grow and bool(wanted) and wanted[-1].timeline is None and len(wanted[-1].ids) < BLOCK_TOKENS
        whole = len(wanted) - grows
        lying = whole if placed_from is None else min(placed_from, whole)
        self._span = OpenSpan(model.layout.full, lying)
        self._placed = OpenSpan(model.layout.full, whole - lying)
        self._laid: dict[int, _Laid] = {}
        self._known = store.blocks.known([one.key for one in wanted]) if known is None else known
        works = (partial(self._read, *one) for one in enumerate(wanted))
        self._wanted = wanted
        self._reading = readers.reading(works, (self._span, self._placed))
        self._last: Tensors | None = None
        self.arrived = 0

    def allocate(self) -> Iterator[None]:
        yield from self._span.allocate()
        yield from self._placed.allocate()

    def __enter__(self) -> IncomingBlocks:
        self._reading.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.__exit__()

    def _read(self, number: int, one: Wanted) -> tuple[int, Tensors | None]:
        """On a reader thread. The bytes read, and the rows if the block is to be grown."""
        if one.timeline is not None:
            tensors, placement, size = block_cutter.read_placed(
                self._store, self._namespace, one.key, self._known, one.parent, one.start, one.timeline, self._model
            )
            rows = np.where(placement.rows < 0, UNUSED, placement.rows.astype(np.int64))
            self._lay(number, tensors, _Laid(rows, placement.shift))
            return size, None
        tensors, size = block_cutter.read(
            self._store, self._namespace, one.key, self._known, one.parent, one.start, one.ids, self._model
        )
        return size, self._take(number, tensors)

    def _take(self, number: int, tensors: Tensors) -> Tensors | None:
        """Puts rows of a block to their place; returns them if they are to be grown."""
        if number < self._span.segments:
            self._span.put(number, tensors)
        elif number < self._span.segments + self._placed.segments:
            one = self._wanted[number]
            rows = np.full(BLOCK_TOKENS, UNUSED)
            rows[: len(one.ids)] = np.arange(one.start, one.start + len(one.ids))
            self._lay(number, tensors, _Laid(rows, 0))
        else:
            return tensors
        return None

    def _lay(self, number: int, tensors: Tensors, laid: _Laid) -> None:
        self._placed.put(number - self._span.segments, tensors, np.nonzero(laid.rows != UNUSED)[0])
        self._laid[number] = laid

    def next(self) -> Generator[Wait, None, int]:
        """Waits for the next block; the bytes read. Raises BlockUnreadable: then it may be `put`."""
        size, self._last = yield from self._reading.next()
        self.arrived += 1
        return size

    def put(self, tensors: Tensors) -> None:
        """Takes these rows in place of the block that could not be read. It must not be one of a splice."""
        self._last = self._take(self.arrived, tensors)
        self.arrived += 1

    def lend(self, state: AgentState, frequencies: Sequence[Frequencies] | None = None) -> None:
        """Has a state go on with what has arrived, all full blocks, while the others come in."""
        lying = min(self.arrived, self._span.segments)
        if lying:
            state.hold(self._span.head(lying))
        if placed := self._arrived_placed:
            head, runs = self._placed.head(placed), self._runs(placed)
            begins = (0, *(end for end, _ in runs))
            spans = (head.part(begin, end) for begin, (end, _) in zip(begins, runs, strict=False))
            taken = [Taken(span, one.rows, one.shift) for span, (_, one) in zip(spans, runs, strict=True)]
            splicing.place(state.full, taken, frequencies)

    def give(self, state: AgentState, frequencies: Sequence[Frequencies] | None = None) -> None:
        """Has a state go on with what has arrived, once and for all. frequencies: needed behind a splice."""
        if lying := min(self.arrived, self._span.segments):
            state.hold(self._span.close(lying))
        if self._arrived_placed:
            splicing.place(state.full, self.taken(), frequencies)
        if self._last is not None:
            state.extend([self._last])

    def taken(self) -> list[Taken]:
        """What has arrived of those that are placed, once and for all, where they stand in their timeline."""
        runs = self._runs(self._arrived_placed)
        spans = self._placed.close_apart([end for end, _ in runs])
        return [Taken(span, one.rows, one.shift) for span, (_, one) in zip(spans, runs, strict=True)]

    @property
    def _arrived_placed(self) -> int:
        return max(0, min(self.arrived - self._span.segments, self._placed.segments))

    def _runs(self, segments: int) -> list[tuple[int, _Laid]]:
        """The first segments of the placed ones, in order: a run of them for each shift, with its end."""
        first = self._span.segments
        laid = [self._laid[number] for number in range(first, first + segments)]
        runs, end = [], 0
        for shift, run in groupby(laid, key=lambda one: one.shift):
            rows = np.concatenate([one.rows for one in run])
            end += len(rows) // BLOCK_TOKENS
            runs.append((end, _Laid(rows, shift)))
        return runs

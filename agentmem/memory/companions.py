"""What going on from a position needs beside the blocks before it: window parts, and a snapshot of recurrent layers."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from agentmem.kv.layers import Tensors
from agentmem.kv.layout import StateLayout
from agentmem.kv.pool import BlockPool
from agentmem.kv.state import AgentState
from agentmem.kv.window import WindowPart
from agentmem.memory import blocks as block_cutter
from agentmem.memory.reader import ReaderThreads
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import Block, BlockUnreadable, Unreadable
from agentmem.store.latents import Latents
from agentmem.store.records import CompanionUse
from agentmem.store.store import Store
from agentmem.store.timelinekeys import TimelineKeys
from agentmem.types import BLOCK_TOKENS, BlockKind


@dataclass
class Restorable:
    """The companions of a position, read and verified. last: rows of the window part that is not full."""

    parts: dict[int, WindowPart] = field(default_factory=dict)
    last: Tensors | None = None
    snapshot: Tensors | None = None
    bytes_read: int = 0

    def add(self, tensors: Tensors, use: CompanionUse, layout: StateLayout) -> None:
        if use.kind is BlockKind.SNAPSHOT:
            self.snapshot = tensors
        elif use.used < BLOCK_TOKENS:
            self.last = tensors
        elif layout.window is not None:
            self.parts[use.place] = WindowPart.of(layout.window, tensors)

    def give(self, state: AgentState, length: int) -> None:
        """Sets the layers that have companions to so many positions."""
        if state.window is not None:
            state.window.restore(self.parts, self.last, length)
        if state.recurrent is not None and self.snapshot is not None:
            state.recurrent.restore(self.snapshot, length)


class Companions:
    """Of one model."""

    def __init__(self, store: Store, pool: BlockPool, model: LoadedModel, readers: ReaderThreads) -> None:
        self._store, self._pool, self._model, self._readers = store, pool, model, readers

    def timeline(self, namespace: str, ids: np.ndarray, latents: Latents, keys: Sequence[bytes]) -> TimelineKeys:
        """Of this model, in a namespace."""
        secret, starts = self._store.namespace(namespace).secret, range(0, len(ids), BLOCK_TOKENS)
        return TimelineKeys(secret, self._model.state_id, ids, keys, starts, latents)

    def needed(self, timeline: TimelineKeys) -> tuple[CompanionUse, ...]:
        """Those that the end of a timeline needs."""
        layout, tokens = self._model.layout, len(timeline.ids)
        blocks = -(-tokens // BLOCK_TOKENS)
        found: list[CompanionUse] = []
        if layout.recurrent is not None and tokens:
            found.append(self.use(BlockKind.SNAPSHOT, blocks - 1, timeline))
        if layout.window is not None:
            first = layout.window.reach(tokens) // BLOCK_TOKENS
            found += [self.use(BlockKind.WINDOW, place, timeline) for place in range(first, blocks)]
        return tuple(found)

    def use(self, kind: BlockKind, place: int, timeline: TimelineKeys) -> CompanionUse:
        """The companion of the block that a timeline has at a place."""
        return CompanionUse(timeline.key(kind, place), len(timeline.ids_at(place)), kind, place)

    def cut(self, state: AgentState, timeline: TimelineKeys, uses: Sequence[CompanionUse]) -> Iterator[Block]:
        """Those companions, as the state holds them. It must end, or be marked, where they do."""
        for one in uses:
            start = one.place * BLOCK_TOKENS
            ids, parent = timeline.ids[: start + one.used], timeline.parent(one.place)
            yield block_cutter.cut(state, ids, timeline.latents, start, one.key, parent, self._model, one.kind)

    def read(
        self, namespace: str, ids: np.ndarray, latents: Latents, keys: Sequence[bytes], uses: Sequence[CompanionUse]
    ) -> Generator[object, None, Restorable]:
        """Reads and verifies the companions of a timeline's end, or finds them in RAM. Yields while it waits.

        Raises BlockUnreadable if one cannot be read, or one that the model needs is not among them.
        """
        read, timeline = Restorable(), self.timeline(namespace, ids, latents, keys)
        known = self._store.blocks.known([one.key for one in uses])
        given = {(one.kind, one.place): one for one in uses}
        lacking, works = [], []
        for needed in self.needed(timeline):
            one = given.get((needed.kind, needed.place))
            if one is None:  # of an import of the text alone there are none yet
                raise BlockUnreadable(Unreadable.MISSING if uses else Unreadable.EVICTED, "its turn has none")
            full = {one.place: keys[one.place]} if needed.used == BLOCK_TOKENS else {}
            if one.kind is BlockKind.WINDOW and (there := self._pool.find_parts(full)):
                read.parts |= there
                continue
            ids, parent = timeline.ids_at(one.place, needed.used), timeline.parent(one.place)
            expected = one.key, known, parent, one.place * BLOCK_TOKENS, ids, self._model, one.kind
            lacking.append(needed)
            works.append(partial(block_cutter.read, self._store, namespace, *expected))
        with self._readers.reading(works) as reading:
            for needed in lacking:
                tensors, size = yield from reading.next()
                read.add(tensors, needed, self._model.layout)
                read.bytes_read += size
        return read

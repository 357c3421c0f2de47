"""What going on from a position needs beside the blocks before it: window parts, and a snapshot of recurrent layers."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from agentmem.kv.layers import Tensors
from agentmem.kv.layout import StateLayout
from agentmem.kv.pool import BlockPool
from agentmem.kv.state import AgentState
from agentmem.kv.window import WindowPart
from agentmem.memory import blocks as block_cutter
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import Block, BlockUnreadable, Unreadable, id_bytes
from agentmem.store.keys import block_key
from agentmem.store.records import CompanionUse
from agentmem.store.store import Store
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
    """Of one model. Timelines are given by their ids, int32, and the keys of their blocks."""

    def __init__(self, store: Store, pool: BlockPool, model: LoadedModel) -> None:
        self._store, self._pool, self._model = store, pool, model

    def needed(self, ids: np.ndarray, keys: Sequence[bytes], secret: bytes) -> tuple[CompanionUse, ...]:
        """Those that the end of a timeline needs."""
        layout = self._model.layout
        found: list[CompanionUse] = []
        if layout.recurrent is not None and len(ids):
            found.append(self.use(BlockKind.SNAPSHOT, len(keys) - 1, ids, keys, secret))
        if layout.window is not None:
            first = layout.window.reach(len(ids)) // BLOCK_TOKENS
            found += [self.use(BlockKind.WINDOW, place, ids, keys, secret) for place in range(first, len(keys))]
        return tuple(found)

    def use(self, kind: BlockKind, place: int, ids: np.ndarray, keys: Sequence[bytes], secret: bytes) -> CompanionUse:
        """The companion of the block that a timeline has at `place`, which may be one of the keys or the next."""
        payload = ids[place * BLOCK_TOKENS :][:BLOCK_TOKENS]
        key = block_key(secret, _parent(keys, place), self._model.state_id, kind, id_bytes(payload))
        return CompanionUse(key, len(payload), kind, place)

    def cut(
        self, state: AgentState, ids: np.ndarray, keys: Sequence[bytes], uses: Sequence[CompanionUse]
    ) -> Iterator[Block]:
        """Those companions, as the state holds them. It must end, or be marked, where they do."""
        for one in uses:
            start = one.place * BLOCK_TOKENS
            until = ids[: start + one.used]
            yield block_cutter.cut(state, until, start, one.key, _parent(keys, one.place), self._model, one.kind)

    def read(
        self, namespace: str, ids: np.ndarray, keys: Sequence[bytes], uses: Sequence[CompanionUse]
    ) -> Generator[None, None, Restorable]:
        """Reads and verifies the companions of a timeline's end, or finds them in RAM. Yields between reads.

        Raises BlockUnreadable if one cannot be read, or one that the model needs is not among them.
        """
        secret, read = self._store.namespace(namespace).secret, Restorable()
        known = self._store.blocks.known([one.key for one in uses])
        given = {(one.kind, one.place): one for one in uses}
        for needed in self.needed(ids, keys, secret):
            one, parent = given.get((needed.kind, needed.place)), _parent(keys, needed.place)
            if one is None:  # of an import of the text alone there are none yet
                raise BlockUnreadable(Unreadable.MISSING if uses else Unreadable.EVICTED, "its turn has none")
            full = {one.place: keys[one.place]} if needed.used == BLOCK_TOKENS else {}
            if one.kind is BlockKind.WINDOW and (there := self._pool.find_parts(full)):
                read.parts |= there
                continue
            block, size = self._store.blocks.read(namespace, one.key, known)
            start = one.place * BLOCK_TOKENS
            rows = ids[start : start + needed.used]
            tensors = block_cutter.checked(block, parent, start, rows, self._model, one.kind)
            read.add(tensors, needed, self._model.layout)
            read.bytes_read += size
            yield
        return read


def _parent(keys: Sequence[bytes], place: int) -> bytes:
    return keys[place - 1] if place else b""

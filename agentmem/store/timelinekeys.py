"""Keys along a timeline: each follows from the ids at its place and the key of the block before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from agentmem.store.blockfile import id_bytes
from agentmem.store.keys import beginning, block_key
from agentmem.store.rows import BlockRow
from agentmem.types import BLOCK_TOKENS, COMPANIONS, BlockKind


def text_keys(ids: np.ndarray, first: int, parent: bytes, secret: bytes, state_id: str) -> Iterator[bytes]:
    """The keys of the blocks of positions [first, len(ids)), `first` on a block border. ids: int32."""
    for start in range(first, len(ids), BLOCK_TOKENS):
        payload = id_bytes(ids[start : start + BLOCK_TOKENS])
        parent = block_key(secret, parent, state_id, BlockKind.TEXT, payload)
        yield parent


@dataclass(frozen=True, eq=False)
class TimelineKeys:
    """ids: int32, from position 0 on. keys: of the timeline's blocks, as far as they are needed as parents."""

    secret: bytes
    state_id: str
    ids: np.ndarray
    keys: Sequence[bytes]

    def parent(self, place: int) -> bytes:
        """The key of the block before; b"" of none."""
        return self.keys[place - 1] if place else b""

    def ids_at(self, place: int, used: int = BLOCK_TOKENS) -> np.ndarray:
        """The first ids of the block at a place."""
        return self.ids[place * BLOCK_TOKENS :][:used]

    def key(self, kind: BlockKind, place: int, used: int = BLOCK_TOKENS) -> bytes:
        """Of the block, or companion, of the first positions at a place."""
        return block_key(self.secret, self.parent(place), self.state_id, kind, id_bytes(self.ids_at(place, used)))

    def begins(self, kind: BlockKind, place: int, used: int = BLOCK_TOKENS) -> bytes:
        """How it begins. Companions are found by the blocks that they belong to."""
        if kind in COMPANIONS:
            return b""
        return beginning(self.secret, self.parent(place), self.state_id, self.ids_at(place, used))

    def given_up(self, kind: BlockKind, place: int, used: int) -> BlockRow:
        """The row of a block of which there is no file: it can be computed again."""
        return BlockRow(0, used, self.begins(kind, place, used), b"")

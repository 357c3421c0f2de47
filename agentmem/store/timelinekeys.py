"""Keys along a timeline: each follows from the ids at its place and the key of the block before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from agentmem.store.keys import beginning
from agentmem.store.latents import Latents, embeddings_of, key_of, kind_of
from agentmem.store.rows import BlockRow
from agentmem.types import BLOCK_TOKENS, BlockKind


def block_keys(
    ids: np.ndarray, first: int, parent: bytes, secret: bytes, state_id: str, latents: Latents
) -> Iterator[bytes]:
    """The keys of the blocks of positions [first, len(ids)), no splice's, `first` on a block border. ids: int32."""
    for start in range(first, len(ids), BLOCK_TOKENS):
        own = ids[start : start + BLOCK_TOKENS]
        parent = key_of(secret, parent, state_id, kind_of(own), own, embeddings_of(own, latents))
        yield parent


@dataclass(frozen=True, eq=False)
class TimelineKeys:
    """ids: int32, from position 0 on. keys: of the timeline's blocks, as far as they are needed as parents.
    starts: where its blocks begin.

    Where methods take a kind, it is a companion's, or None for the block itself.
    """

    secret: bytes
    state_id: str
    ids: np.ndarray
    keys: Sequence[bytes]
    starts: Sequence[int]
    latents: Latents = field(default_factory=dict)

    def parent(self, place: int) -> bytes:
        """The key of the block before; b"" of none."""
        return self.keys[place - 1] if place else b""

    def ids_at(self, place: int, used: int = BLOCK_TOKENS) -> np.ndarray:
        """The first ids of the block at a place."""
        return self.ids[self.starts[place] :][:used]

    def key(self, kind: BlockKind | None, place: int, used: int = BLOCK_TOKENS) -> bytes:
        """Of the block, or companion, of the first positions at a place."""
        ids = self.ids_at(place, used)
        embeddings = embeddings_of(ids, self.latents)
        return key_of(self.secret, self.parent(place), self.state_id, kind or kind_of(ids), ids, embeddings)

    def begins(self, kind: BlockKind | None, place: int, used: int = BLOCK_TOKENS) -> bytes:
        """How it begins. Companions are found by the blocks that they belong to."""
        if kind is not None:
            return b""
        return beginning(self.secret, self.parent(place), self.state_id, self.ids_at(place, used))

    def given_up(self, kind: BlockKind | None, place: int, used: int) -> BlockRow:
        """The row of a block of which there is no file: it can be computed again."""
        return BlockRow(0, used, self.begins(kind, place, used), b"")

"""Blocks whose files are there before the turn that uses them is committed: the catalog does not know them yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from agentmem.store.blockfile import Block
from agentmem.store.rows import BlockRow


@dataclass
class _Held:
    """block: without its tensors. claims: turns that are going to use it."""

    block: Block
    row: BlockRow
    claims: int = 1


class Ahead:
    """Guarded by the right to change the store, but for `sizes`. A crash forgets it: the sweep removes the files."""

    def __init__(self) -> None:
        self._held: dict[bytes, _Held] = {}

    @property
    def sizes(self) -> dict[bytes, int]:
        """Bytes of the files, by key."""
        return {key: held.row.size for key, held in list(self._held.items())}

    def __contains__(self, key: bytes) -> bool:
        return key in self._held

    def row(self, key: bytes) -> BlockRow | None:
        """Of the block's file; None if it was not written ahead."""
        held = self._held.get(key)
        return held.row if held else None

    def among(self, keys: Iterable[bytes]) -> Iterator[Block]:
        """Those of the blocks that were written ahead, without their tensors."""
        return (self._held[key].block for key in keys if key in self._held)

    def claim(self, block: Block, row: BlockRow) -> None:
        """Notes that one more turn is going to use a block whose file is durable."""
        if held := self._held.get(block.key):
            held.claims += 1
        else:
            self._held[block.key] = _Held(replace(block, tensors={}), row)

    def renew(self, key: bytes, row: BlockRow) -> None:
        """The block's file, if it was written ahead, has been written again."""
        if held := self._held.get(key):
            held.row = row

    def release(self, keys: Iterable[bytes]) -> list[bytes]:
        """Takes back one claim on each; those of the keys that nobody claims any more."""
        free = []
        for key in keys:
            held = self._held[key]
            held.claims -= 1
            if not held.claims:
                del self._held[key]
                free.append(key)
        return free

"""Blocks whose files are there before the turn that uses them is committed: the catalog does not know them yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from agentmem.store.blockfile import Block


@dataclass
class _Held:
    """block: without its tensors. claims: turns that are going to use it."""

    block: Block
    size: int
    claims: int = 1


class Ahead:
    """Guarded by the right to change the store, but for `keys`. A crash forgets it: the sweep removes the files."""

    def __init__(self) -> None:
        self._held: dict[bytes, _Held] = {}

    @property
    def keys(self) -> set[bytes]:
        return set(self._held)

    def __contains__(self, key: bytes) -> bool:
        return key in self._held

    def size(self, key: bytes) -> int | None:
        """Bytes of the block's file; None if it was not written ahead."""
        held = self._held.get(key)
        return held.size if held else None

    def among(self, keys: Iterable[bytes]) -> Iterator[Block]:
        """Those of the blocks that were written ahead, without their tensors."""
        return (self._held[key].block for key in keys if key in self._held)

    def claim(self, block: Block, size: int) -> None:
        """Notes that one more turn is going to use a block whose file is durable and has `size` bytes."""
        if held := self._held.get(block.key):
            held.claims += 1
        else:
            self._held[block.key] = _Held(replace(block, tensors={}), size)

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

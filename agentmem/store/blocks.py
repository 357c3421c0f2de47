"""The blocks of all timelines: which there are, what is in them, and what becomes of one that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agentmem.store.blockfile import Block, BlockUnreadable, Unreadable
from agentmem.store.catalog import blocks as rows
from agentmem.store.core import Core
from agentmem.store.rows import BlockRow


class Blocks:
    """A part of `Store`; raises as it does."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def shared(self, key: bytes) -> bool:
        """Whether there is such a block that an agent shares with its namespace."""
        return self._core.catalog.read(rows.shared, key)

    def count_shared(self, keys: Sequence[bytes]) -> int:
        """How many of the leading keys are those of such blocks."""
        return self._core.catalog.read(rows.count_shared, keys)

    def beginning(self, beginning: bytes, limit: int) -> list[bytes]:
        """Keys of shared blocks that begin so (`keys.beginning`), the newest first; none for b""."""
        return self._core.catalog.read(rows.beginning, beginning, limit) if beginning else []

    def known(self, keys: Iterable[bytes]) -> dict[bytes, BlockRow]:
        """What `read` needs to know of blocks: who reads many asks once."""
        return self._core.catalog.read(rows.known, keys)

    def known_ahead(self, keys: Sequence[bytes]) -> dict[bytes, BlockRow]:
        """As `known`, with those that were written ahead of their turn."""
        ahead = ((key, self._core.ahead.row(key)) for key in keys)
        return self.known(keys) | {key: row for key, row in ahead if row is not None}

    def read(self, namespace: str, key: bytes, known: Mapping[bytes, BlockRow] | None = None) -> tuple[Block, int]:
        """A verified block, and the bytes read. known: it and others, as `known` gave it. Raises BlockUnreadable.

        MISSING may also mean that the agent's own next commit superseded it since its timeline was asked for.
        """
        row = (self.known([key]) if known is None else known).get(key)
        if row is None:
            raise BlockUnreadable(Unreadable.MISSING, "the catalog has no such block")
        if row.size == 0:
            raise BlockUnreadable(Unreadable.EVICTED, "its file was given up")
        return self._core.blocks.read(key, row, self._core.secret(namespace)), row.size

    def sizes(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        """File sizes of those of the blocks that are known; 0 for one that was given up."""
        return {key: row.size for key, row in self.known(keys).items()}

    def quarantine(self, key: bytes, reason: str) -> None:
        """Sets an unsound block's file aside, with a note of why; its users keep referring to it."""
        with self._core.change():
            self._core.blocks.quarantine(key, reason)

    def give_up(self, namespace: str, key: bytes) -> None:
        """Sets a block's file aside if it is unsound, and notes that it is to be computed again."""
        with self._core.change():
            try:
                self.read(namespace, key)
            except BlockUnreadable as error:
                self._core.blocks.quarantine(key, error.reason)
                self._core.catalog.write(rows.empty, [key])

    def write_ahead(self, namespace: str, block: Block) -> int:
        """Writes a block, durably, that a turn is going to use; bytes written, 0 if a sound file is there.

        The turn's commit need not be given it. Whether or not that comes, `release` must be called afterwards.
        """
        core = self._core
        with core.change():
            secret = core.secret(namespace)
            if block.key_of_prefix(secret, block.tokens) != block.key:
                raise ValueError("a block with a wrong key")
            row, written = core.ahead.row(block.key), 0
            if row is None:
                row, written = core.blocks.keep_or_write(block, self.known([block.key]).get(block.key), secret)
            core.ahead.claim(block, row)
            return written

    def release(self, keys: Iterable[bytes]) -> None:
        """Takes back one `write_ahead` of each block. Files that no turn uses, or is going to, are removed."""
        core = self._core
        with core.change():
            free = core.ahead.release(keys)
            known = core.catalog.read(rows.known, free)
            for key in free:
                if key not in known or not known[key].size:
                    core.blocks.remove_quietly(key)

    def replace(self, namespace: str, block: Block) -> int:
        """Writes a recomputed block in place of one that was lost; bytes written, 0 if nobody uses it any more."""
        with self._core.change():
            secret = self._core.secret(namespace)
            if block.key_of_prefix(secret, block.tokens) != block.key:
                raise ValueError("a block with a wrong key")
            if not self.known([block.key]) and block.key not in self._core.ahead:
                return 0
            row = self._core.blocks.write(block, secret)
            self._core.ahead.renew(block.key, row)
            self._core.catalog.write(rows.replace, block.key, row)
            return row.size

"""Block files in the state folder: written once, verified whenever read, set aside when unsound."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

from agentmem.errors import AgentmemError, Reason
from agentmem.store.blockfile import Block, BlockUnreadable, Unreadable, decode, encode
from agentmem.store.files import (
    Files,
    is_damage,
    is_missing,
    move_durably,
    read_end,
    remove_quietly,
    write_durably,
)
from agentmem.store.folder import StateFolder
from agentmem.store.keys import beginning
from agentmem.store.placement import KEPT
from agentmem.store.rows import BlockRow
from agentmem.store.sealing import Sealer
from agentmem.types import COMPANIONS


class BlockFiles:
    """Knows files, not who uses them: the caller sees to it that no two threads change the same block."""

    def __init__(self, files: Files, folder: StateFolder, sealer: Sealer) -> None:
        self._files = files
        self._folder = folder
        self._sealer = sealer

    def read(self, key: bytes, row: BlockRow, secret: bytes) -> Block:
        """The block that `row` describes. Raises BlockUnreadable; STORE_UNREADABLE if the file is not at fault."""
        try:
            file = self._files.read(self._folder.block(key), row.size)
            if self._seal(file) != row.seal:
                raise ValueError("another file of the block than the one that was written last")
            data = self._sealer.open_block(key, file)
        except ValueError as error:
            raise BlockUnreadable(Unreadable.CORRUPT, str(error)) from None
        except OSError as error:
            detail = error.strerror or type(error).__name__
            if is_missing(error):
                raise BlockUnreadable(Unreadable.MISSING, "there is no file") from None
            if is_damage(error):
                raise BlockUnreadable(Unreadable.CORRUPT, detail) from None
            raise AgentmemError(Reason.STORE_UNREADABLE, f"A block file cannot be opened: {detail}.") from error
        return decode(data, key=key, secret=secret)

    def write(self, block: Block, secret: bytes) -> BlockRow:
        """Writes or replaces a block's file. Raises OSError."""
        file = self._sealer.block(block.key, encode(block))
        size = write_durably(self._files, self._folder.block(block.key), file)
        # Companions are found by the blocks that they belong to, and splices never by their ids.
        found = block.kind not in COMPANIONS
        begins = beginning(secret, block.parent, block.state_id, block.ids) if found else b""
        if block.placement is not None:
            begins = KEPT
        return BlockRow(size, block.tokens, begins, self._seal(file))

    def keep_or_write(self, block: Block, known: BlockRow | None, secret: bytes) -> tuple[BlockRow, int]:
        """Sees to it that a sound file is there: the one that is, if it verifies. Its row, and the bytes written.

        known: the file that should be there; None if none should. One that is there all the same, left by a commit
        that failed, may not have reached the drive. Raises OSError.
        """
        if known is not None:
            with suppress(BlockUnreadable):
                self.read(block.key, known, secret)
                return known, 0
        row = self.write(block, secret)
        return row, row.size

    def stored(self, key: bytes) -> tuple[int, bytes]:
        """The size and the seal of a block's file, unverified; of one that isn't there 0, as if it was given up."""
        try:
            return read_end(self._folder.block(key), self._sealer.seal_bytes)
        except OSError:
            return 0, b""

    def _seal(self, file: bytes) -> bytes:
        return file[len(file) - self._sealer.seal_bytes :]

    def quarantine(self, key: bytes, reason: str) -> None:
        """Moves an unsound file out of the way, with a note of why. Raises OSError."""
        source = self._folder.block(key)
        target, note = self._folder.quarantined(key)
        if not os.path.lexists(source):
            return
        text = json.dumps({"key": key.hex(), "reason": reason, "time": time.time()})
        write_durably(self._files, note, text.encode())
        move_durably(self._files, source, target)

    def remove(self, key: bytes) -> None:
        """Removes a block that nobody uses, and what of it is in quarantine. Raises OSError."""
        for path in (self._folder.block(key), *self._folder.quarantined(key)):
            self._files.unlink(path)

    def remove_quietly(self, key: bytes) -> None:
        for path in (self._folder.block(key), *self._folder.quarantined(key)):
            remove_quietly(self._files, path)

"""Block files in the state folder: written once, verified whenever read, set aside when unsound."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

from agentmem.errors import AgentmemError, Reason
from agentmem.store.blockfile import Block, BlockUnreadable, Unreadable, decode, encode
from agentmem.store.files import Files, is_damage, is_missing, move_durably, read_file, remove_quietly, write_durably
from agentmem.store.folder import StateFolder


class BlockFiles:
    """Knows files, not who uses them: the caller sees to it that no two threads change the same block."""

    def __init__(self, files: Files, folder: StateFolder) -> None:
        self._files = files
        self._folder = folder

    def read(self, key: bytes, size: int, secret: bytes) -> Block:
        """A block whose file has `size` bytes. Raises BlockUnreadable; STORE_UNREADABLE if the file is not at fault."""
        try:
            data = read_file(self._folder.block(key), size)
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

    def write(self, block: Block) -> int:
        """Writes or replaces a block's file; its size. Raises OSError."""
        return write_durably(self._files, self._folder.block(block.key), encode(block))

    def keep_or_write(self, block: Block, size: int | None, secret: bytes) -> tuple[int, int]:
        """Sees to it that a sound file is there: the one that is, if it verifies. Its size, and the bytes written.

        size: of the file that should be there; None if none should. One that is there all the same, left by a commit
        that failed, may not have reached the drive. Raises OSError.
        """
        if size is not None:
            with suppress(BlockUnreadable):
                self.read(block.key, size, secret)
                return size, 0
        written = self.write(block)
        return written, written

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

"""A temporary file that only this process can read: what passes through an encrypted store on its way in."""

from __future__ import annotations

import errno
import secrets
import tempfile
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PIECE_BYTES = 1 << 20
_TAG_BYTES = 16


class SealedSpool:
    """A `sealing.Spool` in pieces of 1 MiB, each sealed under a key that dies with it, and numbered by its nonce."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by `__exit__`
        self._cipher = AESGCM(secrets.token_bytes(32))
        self._buffer = bytearray()
        self._piece = 0
        """The number of the next one."""

    def __enter__(self) -> SealedSpool:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= PIECE_BYTES:
            self._write_piece()

    def seek(self, place: int) -> None:
        """To the beginning, to read; no more is written then."""
        if place:
            raise ValueError("a spool is read from its beginning")
        if self._buffer:
            self._write_piece()
        self._file.seek(0)
        self._piece = 0

    def read(self, size: int) -> bytes:
        """Raises OSError if the file was changed."""
        if not self._buffer and (sealed := self._file.read(PIECE_BYTES + _TAG_BYTES)):
            try:
                self._buffer += self._cipher.decrypt(self._nonce(), sealed, None)
            except InvalidTag:
                raise OSError(errno.EIO, "a temporary file is not what was written") from None
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _write_piece(self) -> None:
        piece = bytes(self._buffer[:PIECE_BYTES])
        del self._buffer[:PIECE_BYTES]
        self._file.write(self._cipher.encrypt(self._nonce(), piece, None))

    def _nonce(self) -> bytes:
        """The next piece's. It is used once: writing is over when reading begins."""
        self._piece += 1
        return self._piece.to_bytes(12, "little")

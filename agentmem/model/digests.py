"""SHA-256 of weight files, remembered by file identity: a start need not read gigabytes again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from agentmem.model import keptfile


class FileDigests:
    """cache: a file for what is remembered, private to the user; None remembers nothing.

    A file is the same if device, inode, size, and times of change of content and inode are: whoever replaces or edits
    weights changes one of them. What is wrong with the cache costs time, and nothing else.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._known = self._read()

    def __call__(self, file: Path) -> bytes:
        """32 bytes. Raises OSError."""
        with file.open("rb") as stream:
            identity = _identity(os.fstat(stream.fileno()))
            known = self._known.get(identity)
            if known is not None:
                return bytes.fromhex(known)
            digest = hashlib.file_digest(stream, "sha256").digest()
            if _identity(os.fstat(stream.fileno())) == identity:  # or else it was written to meanwhile
                self._known[identity] = digest.hex()
                keptfile.write(self._cache, self._known)
        return digest

    def _read(self) -> dict[str, str]:
        known = keptfile.read(self._cache)
        try:
            if all(len(bytes.fromhex(digest)) == hashlib.sha256().digest_size for digest in known.values()):
                return known
        except (ValueError, TypeError):
            pass
        return {}


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}.{status.st_ino}.{status.st_size}.{status.st_mtime_ns}.{status.st_ctime_ns}"

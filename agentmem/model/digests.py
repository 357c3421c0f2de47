"""SHA-256 of weight files, remembered by file identity: a start need not read gigabytes again."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path


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
                self._write()
        return digest

    def _read(self) -> dict[str, str]:
        try:
            known = json.loads(self._cache.read_bytes()) if self._cache else {}
            if all(len(bytes.fromhex(digest)) == hashlib.sha256().digest_size for digest in known.values()):
                return dict(known)
        except (OSError, ValueError, TypeError, AttributeError):
            pass
        return {}

    def _write(self) -> None:
        if self._cache is None:
            return
        temp = self._cache.with_name(f".{secrets.token_hex(8)}.tmp")
        with suppress(OSError):
            descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                json.dump(self._known, stream)
            os.replace(temp, self._cache)


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}.{status.st_ino}.{status.st_size}.{status.st_mtime_ns}.{status.st_ctime_ns}"

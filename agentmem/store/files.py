"""The one place through which the store changes the disk, and how it reads.

`Files` has one method per operation, so that a test can log them, or let any of them fail or take long.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agentmem.errors import AgentmemError, Reason

TEMP_SUFFIX = ".tmp"
MAX_SMALL_BYTES = 1 << 16

if sys.platform == "darwin":
    import fcntl

    def _flush(descriptor: int) -> None:
        # fsync on macOS stops at the drive's own cache; F_FULLFSYNC does not. Some network volumes lack it.
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:
            os.fsync(descriptor)
else:

    def _flush(descriptor: int) -> None:
        os.fsync(descriptor)


class Files:
    """Operations that change the disk, and the one that reads blocks. Files are 0600, folders 0700.

    Each raises OSError.
    """

    def read(self, path: Path, size: int) -> bytes:
        """A block's file; see `read_file`."""
        return read_file(path, size)

    def create(self, path: Path, data: bytes) -> None:
        """Writes a file that must not exist yet. Not durable before `sync`."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) or 0 :]

    def sync(self, path: Path) -> None:
        """Makes a file's contents, or a folder's entries, durable."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _flush(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Replaces the target, if there is one. Not durable before the folder's `sync`."""
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        """Removes a file; no error if it isn't there."""
        path.unlink(missing_ok=True)

    def make_folder(self, path: Path) -> None:
        path.mkdir(mode=0o700)

    def remove_folder(self, path: Path) -> None:
        path.rmdir()


def make_folders(files: Files, path: Path) -> None:
    """Makes a folder and those above it, durably."""
    if path.is_dir():
        return
    make_folders(files, path.parent)
    files.make_folder(path)
    try:
        files.sync(path.parent)
    except OSError:
        # Or a later call would take it for durable.
        with suppress(OSError):
            files.remove_folder(path)
        raise


def write_durably(files: Files, path: Path, data: bytes) -> int:
    """Writes or replaces a file so that after any crash it is the old one or the new one, whole. Bytes written."""
    make_folders(files, path.parent)
    temp = path.with_name(f".{secrets.token_hex(8)}{TEMP_SUFFIX}")
    try:
        files.create(temp, data)
        files.sync(temp)
        files.rename(temp, path)
    except OSError:
        remove_quietly(files, temp)
        raise
    files.sync(path.parent)
    return len(data)


def move_durably(files: Files, source: Path, target: Path) -> None:
    """Moves a file to a folder made if need be. After a crash it is in either place, or both. Raises OSError."""
    make_folders(files, target.parent)
    files.rename(source, target)
    files.sync(target.parent)
    files.sync(source.parent)


def set_mark(files: Files, mark: Path, there: bool) -> None:
    """Makes or removes an empty file, durably. Raises OSError."""
    if there == mark.exists():
        return
    if there:
        make_folders(files, mark.parent)
        files.create(mark, b"")
    else:
        files.unlink(mark)
    files.sync(mark.parent)


def remove_marked(files: Files, folder: Path, mark: Path | None = None) -> None:
    """Removes a folder and the files in it; the mark, which says that they are to go, last. Raises OSError."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path != mark:
            files.unlink(path)
    files.sync(folder)  # as long as any of them may come back, the mark must
    if mark is not None:
        files.unlink(mark)
    files.remove_folder(folder)


def remove_quietly(files: Files, path: Path) -> None:
    """Removes a file that nothing refers to. What cannot be removed now, the sweep at the next open removes."""
    try:
        files.unlink(path)
    except OSError:
        return


def read_file(path: Path, size: int) -> bytes:
    """A regular file of exactly `size` bytes. Raises ValueError if it is something else, OSError if it can't be read.

    The size is checked before anything is read: no planted file makes the store allocate more than it expects.
    """
    # O_NONBLOCK: opening a FIFO would wait for a writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size != size:
            raise ValueError(f"{status.st_size} bytes where {size} were written")
        data = os.read(descriptor, size)
        while len(data) < size and (more := os.read(descriptor, size - len(data))):
            data += more
    finally:
        os.close(descriptor)
    if len(data) != size:
        raise ValueError("shortened while it was read")
    return data


def read_end(path: Path, count: int) -> tuple[int, bytes]:
    """A file's size and its last `count` bytes, or all if it has fewer. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        size = os.fstat(descriptor).st_size
        return size, os.pread(descriptor, count, max(0, size - count))
    finally:
        os.close(descriptor)


def read_small_file(path: Path) -> bytes:
    """A file of ours that is never large. Raises ValueError or OSError, as `read_file` does."""
    size = path.lstat().st_size
    if size > MAX_SMALL_BYTES:
        raise ValueError(f"{size} bytes where a few were written")
    return read_file(path, size)


def is_missing(error: OSError) -> bool:
    return error.errno in (errno.ENOENT, errno.ENOTDIR)


def is_damage(error: OSError) -> bool:
    """The file itself is at fault (bad sector, a link or socket where a file was), not the process or its rights."""
    return error.errno in (errno.EIO, errno.ELOOP, errno.ENXIO)


def is_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that the disk has no room."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return error.__cause__ is not None and is_full(error.__cause__)


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Turns an OSError of the work inside into STORE_UNWRITABLE."""
    try:
        yield
    except OSError as error:
        message = f"The state folder {folder} cannot be written to: {error.strerror or type(error).__name__}."
        raise AgentmemError(Reason.STORE_UNWRITABLE, message) from error

"""The unix socket's place: a folder nobody else can write to, a lock held while serving, no orphan left behind."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agentmem_client.discovery import MAX_SOCKET_BYTES
from filelock import FileLock, Timeout

from agentmem_daemon.errors import StartError


@contextmanager
def claim_socket(path: Path) -> Iterator[None]:
    """Holds the right to serve on `path` (absolute); a stale socket is gone on entry, our own on exit.

    A second server would silently steal a live socket, so the lock comes before anything touches it. Raises
    StartError if another daemon holds the lock, or if path or folder will not do.
    """
    check_path(path)
    prepare_folder(path.parent)
    lock = _take_lock(path)
    try:
        if path.exists() and not path.is_socket():
            raise StartError(f"{path} exists and is not a socket. Choose another socket path, or move the file away.")
        remove_socket(path)
        _pid_file(path).write_text(f"{os.getpid()}\n")
        try:
            yield
        finally:
            remove_socket(path)
    finally:
        lock.release()


def _take_lock(path: Path) -> FileLock:
    lock = FileLock(f"{path}.lock", timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise StartError(f"Another agentmem daemon{_holder(path)} already serves {path}.") from None
    except OSError as error:
        raise StartError(f"The lock file {path}.lock cannot be used: {error.strerror}.") from error
    return lock


def remove_socket(path: Path) -> None:
    """Removes the socket and the note of its owner's pid. Only for the holder of the lock."""
    for file in (path, _pid_file(path)):
        with suppress(FileNotFoundError):
            file.unlink()


def check_path(path: Path) -> None:
    """Raises StartError if the operating system could not bind `path`."""
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_BYTES:
        raise StartError(f"The socket path {path} has {size} bytes; at most {MAX_SOCKET_BYTES} are possible.")


def prepare_folder(folder: Path) -> None:
    """Makes `folder` (0700) if need be. Raises StartError if it isn't ours or others can write to it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
    except OSError as error:
        raise StartError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    if about.st_uid != os.geteuid():
        raise StartError(f"The folder {folder} belongs to another user. Choose a folder of your own for the socket.")
    if stat.S_IMODE(about.st_mode) & 0o022:
        raise StartError(
            f"Other users can write to the folder {folder}. Choose another one, or run: chmod 700 {folder}"
        )


def _pid_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.pid")


def _holder(path: Path) -> str:
    """' (pid N)' if the holder of the lock left its pid, else ''."""
    try:
        return f" (pid {int(_pid_file(path).read_text())})"
    except (OSError, ValueError):
        return ""

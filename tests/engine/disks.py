"""Disks that are slow, or full, when a test wants them to be."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agentmem.store.files import Files


class Disk(Files):
    """Real files. While `slow`, no file gets on it; while `full`, none fits. created, read_from: the paths, in order.

    before_read: called with the path of a block that is about to be read, on whatever thread reads it.
    """

    def __init__(self) -> None:
        self.full = False
        self.created: list[Path] = []
        self.read_from: list[Path] = []
        self.before_read: Callable[[Path], object] = lambda path: None
        self._open = threading.Event()
        self._open.set()

    @property
    def slow(self) -> bool:
        return not self._open.is_set()

    @slow.setter
    def slow(self, slow: bool) -> None:
        if slow:
            self._open.clear()
        else:
            self._open.set()

    def read(self, path: Path, size: int) -> bytes:
        self.read_from.append(path)
        self.before_read(path)
        return super().read(path, size)

    def create(self, path: Path, data: bytes) -> None:
        assert self._open.wait(60)
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.created.append(path)
        super().create(path, data)


def block_files(state: Path) -> list[Path]:
    return sorted((state / "blocks").glob("**/*.safetensors"))


def soon(holds: Callable[[], bool]) -> bool:
    """Whether something comes to hold within ten seconds."""
    deadline = time.monotonic() + 10
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return held

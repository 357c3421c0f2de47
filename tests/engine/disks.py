"""Disks that are slow, or full, when a test wants them to be."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agentmem.store.files import Files


class Disk(Files):
    """Real files. While `slow`, no file gets on it; while `full`, none fits. created: the paths, in order."""

    def __init__(self) -> None:
        self.full = False
        self.created: list[Path] = []
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

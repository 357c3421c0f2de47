"""Stops injected into a daemon: it is SIGKILLed, by itself, at a chosen operation on the disk."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from agentmem.sqlite import transaction
from agentmem.store.catalog import thread
from agentmem.store.files import Files
from agentmem.store.turnfiles import TurnFiles

FILE_POINTS = ("half written", "written", "synced", "renamed")
RARE_POINTS = ("removed", "before the record", "recorded", "in the transaction", "committed")
POINTS = FILE_POINTS + RARE_POINTS


@dataclass(frozen=True)
class Stop:
    """At the `count`th time that the daemon comes to `point`."""

    point: str
    count: int


def arm(stop: Stop, armed: Callable[[], bool]) -> None:
    """Changes this process so that it dies there; times are counted while `armed` says so."""
    count, lock = 0, Lock()

    def come_to(point: str) -> bool:
        nonlocal count
        if point != stop.point or not armed():
            return False
        with lock:
            count += 1
            return count == stop.count

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def after(owner: type, method: str, point: str) -> None:
        real = getattr(owner, method)

        def replaced(self: object, *args: object) -> object:
            result = real(self, *args)
            if come_to(point):
                die()
            return result

        setattr(owner, method, replaced)

    real_create, real_record = Files.create, TurnFiles.write

    def create(self: Files, path: Path, data: bytes) -> None:
        if come_to("half written"):
            real_create(self, path, data[: len(data) // 2])
            die()
        real_create(self, path, data)

    def record(self: TurnFiles, agent_id: str, number: int, data: bytes) -> int:
        if come_to("before the record"):
            die()
        return real_record(self, agent_id, number, data)

    @contextmanager
    def stopping(db: sqlite3.Connection, keep: bool = True) -> Iterator[None]:
        with transaction(db, keep):
            yield
            if come_to("in the transaction"):
                die()
        if come_to("committed"):
            die()

    Files.create, TurnFiles.write = create, record  # type: ignore[method-assign]
    after(Files, "create", "written")
    after(Files, "sync", "synced")
    after(Files, "rename", "renamed")
    after(Files, "unlink", "removed")
    after(TurnFiles, "write", "recorded")
    thread.transaction = stopping  # type: ignore[attr-defined]

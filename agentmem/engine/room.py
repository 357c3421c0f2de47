"""Waiting for room, in RAM or on disk, that others hold now."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from agentmem.memory.needs import Room
from agentmem.memory.taken import RoomTaken

T = TypeVar("T")


def with_room(attempt: Callable[[], T], check: Callable[[], None] = lambda: None) -> Generator[Room, None, T]:
    """What `attempt` returns once others have left the room that it asks for. check: raises if it is no longer wanted.

    An attempt that fails must leave nothing promised, lest two wait for each other.
    """
    while True:
        try:
            return attempt()
        except RoomTaken as taken:
            short = taken.short
        yield Room(short)
        check()

"""What a job on the executor thread yields: what it needs before it goes on. Between two yields others have their turn.

A job that yields nothing in particular takes a moment when it goes on, and is counted like a whole chunk.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, NamedTuple


class Wait(NamedTuple):
    """That one of these is done, or that a moment has passed. Going on is cheap."""

    futures: tuple[Future[Any], ...]


class Chunk(NamedTuple):
    """Time to compute so many positions."""

    positions: int


class Room(NamedTuple):
    """That another request has ended or was set aside. short: bytes of RAM that lack; 0 if it is room on the disk."""

    short: int

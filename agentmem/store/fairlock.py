"""A lock for threads that take it again as soon as they have let go of it."""

from __future__ import annotations

import threading
from collections import deque


class FairLock:
    """Goes to those who wait in the order in which they came: one who writes file after file keeps nobody out."""

    def __init__(self) -> None:
        self._own = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Event] = deque()

    def __enter__(self) -> None:
        with self._own:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def __exit__(self, *_: object) -> None:
        with self._own:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False

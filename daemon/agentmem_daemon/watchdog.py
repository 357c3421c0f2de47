"""Notices that one step of the engine takes very long, and when it ends after all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LONGEST_PAUSE_S = 1.0


class Watchdog:
    """A thread that looks at the age of the present step.

    age_s: seconds since the step began, 0 if there is none. on_stuck: called once, with the Unix time at which the step
    began, when it is older than `limit_s`; on_going_on: once, when that step has ended. Both come on this thread.
    """

    def __init__(
        self,
        age_s: Callable[[], float],
        limit_s: float,
        on_stuck: Callable[[float], None],
        on_going_on: Callable[[], None],
    ) -> None:
        self._age_s, self._limit_s = age_s, limit_s
        self._on_stuck, self._on_going_on = on_stuck, on_going_on
        self._told_to_stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="agentmem-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._told_to_stop.set()
        self._thread.join()

    def _watch(self) -> None:
        """Looks often enough to see each step that reaches the limit, and the end of it even if another follows."""
        stuck = False
        while not self._told_to_stop.wait(min(LONGEST_PAUSE_S, self._limit_s / 4)):
            age = self._age_s()
            if not stuck and age > self._limit_s:
                stuck = True
                self._on_stuck(time.time() - age)
            elif stuck and age < self._limit_s:
                stuck = False
                self._on_going_on()

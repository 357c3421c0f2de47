"""Ctrl-C while something runs that can be cancelled in good order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def ctrl_c(action: Callable[[], None]) -> Iterator[None]:
    """Inside, the first Ctrl-C calls `action`; any further one does what it always does. Main thread only.

    A KeyboardInterrupt would strike anywhere, in the midst of gRPC's locks for instance, and could leave them held.
    """

    def act(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        action()

    before = signal.signal(signal.SIGINT, act)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

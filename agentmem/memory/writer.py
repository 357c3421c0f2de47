"""The writer thread: it brings to the disk what the executor hands over, in that order, while the executor computes.

It touches the store, and what it is handed: records, and blocks whose numpy arrays are copies that nobody changes. It
never sees an `Agent`, an `AgentState`, or anything of MLX. What came of it the executor learns from futures, which it
looks at when an agent is used next, and waits for where it must.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

STEP_S = 0.05
"""How long a wait goes on before others get their turn, and cancellations are noticed."""


class WriterThread:
    """limit: bytes of RAM that what was handed over, and is not done, may take."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentmem-writer")
        self._changed = threading.Condition()
        self._nbytes = self._waiting = 0

    @property
    def idle(self) -> bool:
        """Whether all that was handed over is done."""
        return not self._waiting

    @property
    def nbytes(self) -> int:
        """Bytes of RAM that wait for the disk. Any thread may ask."""
        return self._nbytes

    def has_room(self, nbytes: int) -> bool:
        """Whether so many bytes more may wait. One thing may always, however large."""
        return not self._nbytes or self._nbytes + nbytes <= self.limit

    def wait_for_room(self, nbytes: int) -> Iterator[None]:
        """Waits until so many bytes more may wait. Yields meanwhile."""
        while not self.has_room(nbytes):
            with self._changed:
                self._changed.wait_for(lambda: self.has_room(nbytes), STEP_S)
            yield

    def hand(self, nbytes: int, work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Has the thread do some work, behind all that it has. nbytes: of RAM, held until that is done."""
        self._count(1, nbytes)
        future = self._thread.submit(work, *args, **kwargs)
        future.add_done_callback(lambda _: self._count(-1, -nbytes))
        return future

    def _count(self, works: int, nbytes: int) -> None:
        with self._changed:
            self._waiting += works
            self._nbytes += nbytes
            self._changed.notify_all()

    def flush(self) -> None:
        """Waits until all that was handed over is done."""
        self.hand(0, lambda: None).result()

    def close(self) -> None:
        """Ends the thread once all is done."""
        self._thread.shutdown()


def until_done(futures: Iterable[Future], timeout: float = float("inf")) -> Iterator[None]:
    """Waits for futures, whatever comes of them, for at most so many seconds. Yields meanwhile."""
    left = set(futures)
    while left and timeout > 0:
        left = wait(left, min(STEP_S, timeout)).not_done
        timeout -= STEP_S
        yield

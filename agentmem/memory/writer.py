"""The writer thread: it brings to the disk what the executor hands over, in that order, while the executor computes.

It touches the store, and what it is handed: records, and blocks whose numpy arrays are copies that nobody changes. It
never sees an `Agent`, an `AgentState`, or anything of MLX. What came of it the executor learns from futures, which it
looks at when an agent is used next, and waits for where it must.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from agentmem.memory.needs import Wait

_P = ParamSpec("_P")
_T = TypeVar("_T")


class WriterThread:
    """limit: bytes of RAM that what was handed over, and is not done, may take."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentmem-writer")
        self._changing = threading.Lock()
        self._under_way: set[Future[Any]] = set()
        self._nbytes = 0

    @property
    def idle(self) -> bool:
        """Whether all that was handed over is done."""
        return not self._under_way

    @property
    def nbytes(self) -> int:
        """Bytes of RAM that wait for the disk. Any thread may ask."""
        return self._nbytes

    def has_room(self, nbytes: int) -> bool:
        """Whether so many bytes more may wait. One thing may always, however large."""
        return not self._nbytes or self._nbytes + nbytes <= self.limit

    def moment(self) -> Iterator[Wait]:
        """Waits until something more is done. Yields meanwhile."""
        with self._changing:
            under_way = tuple(self._under_way)
        yield Wait(under_way or (self.hand(0, lambda: None),))

    def hand(self, nbytes: int, work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Has the thread do some work, behind all that it has. nbytes: of RAM, held until that is done."""
        with self._changing:
            future = self._thread.submit(work, *args, **kwargs)
            self._under_way.add(future)
            self._nbytes += nbytes
        future.add_done_callback(lambda _: self._done(future, nbytes))
        return future

    def _done(self, future: Future[Any], nbytes: int) -> None:
        with self._changing:
            self._under_way.discard(future)
            self._nbytes -= nbytes

    def flush(self) -> None:
        """Waits until all that was handed over is done."""
        self.hand(0, lambda: None).result()

    def close(self) -> None:
        """Ends the thread once all is done."""
        self._thread.shutdown()


def until_done(futures: Iterable[Future[Any]], timeout: float = float("inf")) -> Iterator[Wait]:
    """Waits for futures, whatever comes of them, for at most so many seconds. Yields meanwhile."""
    left, deadline = tuple(futures), time.monotonic() + timeout
    while (left := tuple(future for future in left if not future.done())) and time.monotonic() < deadline:
        yield Wait(left)

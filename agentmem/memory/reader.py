"""The reader threads: they bring blocks from the disk, and verify them, while the executor computes.

They touch the store, bytes and numpy arrays; never an `Agent`, an `AgentState`, or an operation of MLX. What they found
the executor takes in order of need, whatever order they are done in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from agentmem.memory.needs import Wait

THREADS = 4
AHEAD = 4 * THREADS
"""How many blocks of one restore are read, or have been and wait to be taken.

So reading takes RAM of THREADS block files, twice that in an encrypted store, for all restores together; and each that
keeps what it read (companions, blocks of which a part may match) AHEAD files more.
"""

T = TypeVar("T")


class ReaderThreads:
    """Owned by the executor thread."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="agentmem-reader")
        self._left: list[Reading] = []
        """Ended early, while a thread was in the middle of one of their works."""

    def reading(self, works: Iterable[Callable[[], T]], into: object = None) -> Reading[T]:
        """Has the threads do works, a few at a time, in this order. To be used in a `with`, which ends it.

        into: what they write to, if it is MLX's: the executor lets go of it last.
        """
        return Reading(self._threads, iter(works), into, self._left)

    def collect(self) -> None:
        """Lets go of what readings that ended early wrote to, once no thread does so any more."""
        self._left[:] = [one for one in self._left if one.busy]

    def close(self) -> None:
        """Waits for what is under way, and ends the threads."""
        self._threads.shutdown(cancel_futures=True)
        self._left.clear()


class Reading(Generic[T]):
    """Works under way. What a work raises, `next` raises in its place; the ones behind it go on."""

    def __init__(
        self, threads: ThreadPoolExecutor, works: Iterator[Callable[[], T]], into: object, left: list[Reading]
    ) -> None:
        self._threads, self._works, self._into, self._left = threads, works, into, left
        self._under_way: deque[tuple[Future[T], _Slot[T]]] = deque()

    def __enter__(self) -> Reading[T]:
        self._go_on()
        return self

    def __exit__(self, *_: object) -> None:
        """Cancels what has not begun. Does not wait: the disk may be slow."""
        for future, slot in self._under_way:
            if future.cancel():
                slot.work = None
        if self.busy:
            self._left.append(self)

    @property
    def busy(self) -> bool:
        return not all(future.done() for future, _ in self._under_way)

    def _go_on(self) -> None:
        while len(self._under_way) < AHEAD and (work := next(self._works, None)) is not None:
            slot = _Slot(work)
            self._under_way.append((self._threads.submit(slot), slot))

    def next(self) -> Generator[Wait, None, T]:
        """What the next work returned. Yields while it waits."""
        first, _ = self._under_way[0]
        while not first.done():  # all are wanted: to wake for each would cost more than reading it
            later, _ = self._under_way[min(AHEAD // 2, len(self._under_way) - 1)]
            yield Wait((first if later.done() else later,))
        self._under_way.popleft()
        self._go_on()
        return first.result()


class _Slot(Generic[T]):
    """A work that waits for a thread. One that was cancelled stays in the queue, and must not keep memory there."""

    def __init__(self, work: Callable[[], T]) -> None:
        self.work: Callable[[], T] | None = work

    def __call__(self) -> T:
        work, self.work = self.work, None
        assert work is not None
        return work()

"""The queue: first come, first served within an agent, and turn about between agents."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import zip_longest
from typing import Protocol

from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef


class Job(Protocol):
    """Work for the executor thread, done in steps; others may run between two of them."""

    ref: AgentRef

    def steps(self) -> Iterator[None]: ...

    def fail(self, error: AgentmemError) -> None: ...


class Scheduler:
    """Thread-safe. Two jobs of one agent keep their order; an agent with many jobs does not starve the others."""

    def __init__(self, max_queue: int) -> None:
        self._max_queue = max_queue
        self._waiting: OrderedDict[AgentRef, deque[Job]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self.running: Job | None = None

    def add(self, job: Job) -> int:
        """Queues a job; returns how many run first. QUEUE_FULL, SHUTTING_DOWN."""
        with self._changed:
            if self._closed:
                raise shutting_down()
            ahead = self.queued + (self.running is not None)
            if self.queued >= self._max_queue:
                raise AgentmemError(
                    Reason.QUEUE_FULL, f"{ahead} requests wait already; try again later", retry_after_s=1, queued=ahead
                )
            self._waiting.setdefault(job.ref, deque()).append(job)
            position = self._jobs_before(job)
            self._changed.notify()
            return position

    def _jobs_before(self, job: Job) -> int:
        """Jobs that run first, if nothing else comes: those of its own agent, and as many rounds of the others."""
        own = len(self._waiting[job.ref]) - 1
        refs = list(self._waiting)
        me = refs.index(job.ref)
        others = sum(
            min(len(queue), own + (refs.index(ref) < me)) for ref, queue in self._waiting.items() if ref != job.ref
        )
        return own + others + (self.running is not None)

    def jobs(self) -> tuple[list[Job], list[Job]]:
        """Those that run, and those that wait: round by round, as `take` gives them."""
        with self._changed:
            rounds = zip_longest(*self._waiting.values())
            running = [] if self.running is None else [self.running]
            return running, [job for turns in rounds for job in turns if job is not None]

    def take(self) -> Job | None:
        """The next job, once there is one; None when closed and empty."""
        with self._changed:
            self.running = None
            self._changed.notify_all()
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait()
            ref, queue = next(iter(self._waiting.items()))
            job = queue.popleft()
            self._waiting.pop(ref)
            if queue:
                self._waiting[ref] = queue  # to the end of the round
            self.running = job
            return job

    def remove(self, job: Job) -> bool:
        """Takes a waiting job out; False if it runs or has run."""
        with self._changed:
            queue = self._waiting.get(job.ref)
            if queue is None or job not in queue:
                return False
            queue.remove(job)
            if not queue:
                del self._waiting[job.ref]
            return True

    def close(self) -> list[Job]:
        """Takes no more jobs; returns those that will not run."""
        with self._changed:
            self._closed = True
            left = [job for queue in self._waiting.values() for job in queue]
            self._waiting.clear()
            self._changed.notify_all()
            return left

    def wait_idle(self, timeout: float) -> bool:
        """Waits until nothing runs; False if something still does."""
        with self._changed:
            return self._changed.wait_for(lambda: self.running is None, timeout)

    @property
    def busy(self) -> bool:
        """Whether something runs or waits."""
        with self._changed:
            return self.running is not None or bool(self._waiting)

    def refs(self) -> set[AgentRef]:
        """Whose jobs run or wait."""
        with self._changed:
            return {*self._waiting, *([self.running.ref] if self.running is not None else [])}

    @property
    def queued(self) -> int:
        with self._changed:  # re-entrant
            return sum(len(q) for q in self._waiting.values())


def shutting_down() -> AgentmemError:
    return AgentmemError(Reason.SHUTTING_DOWN, "the daemon is stopping; try again once it is back", retry_after_s=1)

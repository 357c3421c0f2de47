"""Which jobs wait, and which are active: by priority, which grows with waiting, and turn about between agents.

An agent has at most one active job, and its jobs keep their order.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Generator
from typing import Any, Protocol

from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef, Priority

AGEING_S = 5.0
"""Seconds of waiting that count for as much as one level of priority: so nothing starves."""

LEVELS = {Priority.LOW: 0, Priority.NORMAL: 1, Priority.HIGH: 2}


class Job(Protocol):
    """Work for the executor thread, done in steps; those of other agents' jobs come between them.

    takes_slot: whether it counts as one of the requests that may be active at once; what is brief does not.
    """

    ref: AgentRef
    priority: Priority
    takes_slot: bool

    def steps(self) -> Generator[Any, None, None]:
        """Yields what it needs before it goes on (`memory.needs`, a `Lane`, or a `Thinker`)."""

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to end."""

    @property
    def leaves(self) -> int:
        """Bytes of RAM that it would leave to others if it was asked to step aside now; 0 if it can't."""

    def step_aside(self) -> None:
        """Asks it to leave its room in RAM to another, and to wait for room itself."""

    def fail(self, error: AgentmemError) -> None: ...


def level(priority: Priority, waited_s: float) -> int:
    """What a job is worth after so many seconds without progress; the larger goes first."""
    return LEVELS[priority] + int(waited_s / AGEING_S)


class _Waiting:
    def __init__(self, job: Job) -> None:
        self.job, self.since = job, time.monotonic()

    @property
    def level(self) -> int:
        return level(self.job.priority, time.monotonic() - self.since)


class Scheduler:
    """Thread-safe. max_queue: jobs that may wait. max_active: those that take a slot and may be active."""

    def __init__(self, max_queue: int, max_active: int) -> None:
        self.max_queue, self.max_active = max_queue, max_active
        self._waiting: OrderedDict[AgentRef, deque[_Waiting]] = OrderedDict()
        self._active: dict[AgentRef, Job] = {}
        self._changed = threading.Condition()
        self._woken = self._closed = False

    def add(self, job: Job) -> int:
        """Queues a job; returns how many are before it, 0 if it begins at once. QUEUE_FULL, SHUTTING_DOWN."""
        with self._changed:
            if self._closed:
                raise shutting_down()
            if self.queued >= self.max_queue:
                raise AgentmemError(
                    Reason.QUEUE_FULL,
                    f"{self.queued} requests wait already; try again later",
                    retry_after_s=1,
                    queued=self.queued,
                )
            self._waiting.setdefault(job.ref, deque()).append(_Waiting(job))
            position = self._before(job)
            self.wake()
            return position

    def _before(self, job: Job) -> int:
        """Jobs that begin or end before this one begins, if nothing else comes."""
        first = self._waiting[job.ref][0]
        if first.job is job and self._may_begin(first, self._full):
            return 0
        return self.waiting.index(job) + 1  # and what is active now

    @property
    def _full(self) -> bool:
        return sum(job.takes_slot for job in self._active.values()) >= self.max_active

    def _may_begin(self, one: _Waiting, full: bool) -> bool:
        return one.job.ref not in self._active and not (full and one.job.takes_slot)

    def take(self, least: int = 0) -> Job | None:
        """Makes the next job active that may be; None if there is none. least: the level that a request must have."""
        with self._changed:
            heads, full = [queue[0] for queue in self._waiting.values()], self._full
            able = [h for h in heads if self._may_begin(h, full) and (h.level >= least or not h.job.takes_slot)]
            job = _pop(self._waiting, able)
            if job is not None:
                self._active[job.ref] = job
            return job

    def done(self, job: Job) -> None:
        """An active job has ended: another may begin."""
        with self._changed:
            del self._active[job.ref]
            self.wake()

    def wait(self, timeout: float | None) -> bool:
        """Waits for something new, or `wake`. False once it is closed and empty: there will be nothing more."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken or self._over, timeout)
            self._woken = False
            return not self._over

    @property
    def _over(self) -> bool:
        return self._closed and not self._waiting and not self._active

    def wake(self) -> None:
        """What the executor waits for may have come."""
        with self._changed:  # re-entrant
            self._woken = True
            self._changed.notify_all()

    def remove(self, job: Job) -> bool:
        """Takes a waiting job out; False if it is active or has been."""
        with self._changed:
            queue = self._waiting.get(job.ref, deque())
            one = next((w for w in queue if w.job is job), None)
            if one is None:
                return False
            queue.remove(one)
            if not queue:
                del self._waiting[job.ref]
            return True

    def close(self) -> list[Job]:
        """Takes no more jobs; returns those that will not run."""
        with self._changed:
            self._closed = True
            left = [one.job for queue in self._waiting.values() for one in queue]
            self._waiting.clear()
            self.wake()
            return left

    def wait_idle(self, timeout: float) -> bool:
        """Waits until nothing is active; False if something still is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._active, timeout)

    @property
    def active(self) -> list[Job]:
        with self._changed:
            return list(self._active.values())

    @property
    def waiting(self) -> list[Job]:
        """In the order in which they begin, as far as that is known."""
        with self._changed:
            queues = [list(queue) for queue in self._waiting.values()]
        placed = [(-one.level, turn, one.job) for queue in queues for turn, one in enumerate(queue)]
        return [job for _, _, job in sorted(placed, key=lambda place: place[:2])]

    @property
    def queued(self) -> int:
        with self._changed:
            return sum(len(queue) for queue in self._waiting.values())

    @property
    def busy(self) -> bool:
        """Whether something is active or waits."""
        with self._changed:
            return bool(self._active or self._waiting)

    def refs(self) -> set[AgentRef]:
        """Whose jobs are active or wait."""
        with self._changed:
            return {*self._waiting, *self._active}


def _pop(queues: OrderedDict[AgentRef, deque[_Waiting]], heads: list[_Waiting]) -> Job | None:
    """Takes the first head of the highest level; its agent goes to the end of the round."""
    if not heads:
        return None
    best = max(heads, key=lambda head: head.level)  # the first of equals
    queue = queues.pop(best.job.ref)
    queue.popleft()
    if queue:
        queues[best.job.ref] = queue
    return best.job


def shutting_down() -> AgentmemError:
    return AgentmemError(Reason.SHUTTING_DOWN, "the daemon is stopping; try again once it is back", retry_after_s=1)

"""The one thread that owns MLX. In each of its steps all agents that reply decode, in one batch, and all that think
take a latent step, in another; then others go on.

What a job yields says what it needs before it goes on (`memory.needs`). About one chunk of positions is computed
between two decode steps, so that a long prompt does not keep others from their tokens.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from agentmem.engine.lane import DecodeBatch, Lane
from agentmem.engine.scheduler import Job, Scheduler, level
from agentmem.engine.steptimes import StepTimes
from agentmem.engine.thinking import ThinkBatch, Thinker
from agentmem.errors import AgentmemError, Reason
from agentmem.memory.needs import Chunk, Room, Wait
from agentmem.model.forward import CHUNK
from agentmem.types import AgentRef, Priority

MOMENT_S = 0.05
"""How long a job that waits is left alone at the most: cancellations must be noticed."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class _Active:
    """A job under way. need: what it yielded last. progressed, looked: when it last did something, or tried to.

    room_seen: how often room had been left to others when it last looked for some.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.steps = job, job.steps()
        self.need: Any = Chunk(0)
        self.progressed = self.looked = time.monotonic()
        self.room_seen = 0
        self.told = self.ended = False
        """told: it has gone on since it was cancelled."""

    @property
    def level(self) -> int:
        return level(self.job.priority, time.monotonic() - self.progressed)

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled, and doesn't know."""
        return self.job.cancelled and not self.told

    @property
    def cost(self) -> int:
        """Positions that it computes when it goes on."""
        need = self.need
        return need.positions if isinstance(need, Chunk) else CHUNK if need is None else 0

    def may_go_on(self, room_left: int) -> bool:
        """If it waits for room, it must be first in line besides."""
        need = self.need
        if isinstance(need, Lane | Thinker) or self.ended:
            return False
        if isinstance(need, Wait | Room) and (self.cancelled or time.monotonic() - self.looked > MOMENT_S):
            return True
        if isinstance(need, Wait):
            return any(future.done() for future in need.futures)
        return not isinstance(need, Room) or room_left > self.room_seen


class Executor:
    """Starts its thread with `setup`, whose result or error `start` hands back."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._thread = threading.Thread(target=self._main, name="agentmem-executor", daemon=True)
        self._setup: Callable[[], Any] = lambda: None
        self._ready: Future[Any] = Future()
        self._active: list[_Active] = []
        self._room_left = 0
        """How often a job has ended or begun to wait for room: then there may be some for others."""
        self.times = StepTimes()
        self.batch: DecodeBatch | None = None
        self.thinking: ThinkBatch | None = None
        self.began: float | None = None
        """When the present step began, by the monotonic clock; None while there is nothing to do."""
        self.on_stop: Callable[[], None] = lambda: None
        """Called last on the thread."""

    def start(self, setup: Callable[[], T]) -> T:
        """Runs `setup` on the thread (models must be loaded where they run) and waits for it."""
        self._setup = setup
        self._thread.start()
        return self._ready.result()

    def step_age_s(self) -> float:
        """Seconds since the present step began; 0 while there is nothing to do. Any thread."""
        began = self.began
        return 0.0 if began is None else time.monotonic() - began

    def join(self, timeout: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _main(self) -> None:
        try:
            self._ready.set_result(self._setup())
        except BaseException as error:
            self._ready.set_exception(error)
            return
        while self._scheduler.wait(self._patience()):
            self.began = time.monotonic()
            self._step()
            self.began = None
        self.on_stop()

    def _patience(self) -> float | None:
        """Seconds that nothing need be done for, unless something comes: None if there is nothing to do at all."""
        if any(isinstance(one.need, Lane | Thinker) for one in self._active) or self._able():
            return 0.0
        return MOMENT_S if self._active else None

    def _step(self) -> None:
        began = time.perf_counter()
        before = self._busy_s()
        if self.batch is not None:
            self._together(self.batch.step, Lane)
        if self.thinking is not None:
            self._together(self.thinking.step, Thinker)
        self._admit()  # behind it: what came meanwhile begins at once
        self._spend()
        self._make_way()
        self.times.schedule_s += time.perf_counter() - began - (self._busy_s() - before)

    def _busy_s(self) -> float:
        t = self.times
        return t.graph_s + t.device_s + t.sample_s + t.stream_s + t.prefill_s

    def _admit(self) -> None:
        """Who waits for room goes before requests that have not begun, unless they are worth more."""
        short = [one.level for one in self._active if isinstance(one.need, Room) and one.job.takes_slot]
        while (job := self._scheduler.take(max(short) + 1 if short else 0)) is not None:
            self._active.append(_Active(job))

    def _able(self) -> list[_Active]:
        """Those that don't decode and may go on, the most urgent first."""
        lines = self._first_in_line(ram=True), self._first_in_line(ram=False)
        able = [
            one
            for one in self._active
            if one.may_go_on(self._room_left) and (not isinstance(one.need, Room) or one in lines or one.cancelled)
        ]
        return sorted(able, key=_urgency)

    def _first_in_line(self, ram: bool) -> _Active | None:
        """Of those that wait for such room: others wait behind it, or they would take what is left for it."""
        line = [one for one in self._active if isinstance(one.need, Room) and bool(one.need.short) is ram]
        return min(line, key=_urgency, default=None)

    def _together(self, step: Callable[[list[Any]], list[Any]], kind: type[Lane | Thinker]) -> None:
        """The next step of all that have a place in a batch: of the replies, or of the thoughts."""
        lanes = {one.need: one for one in self._active if isinstance(one.need, kind)}
        if not lanes:
            return
        try:
            ready = step(list(lanes))
        except Exception as error:  # the states of all are in doubt
            for one in lanes.values():
                self._go_on(one, error)
            return
        began = time.perf_counter()
        for lane in ready:
            self._go_on(lanes[lane])
        self.times.stream_s += time.perf_counter() - began

    def _spend(self) -> None:
        """Lets jobs that don't decode go on: the most urgent first, for about a chunk in all."""
        began, spent = time.perf_counter(), 0
        for one in self._able():
            while one.may_go_on(self._room_left) and (spent == 0 or spent + one.cost <= CHUNK):
                spent += one.cost
                self._go_on(one)
                if isinstance(one.need, Wait | Room):
                    break  # trying may take long itself
        self.times.prefill_s += time.perf_counter() - began

    def _make_way(self) -> None:
        """Asks a request to step aside for the first that waits for RAM, if it is worth less, and that will do."""
        first = self._first_in_line(ram=True)
        if first is None or not first.job.takes_slot or first.may_go_on(self._room_left):
            return
        jobs = [one.job for one in self._active if not isinstance(one.need, Room)]
        lesser = [job for job in jobs if job.leaves and level(job.priority, 0) < first.level]
        if sum(job.leaves for job in lesser) >= first.need.short:
            min(lesser, key=lambda job: level(job.priority, 0)).step_aside()

    def _go_on(self, one: _Active, failure: Exception | None = None) -> None:
        """Until it needs something. One job's failure is its own (invariant 7)."""
        before, one.room_seen, one.told = one.need, self._room_left, one.job.cancelled
        try:
            one.need = next(one.steps) if failure is None else one.steps.throw(failure)
            one.looked = time.monotonic()  # behind it: it may have taken long
        except StopIteration:
            self._leave(one)
        except AgentmemError as error:
            self._leave(one, error)
        except Exception as error:
            log.error("a request failed: %s\n%s", type(error).__name__, where(error))
            self._leave(
                one,
                AgentmemError(Reason.INTERNAL, f"something went wrong inside ({type(error).__name__}); see the log"),
            )
        else:
            self._note(one, before)

    def _note(self, one: _Active, before: Any) -> None:
        """What it needs now, and whether it got anywhere."""
        if isinstance(one.need, Wait):
            for future in one.need.futures:
                future.add_done_callback(lambda _: self._scheduler.wake())
        if not isinstance(one.need, Room):
            one.progressed = one.looked
        elif not isinstance(before, Room):  # it may have left some; it has looked itself
            self._room_left += 1
            one.room_seen = self._room_left

    def _leave(self, one: _Active, error: AgentmemError | None = None) -> None:
        one.ended = True
        self._active.remove(one)
        self._room_left += 1
        self._scheduler.done(one.job)
        if error is not None:
            one.job.fail(error)


def _urgency(one: _Active) -> tuple[int, float]:
    """The least goes first: of equals the one that has waited longest."""
    return -one.level, one.progressed


def where(error: BaseException) -> str:
    """The stack of an error without its message or values, which may hold what was said (invariant 8)."""
    frames = traceback.extract_tb(error.__traceback__)
    return "\n".join(f"  {f.filename}:{f.lineno} in {f.name}" for f in frames)


class Call(Generic[T]):
    """A job that goes through what a function does, in its agent's order; its result or error is in `future`."""

    priority = Priority.NORMAL
    takes_slot = cancelled = False
    leaves = 0

    def __init__(self, ref: AgentRef, function: Callable[[], Generator[Any, None, T]]) -> None:
        self.ref, self._function = ref, function
        self.future: Future[T] = Future()

    def steps(self) -> Generator[Any, None, None]:
        self.future.set_result((yield from self._function()))

    def fail(self, error: AgentmemError) -> None:
        self.future.set_exception(error)

    def step_aside(self) -> None:
        """It takes no slot, so it is never asked."""

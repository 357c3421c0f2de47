"""The one thread that owns MLX: it runs the scheduler's jobs, step by step."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from agentmem.engine.scheduler import Job, Scheduler
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef

T = TypeVar("T")
log = logging.getLogger(__name__)


class Executor:
    """Starts its thread with `setup`, whose result or error `start` hands back."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._thread = threading.Thread(target=self._main, name="agentmem-executor", daemon=True)
        self._setup: Callable[[], Any] = lambda: None
        self._ready: Future[Any] = Future()
        self.on_stop: Callable[[], None] = lambda: None
        """Called last on the thread."""
        self._step_began: float | None = None

    def start(self, setup: Callable[[], T]) -> T:
        """Runs `setup` on the thread (models must be loaded where they run) and waits for it."""
        self._setup = setup
        self._thread.start()
        return self._ready.result()

    def step_age_s(self) -> float:
        """Seconds since the present step began; 0 between jobs. Any thread."""
        began = self._step_began
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
        while (job := self._scheduler.take()) is not None:
            self._run(job)
        self.on_stop()

    def _run(self, job: Job) -> None:
        """One job's failure is its own (invariant 7)."""
        try:
            self._step_began = time.monotonic()
            for _ in job.steps():
                self._step_began = time.monotonic()
        except AgentmemError as error:
            job.fail(error)
        except Exception as error:
            log.error("a request failed: %s\n%s", type(error).__name__, where(error))
            job.fail(
                AgentmemError(Reason.INTERNAL, f"something went wrong inside ({type(error).__name__}); see the log")
            )
        finally:
            self._step_began = None


def where(error: BaseException) -> str:
    """The stack of an error without its message or values, which may hold what was said (invariant 8)."""
    frames = traceback.extract_tb(error.__traceback__)
    return "\n".join(f"  {f.filename}:{f.lineno} in {f.name}" for f in frames)


class Call(Generic[T]):
    """A job that calls a function in its agent's order; its result or error is in `future`.

    A generator function is run step by step.
    """

    def __init__(self, ref: AgentRef, function: Callable[[], T]) -> None:
        self.ref, self._function = ref, function
        self.future: Future[T] = Future()

    def steps(self) -> Iterator[None]:
        result = self._function()
        if isinstance(result, Generator):
            yield from result
        yield
        self.future.set_result(result)

    def fail(self, error: AgentmemError) -> None:
        self.future.set_exception(error)

"""What others may ask of a request while it runs: to end, or to step aside."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

from agentmem.errors import AgentmemError, Reason
from agentmem.types import FinishReason


class Control:
    """Asked from any thread; the request looks at it between its steps."""

    def __init__(self) -> None:
        self.cancelled: FinishReason | None = None
        self.aside_asked = False
        """Whether another needs its room in RAM more."""
        self._error: AgentmemError | None = None

    def cancel(self, reason: FinishReason, error: AgentmemError | None = None) -> None:
        """Asks the request to end at its next step; with `error`, if nothing has been sent by then."""
        if self.cancelled is None:
            self._error = error
            self.cancelled = reason

    def stop_if_cancelled(self) -> None:
        if self.cancelled is not None:
            raise self._error or _ended_early(self.cancelled)

    def until_cancelled(self, steps: Iterator[Any]) -> Generator[Any, None, float]:
        """Goes through steps, passing on what they need. Returns the seconds that they took by themselves."""
        busy, began = 0.0, time.monotonic()
        try:
            for need in steps:
                self.stop_if_cancelled()
                busy += time.monotonic() - began
                yield need
                began = time.monotonic()
                self.stop_if_cancelled()
        finally:
            if isinstance(steps, Generator):
                steps.close()  # now: an error's traceback would keep what they hold
        return busy + time.monotonic() - began


def _ended_early(reason: FinishReason) -> AgentmemError:
    if reason is FinishReason.DEADLINE:
        return AgentmemError(Reason.DEADLINE_PASSED, "the deadline passed; the timeline is as it was")
    return AgentmemError(Reason.REQUEST_CANCELLED, "the request was cancelled; the timeline is as it was")

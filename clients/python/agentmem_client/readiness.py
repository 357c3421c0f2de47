"""Waiting for a daemon that starts: asks again until it serves or the time is over."""

from __future__ import annotations

from time import monotonic

from agentmem_client.daemon_types import Status
from agentmem_client.errors import AgentmemError, DeadlineExceeded, Unavailable

PAUSE = 0.1
"""Seconds between two questions."""


class Wait:
    """Judges one answer after the other, for `timeout` seconds."""

    def __init__(self, timeout: float) -> None:
        self._end = monotonic() + timeout
        self._obstacle: AgentmemError | None = None

    def left(self) -> float:
        return max(0.0, self._end - monotonic())

    def judge(self, answer: Status | AgentmemError) -> Status | None:
        """The status if the daemon serves, None to ask again. Raises what stood in the way when time is over."""
        if isinstance(answer, Status):
            if answer.phase == "SERVING":
                return answer
            answer = Unavailable(f"The daemon is {answer.phase}: {answer.message}", reason=f"DAEMON_{answer.phase}")
        if not isinstance(answer, Unavailable | DeadlineExceeded):
            raise answer
        # That the last question ran out of time says less than what was heard before.
        if self._obstacle is None or not isinstance(answer, DeadlineExceeded):
            self._obstacle = answer
        if not self.left():
            raise self._obstacle
        return None

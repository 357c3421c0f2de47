"""When to send a call again: the same few attempts for sync and async calls, unary ones and streams.

gRPC's own retries are not used: with them, about one call in a hundred that was running when its daemon was killed
hung for good and overran its deadline (grpcio 1.85, sync client, unix socket); without them, none of several hundred.
"""

from __future__ import annotations

import random
import time

from agentmem_client.errors import AgentmemError, DaemonNotRunning, Unavailable

ATTEMPTS = 4
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0


class Attempts:
    """The attempts of one call. limit: its deadline in seconds, over all attempts; None for none.

    Mutating calls carry a request_id, so that sending them again is safe.
    """

    def __init__(self, limit: float | None) -> None:
        self._end = None if limit is None else time.monotonic() + limit
        self._made = 0

    def left(self) -> float | None:
        """Seconds until the deadline, for the next attempt."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def pause(self, error: AgentmemError) -> float | None:
        """Seconds to wait before the next attempt; None if `error` is final.

        A daemon that is there but cannot answer now is worth waiting for; one that is not there is not.
        """
        self._made += 1
        if self._made >= ATTEMPTS or not isinstance(error, Unavailable) or isinstance(error, DaemonNotRunning):
            return None
        pause = random.uniform(0.5, 1.0) * min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._made)
        left = self.left()
        return pause if left is None or pause < left else None

"""Requests on an engine in this process, and when each of their tokens came."""

from __future__ import annotations

import threading
import time

from agentmem.engine.engine import Engine
from agentmem.engine.request import Delta, Event, Failed, Finished, OnCancel, Request, Sampling, TokenInput
from agentmem.types import AgentRef


class Heard:
    """Submits a request, and listens. times: of its tokens, by `time.perf_counter`, as `submitted` is."""

    def __init__(self, engine: Engine, name: str, ids: list[int], tokens: int) -> None:
        self.times: list[float] = []
        self._end: Finished | Failed | None = None
        self._news = threading.Condition()
        ref, sampling = AgentRef("default", name), Sampling(max_tokens=tokens)
        request = Request(ref, TokenInput(tuple(ids)), sampling, OnCancel.DISCARD, create=True)
        self.submitted = time.perf_counter()
        self._ticket = engine.submit(request, self._hear)

    def _hear(self, event: Event) -> None:
        now = time.perf_counter()
        with self._news:
            if isinstance(event, Delta):
                self.times += [now] * len(event.token_ids)
            elif isinstance(event, Finished | Failed):
                self._end = event
            self._news.notify_all()

    def wait(self, tokens: int) -> Heard:
        """Until so many tokens came, or it ended."""
        with self._news:
            self._news.wait_for(lambda: len(self.times) >= tokens or self._end is not None, 300)
        return self

    def end(self) -> Finished:
        """Waits for its end. Raises what it failed with."""
        end = self._ended()
        if isinstance(end, Failed):
            raise end.error
        return end

    def cancel(self) -> None:
        """Ends it, as if it had not been."""
        self._ticket.cancel()
        self._ended()

    def _ended(self) -> Finished | Failed:
        with self._news:
            self._news.wait_for(lambda: self._end is not None, 300)
        assert self._end is not None, "a request took longer than five minutes"
        return self._end

    @property
    def ttft(self) -> float:
        """Seconds to the first token."""
        return self.times[0] - self.submitted

    @property
    def gaps(self) -> list[float]:
        """Seconds between tokens."""
        return [b - a for a, b in zip(self.times, self.times[1:], strict=False)]

"""Requests of one run side by side: submitted at once, so that the executor decodes them in one batch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentmem.engine.request import Delta, Event, Failed, Finished, Request
from agentmem.errors import AgentmemError, Reason
from agentmem.types import FinishReason

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine, Ticket


class Halt:
    """Ends a run from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tickets: list[Ticket] = []
        self._reason: FinishReason | None = None
        self._error: AgentmemError | None = None

    def cancel(self, reason: FinishReason = FinishReason.CANCELLED, error: AgentmemError | None = None) -> None:
        """What runs ends at its next step; nothing more begins. error: what `check` raises; the first call counts."""
        with self._lock:
            if self._reason is None:
                self._reason, self._error = reason, error
            tickets = list(self._tickets)
        for ticket in tickets:
            ticket.cancel(reason)

    def check(self) -> None:
        """Raises REQUEST_CANCELLED or DEADLINE_PASSED once it was cancelled, or the error given then."""
        if self._error is not None:
            raise self._error
        if self._reason is FinishReason.DEADLINE:
            raise AgentmemError(Reason.DEADLINE_PASSED, "the deadline passed before the agents were done")
        if self._reason is not None:
            raise AgentmemError(Reason.REQUEST_CANCELLED, "the run was cancelled")

    def hold(self, ticket: Ticket) -> None:
        """A ticket to be cancelled with the run; at once if that has happened."""
        with self._lock:
            self._tickets.append(ticket)
            reason = self._reason
        if reason is not None:
            ticket.cancel(reason)

    def drop(self, ticket: Ticket) -> None:
        with self._lock:
            self._tickets.remove(ticket)


@dataclass(frozen=True)
class Done:
    """How a turn ended, and what was said in it."""

    finished: Finished
    text: str


def run_together(
    engine: Engine, requests: Sequence[Request], halt: Halt, on_text: Callable[[int, str], None]
) -> list[Done]:
    """What became of each, in their order. on_text: of which request, and what; called on this thread.

    If one fails, the others are cancelled. Returns or raises when all have ended.
    """
    halt.check()
    events: queue.SimpleQueue[tuple[int, Event]] = queue.SimpleQueue()
    tickets: list[Ticket] = []
    texts: list[list[str]] = [[] for _ in requests]
    ends: dict[int, Finished] = {}
    failure: BaseException | None = None

    def give_up(error: BaseException) -> None:
        nonlocal failure
        failure = failure or error
        for ticket in tickets:
            ticket.cancel()

    try:
        for index, request in enumerate(requests):
            tickets.append(engine.submit(request, lambda event, index=index: events.put((index, event))))  # type: ignore[misc]
            halt.hold(tickets[-1])
    except AgentmemError as error:
        give_up(error)
    left = len(tickets)
    while left:
        index, event = events.get()
        left -= isinstance(event, Finished | Failed)
        try:
            match event:
                case Delta(text=text) if text:
                    texts[index].append(text)
                    on_text(index, text)
                case Finished():
                    ends[index] = event
                case Failed():
                    give_up(event.error)
        except Exception as error:  # of on_text; the requests must end all the same
            give_up(error)
    for ticket in tickets:
        halt.drop(ticket)
    halt.check()
    if failure is not None:
        raise failure
    return [Done(ends[index], "".join(texts[index])) for index in range(len(requests))]

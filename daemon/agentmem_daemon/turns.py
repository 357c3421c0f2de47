"""A turn between the engine's thread and a gRPC call: events come over, cancellation goes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

import grpc

from agentmem.engine.request import Delta, Event, Failed, Finished, Request, Started
from agentmem.errors import AgentmemError
from agentmem.types import FinishReason
from agentmem_daemon.traces import Traces

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine

# gRPC rounds a deadline up by at most 1% on its way to us, and the client may be the first to notice that it passed.
_DEADLINE_SHARE = 0.01
_DEADLINE_SLACK_S = 0.05


def why_ended(context: grpc.aio.ServicerContext, deadline_s: float | None) -> FinishReason:
    """DEADLINE if the call's deadline has passed, which was so many seconds from its beginning; else CANCELLED."""
    if deadline_s is None:
        return FinishReason.CANCELLED
    slack = _DEADLINE_SLACK_S + _DEADLINE_SHARE * deadline_s
    return FinishReason.DEADLINE if context.time_remaining() <= slack else FinishReason.CANCELLED


class RunningTurn:
    """A submitted request. Used as a context manager: whatever ends the block early cancels the turn at once.

    Iteration yields Started, Delta... and Finished last, and raises the AgentmemError of a turn that failed.
    A client that does not read stalls nobody but itself: the turn goes on, and its events wait here until the call
    ends. There are at most as many as the reply has tokens, a few hundred bytes each: the context window bounds them.
    """

    def __init__(self, engine: Engine, request: Request, context: grpc.aio.ServicerContext, traces: Traces) -> None:
        """Raises AgentmemError if the engine refuses at once."""
        self._context = context
        self._deadline_s = context.time_remaining()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._trace = traces.begin(request, context.invocation_metadata() or ())
        try:
            self._ticket = engine.submit(request, self._receive)
        except AgentmemError as error:
            self._trace.end(Failed(error))
            raise

    def _receive(self, event: Event) -> None:
        """Called on the executor thread."""
        # The loop may be closed at the end of a shutdown; then nobody listens any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: Event) -> None:
        self._events.put_nowait(event)
        if isinstance(event, Finished | Failed):  # whether or not somebody still listens
            self._trace.end(event)

    async def _next(self) -> Started | Delta | Finished:
        event = await self._events.get()
        if isinstance(event, Failed):
            raise event.error
        return event

    async def __aiter__(self) -> AsyncIterator[Started | Delta | Finished]:
        while not isinstance(event := await self._next(), Finished):
            yield event
        yield event

    async def last(self) -> Finished:
        """Waits for the end of the turn."""
        while not isinstance(event := await self._next(), Finished):
            pass
        return event

    def __enter__(self) -> RunningTurn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        if error is not None:
            self._ticket.cancel(why_ended(self._context, self._deadline_s))

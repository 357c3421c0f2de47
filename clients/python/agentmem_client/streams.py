"""Replies and runs as they arrive: a sync and an async stream over the same transcript."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self

import grpc

from agentmem_client.endpoint import Endpoint
from agentmem_client.errors import AgentmemError
from agentmem_client.retries import Attempts
from agentmem_client.rpc_errors import from_rpc_error
from agentmem_client.run_types import RunProgress, RunResult, RunStarted
from agentmem_client.transcript import Item, Opening, ReplyTranscript, Result, RunTranscript, Transcript
from agentmem_client.types import Delta, Reply, Started


class _StreamBase(Generic[Opening, Item, Result]):
    """start: sends the call, again if need be, until its first message has come."""

    def __init__(
        self,
        start: Callable[[], Any],
        attempts: Attempts,
        transcript: Transcript[Opening, Item, Result],
        endpoint: Endpoint,
    ) -> None:
        self._start, self._attempts = start, attempts
        self._rpc = start()
        self._answered = False
        self._endpoint = endpoint
        self._transcript = transcript

    @property
    def result(self) -> Result:
        """What came of it, once the stream is read to its end; the error, if one ended it, or Cancelled.

        Raises StreamUnfinished before: who breaks out of a loop may go on reading, or cancel.
        """
        return self._transcript.result()

    def _pause(self, error: AgentmemError | None) -> float | None:
        """Seconds before the call is sent again; None if this is its end."""
        if error is None or self._answered or self._transcript.cancelled:
            return None
        return self._attempts.pause(error)

    def cancel(self) -> None:
        """Stops what runs. Iteration ends without an error; `on_cancel` decides about a turn."""
        if not self._transcript.ended:
            self._transcript.cancelled = True
            self._rpc.cancel()


class _SyncStream(_StreamBase[Opening, Item, Result]):
    @property
    def started(self) -> Opening:
        """The first message; waits for it."""
        if self._transcript.started is None and (message := self._receive()) is not None:
            self._transcript.take(message)
        return self._transcript.opening()

    def drain(self) -> Result:
        """Reads to the end."""
        for _ in self:
            pass
        return self.result

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        while (message := self._receive()) is not None:
            if (item := self._transcript.take(message)) is not None:
                return item
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _receive(self) -> Any:
        """The next message; None at the end."""
        if self._transcript.ended:
            return None
        while True:
            error: AgentmemError | None = None
            try:
                message = next(self._rpc)
            except StopIteration:
                pass
            except grpc.RpcError as failure:
                error = from_rpc_error(failure, self._endpoint)
            else:
                self._answered = True
                return message
            if (pause := self._pause(error)) is None:
                self._transcript.end(error)
                return None
            time.sleep(pause)
            self._rpc = self._start()
            if self._transcript.cancelled:  # meanwhile, from another thread
                self._rpc.cancel()


class _AsyncStream(_StreamBase[Opening, Item, Result]):
    @property
    def started(self) -> Opening | None:
        """The first message, None until it arrived; `wait_started` waits for it."""
        return self._transcript.started

    async def wait_started(self) -> Opening:
        if self._transcript.started is None and (message := await self._receive()) is not None:
            self._transcript.take(message)
        return self._transcript.opening()

    async def drain(self) -> Result:
        """Reads to the end."""
        async for _ in self:
            pass
        return self.result

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        while (message := await self._receive()) is not None:
            if (item := self._transcript.take(message)) is not None:
                return item
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    async def _receive(self) -> Any:
        """The next message; None at the end."""
        if self._transcript.ended:
            return None
        while True:
            error: AgentmemError | None = None
            try:
                message = await self._rpc.read()
                if message is not grpc.aio.EOF:
                    self._answered = True
                    return message
            except grpc.aio.AioRpcError as failure:
                error = from_rpc_error(failure, self._endpoint)
            except asyncio.CancelledError:
                # grpc.aio reports a cancelled call like a cancelled task; only the latter is asyncio's business.
                task = asyncio.current_task()
                if not self._transcript.cancelled or (task is not None and task.cancelling()):
                    raise
            if (pause := self._pause(error)) is None:
                self._transcript.end(error)
                return None
            await asyncio.sleep(pause)
            self._rpc = self._start()
            if self._transcript.cancelled:  # meanwhile, from another thread
                self._rpc.cancel()


class _Text(_StreamBase[Started, Delta, Reply]):
    def __init__(self, start: Callable[[], Any], attempts: Attempts, request_id: str, endpoint: Endpoint) -> None:
        self._reply = ReplyTranscript(request_id)
        super().__init__(start, attempts, self._reply, endpoint)

    @property
    def text(self) -> str:
        """The text that has arrived."""
        return self._reply.text


class ReplyStream(_Text, _SyncStream[Started, Delta, Reply]):
    """An iterator of deltas. As a context manager it cancels what was not read to the end."""


class AsyncReplyStream(_Text, _AsyncStream[Started, Delta, Reply]):
    """An async iterator of deltas. As an async context manager it cancels what was not read to the end."""


class RunStream(_SyncStream[RunStarted, RunProgress, RunResult]):
    """An iterator of what the agents of a run do. As a context manager it cancels what was not read to the end."""

    def __init__(self, start: Callable[[], Any], attempts: Attempts, endpoint: Endpoint) -> None:
        super().__init__(start, attempts, RunTranscript(), endpoint)


class AsyncRunStream(_AsyncStream[RunStarted, RunProgress, RunResult]):
    """An async iterator of what the agents of a run do. As an async context manager it cancels what was not read."""

    def __init__(self, start: Callable[[], Any], attempts: Attempts, endpoint: Endpoint) -> None:
        super().__init__(start, attempts, RunTranscript(), endpoint)

"""The asynchronous client: `Client` with async and await."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar, Unpack, overload

import grpc

from agentmem.v1 import types_pb2
from agentmem_client import calls, endpoint, files, runs, turns
from agentmem_client.async_agent import AsyncAgent
from agentmem_client.calls import Call, Page, Span
from agentmem_client.daemon_types import (
    DeletedNamespace,
    DiskUsage,
    Event,
    Namespace,
    Pruned,
    RunningRequest,
    Stats,
    Status,
    VerifyReport,
)
from agentmem_client.errors import AgentmemError
from agentmem_client.knowledge import AsyncKnowledgePool
from agentmem_client.readiness import PAUSE, Wait
from agentmem_client.retries import Attempts
from agentmem_client.rpc_errors import from_rpc_error
from agentmem_client.run_types import RunResult
from agentmem_client.runs import RunOptions
from agentmem_client.streams import AsyncReplyStream, AsyncRunStream
from agentmem_client.turns import GenerateOptions
from agentmem_client.types import DEFAULT_NAMESPACE, AgentInfo

T = TypeVar("T")


class AsyncClient:
    """A connection to the local daemon for one event loop. Arguments and errors are those of `Client`."""

    def __init__(
        self,
        socket: str | Path | None = None,
        address: str | None = None,
        token: str | None = None,
        timeout: float | None = None,
    ) -> None:
        self._endpoint = endpoint.find(socket, address, token)
        self._timeout = timeout

    def agent(self, name: str, namespace: str = DEFAULT_NAMESPACE) -> AsyncAgent:
        """A handle; nothing is sent, and the agent need not exist."""
        return AsyncAgent(self, name, namespace)

    @property
    def pool(self) -> AsyncKnowledgePool:
        """A handle for the knowledge pool: which way of working together suited what kind of task."""
        return AsyncKnowledgePool(self)

    def agents(
        self,
        namespace: str = DEFAULT_NAMESPACE,
        *,
        hot_only: bool = False,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[AgentInfo]:
        """The agents of a namespace, by name; fetched page by page. page_size 0 leaves it to the daemon."""
        return self._pages(lambda token: calls.list_agents(namespace, hot_only, page_size, token), timeout)

    @overload
    async def run(
        self,
        query: str,
        *,
        stream: Literal[False] = False,
        timeout: float | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult: ...
    @overload
    async def run(
        self, query: str, *, stream: Literal[True], timeout: float | None = None, **options: Unpack[RunOptions]
    ) -> AsyncRunStream: ...
    async def run(
        self, query: str, *, stream: bool = False, timeout: float | None = None, **options: Unpack[RunOptions]
    ) -> RunResult | AsyncRunStream:
        """Lets temporary agents work on a query together; see `runs.RunOptions`. Changes no agent of yours."""
        request = runs.run(query, **options)
        attempts = Attempts(calls.first_set(timeout, self._timeout))

        def start() -> Any:
            return self._stubs.Run(request, timeout=attempts.left(), metadata=self._endpoint.metadata())

        opened = AsyncRunStream(start, attempts, self._endpoint)
        if stream:
            return opened
        async with opened:
            return await opened.drain()

    async def status(self, *, timeout: float | None = None) -> Status:
        return await self._send(calls.get_status(), timeout)

    async def stats(self, *, timeout: float | None = None) -> Stats:
        return await self._send(calls.get_stats(), timeout)

    async def requests(self, *, timeout: float | None = None) -> list[RunningRequest]:
        """The requests that run, then those that wait, in their order."""
        return await self._send(calls.list_requests(), timeout)

    async def import_agent(
        self,
        path: str | Path,
        name: str | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        *,
        text_only: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AgentInfo:
        """Makes an agent from an exported file, under `name` or else the name it had.

        text_only: take messages and ids alone, and recompute the state at the first turn. Needed for the file of
        another model, which is a ModelMismatch otherwise.
        """
        return await self._send(calls.import_agent(path, namespace, name, text_only, request_id), timeout)

    async def prune(
        self,
        namespace: str = DEFAULT_NAMESPACE,
        *,
        older_than: Span | None = None,
        expired: bool = False,
        history_of: str | None = None,
        dry_run: bool = False,
        request_id: str | None = None,
        expect_turn: int | None = None,
        timeout: float | None = None,
    ) -> list[Pruned]:
        """Deletes agents not used for so long, or expired ones, or the history of one; else files that no agent uses.

        Never anything of a pinned agent. An agent whose history is gone goes on as before, but not back behind this
        point. dry_run gives the same list, and deletes nothing. A repeat of a request_id returns the list without the
        names of agents, which are forgotten. expect_turn: what the last turn of `history_of` must be.
        """
        call = calls.prune(namespace, older_than, expired, history_of, dry_run, request_id, expect_turn)
        return await self._send(call, timeout)

    async def disk_usage(self, *, timeout: float | None = None) -> DiskUsage:
        """Bytes on disk, per namespace and agent."""
        return await self._send(calls.disk_usage(), timeout)

    async def verify(
        self, namespace: str | None = None, *, repair: bool = False, timeout: float | None = None
    ) -> VerifyReport:
        """Reads and checks everything remembered, in one namespace or in all. repair: mend what can be mended."""
        return await self._send(calls.verify(namespace, repair), timeout)

    def events(
        self,
        namespace: str | None = None,
        *,
        agent: str | None = None,
        since: datetime | None = None,
        after: int = 0,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[Event]:
        """What the daemon did on its own, oldest first: evictions, refusals, repairs.

        agent: of the default namespace if none is given. since: local time unless it says otherwise. after: the number
        of the last one seen; asking again and again follows the list, and misses none.
        """
        return self._pages(lambda token: calls.list_events(namespace, agent, since, after, page_size, token), timeout)

    async def create_namespace(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> None:
        """Makes a namespace with a secret of its own, unless there is one of that name."""
        await self._send(calls.create_namespace(name, request_id), timeout)

    async def delete_namespace(
        self,
        name: str,
        *,
        force: bool = False,
        dry_run: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> DeletedNamespace:
        """Removes a namespace with its secret; one of that name that is made later knows nothing of it.

        force: with its agents, pinned ones too; else one that has agents is refused: NAMESPACE_NOT_EMPTY. dry_run: only
        says what would go.
        """
        return await self._send(calls.delete_namespace(name, force, dry_run, request_id), timeout)

    async def namespaces(self, *, timeout: float | None = None) -> list[Namespace]:
        """All namespaces, by name."""
        return await self._send(calls.list_namespaces(), timeout)

    async def wait_until_ready(self, timeout: float = 60.0) -> Status:
        """Waits until the daemon serves; it may not even run yet. Raises what stood in the way after `timeout` s."""
        wait = Wait(timeout)
        while True:
            answer: Status | AgentmemError
            try:
                answer = await self.status(timeout=wait.left())
            except AgentmemError as error:
                answer = error
            if (status := wait.judge(answer)) is not None:
                return status
            await asyncio.sleep(PAUSE)

    async def close(self) -> None:
        """Cancels what is running and hangs up."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        # Made at the first call, since it belongs to the event loop that runs then.
        return grpc.aio.insecure_channel(self._endpoint.target, self._endpoint.channel_options)

    @cached_property
    def _stubs(self) -> calls.Stubs:
        return calls.Stubs(self._channel)

    async def _send(self, call: Call[T], timeout: float | None) -> T:
        async def receive(response: Awaitable[Any]) -> T:
            return call.read(await response)

        return await self._attempt(call, timeout, receive)

    async def _save(self, call: Call[bytes], path: str | Path, timeout: float | None) -> int:
        """A stream into a file. The number of bytes."""

        async def receive(stream: AsyncIterable[Any]) -> int:
            with files.arriving(path) as file:
                async for message in stream:
                    await asyncio.to_thread(file.write, call.read(message))
                return file.tell()

        return await self._attempt(call, timeout, receive)

    async def _attempt(self, call: Call[Any], timeout: float | None, receive: Callable[[Any], Awaitable[T]]) -> T:
        method = getattr(self._stubs, call.method)
        attempts = Attempts(calls.first_set(timeout, self._timeout, call.timeout))
        while True:
            try:
                rpc = method(call.begin(), timeout=attempts.left(), metadata=self._endpoint.metadata())
                return await receive(rpc)
            except grpc.aio.AioRpcError as failure:
                error = from_rpc_error(failure, self._endpoint)
            if (pause := attempts.pause(error)) is None:
                raise error
            await asyncio.sleep(pause)

    async def _pages(self, page_call: Callable[[str], Call[Page[T]]], timeout: float | None) -> AsyncIterator[T]:
        token = ""
        while True:
            page = await self._send(page_call(token), timeout)
            for item in page.items:
                yield item
            if not (token := page.next_token):
                return

    def _generate(
        self, ref: types_pb2.AgentRef, prompt: types_pb2.Input, timeout: float | None, options: GenerateOptions
    ) -> AsyncReplyStream:
        request = turns.generate(ref, prompt, **options)
        attempts = Attempts(calls.first_set(timeout, self._timeout))

        def start() -> Any:
            return self._stubs.Generate(request, timeout=attempts.left(), metadata=self._endpoint.metadata())

        return AsyncReplyStream(start, attempts, request.request_id, self._endpoint)

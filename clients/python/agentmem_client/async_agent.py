"""An agent as an object; the asynchronous kind."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from agentmem.v1 import types_pb2
from agentmem_client import calls, inputs
from agentmem_client.calls import GenerateOptions, TurnOptions
from agentmem_client.inputs import MessageLike
from agentmem_client.streams import AsyncReplyStream
from agentmem_client.types import AgentInfo, Appended, Reply, Rewound, Turn

if TYPE_CHECKING:
    from agentmem_client.async_client import AsyncClient


class AsyncAgent:
    """One agent's memory, by name.

    timeout: a deadline in seconds; by default 30, and none where tokens are computed.
    For the other options see `calls.TurnOptions` and `calls.GenerateOptions`.
    """

    def __init__(self, client: AsyncClient, name: str, namespace: str) -> None:
        self.name = name
        self.namespace = namespace
        self._client = client

    def __repr__(self) -> str:
        return f"AsyncAgent({self.name!r}, namespace={self.namespace!r})"

    @overload
    def chat(
        self,
        messages: str | Sequence[MessageLike],
        *,
        stream: Literal[False] = False,
        system: str | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Coroutine[Any, Any, Reply]: ...
    @overload
    def chat(
        self,
        messages: str | Sequence[MessageLike],
        *,
        stream: Literal[True],
        system: str | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncReplyStream: ...
    def chat(
        self,
        messages: str | Sequence[MessageLike],
        *,
        stream: bool = False,
        system: str | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Coroutine[Any, Any, Reply] | AsyncReplyStream:
        """Adds messages, only what is new, and generates the reply. A string is one user message."""
        return self._generate(inputs.chat(messages, system), stream, timeout, options)

    @overload
    def generate(
        self,
        text: str | None = None,
        *,
        messages: Sequence[MessageLike] | None = None,
        token_ids: Iterable[int] | None = None,
        stream: Literal[False] = False,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Coroutine[Any, Any, Reply]: ...
    @overload
    def generate(
        self,
        text: str | None = None,
        *,
        messages: Sequence[MessageLike] | None = None,
        token_ids: Iterable[int] | None = None,
        stream: Literal[True],
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncReplyStream: ...
    def generate(
        self,
        text: str | None = None,
        *,
        messages: Sequence[MessageLike] | None = None,
        token_ids: Iterable[int] | None = None,
        stream: bool = False,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Coroutine[Any, Any, Reply] | AsyncReplyStream:
        """Adds raw text, messages or token ids, whichever is given, and goes on from there."""
        return self._generate(inputs.prompt(text, messages, token_ids), stream, timeout, options)

    async def append(
        self,
        content: str | Sequence[MessageLike] | None = None,
        *,
        token_ids: Iterable[int] | None = None,
        timeout: float | None = None,
        **options: Unpack[TurnOptions],
    ) -> Appended:
        """Adds without generating: raw text (a string), messages (a list), or token ids."""
        return await self._client._send(calls.append(self._ref, inputs.append(content, token_ids), **options), timeout)

    async def create(self, *, request_id: str | None = None, timeout: float | None = None) -> AgentInfo:
        """Makes the agent, empty. AgentExists if the name is taken."""
        return await self._client._send(calls.create_agent(self._ref, request_id), timeout)

    async def info(self, *, timeout: float | None = None) -> AgentInfo:
        return await self._client._send(calls.get_agent(self._ref), timeout)

    async def turns(self, *, include_messages: bool = False, timeout: float | None = None) -> list[Turn]:
        """All turns, oldest first."""
        ref = self._ref
        pages = self._client._pages(lambda token: calls.list_turns(ref, include_messages, token), timeout)
        return [turn async for turn in pages]

    async def delete(
        self, *, request_id: str | None = None, expect_turn: int | None = None, timeout: float | None = None
    ) -> int:
        """Forgets the agent. The number of bytes freed on disk."""
        return await self._client._send(calls.delete_agent(self._ref, request_id, expect_turn), timeout)

    async def fork(
        self,
        new_name: str,
        *,
        at_turn: int | None = None,
        request_id: str | None = None,
        expect_turn: int | None = None,
        timeout: float | None = None,
    ) -> AsyncAgent:
        """A new agent that shares this one's timeline up to the end of `at_turn`, the last one by default."""
        await self._client._send(calls.fork_agent(self._ref, new_name, at_turn, request_id, expect_turn), timeout)
        return AsyncAgent(self._client, new_name, self.namespace)

    async def rewind(
        self,
        to_turn: int,
        *,
        request_id: str | None = None,
        expect_turn: int | None = None,
        timeout: float | None = None,
    ) -> Rewound:
        """Sets the agent back to the end of a turn; 0 empties it."""
        return await self._client._send(calls.rewind_agent(self._ref, to_turn, request_id, expect_turn), timeout)

    @property
    def _ref(self) -> types_pb2.AgentRef:
        return inputs.agent_ref(self.namespace, self.name)

    def _generate(
        self, prompt: types_pb2.Input, stream: bool, timeout: float | None, options: GenerateOptions
    ) -> Coroutine[Any, Any, Reply] | AsyncReplyStream:
        if stream:
            return self._client._generate(self._ref, prompt, timeout, options)
        return self._drained(prompt, timeout, options)

    async def _drained(self, prompt: types_pb2.Input, timeout: float | None, options: GenerateOptions) -> Reply:
        async with self._client._generate(self._ref, prompt, timeout, options) as reply:
            return await reply.drain()

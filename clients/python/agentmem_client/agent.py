"""An agent as an object; the synchronous kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, Unpack, overload

from agentmem.v1 import types_pb2
from agentmem_client import calls, inputs
from agentmem_client.calls import GenerateOptions, TurnOptions
from agentmem_client.inputs import MessageLike
from agentmem_client.streams import ReplyStream
from agentmem_client.types import AgentInfo, Appended, Reply, Rewound, Turn

if TYPE_CHECKING:
    from agentmem_client.client import Client


class Agent:
    """One agent's memory, by name.

    timeout: a deadline in seconds; by default 30, and none where tokens are computed.
    For the other options see `calls.TurnOptions` and `calls.GenerateOptions`.
    """

    def __init__(self, client: Client, name: str, namespace: str) -> None:
        self.name = name
        self.namespace = namespace
        self._client = client

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, namespace={self.namespace!r})"

    @overload
    def chat(
        self,
        messages: str | Sequence[MessageLike],
        *,
        stream: Literal[False] = False,
        system: str | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Reply: ...
    @overload
    def chat(
        self,
        messages: str | Sequence[MessageLike],
        *,
        stream: Literal[True],
        system: str | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> ReplyStream: ...
    def chat(
        self,
        messages: str | Sequence[MessageLike],
        *,
        stream: bool = False,
        system: str | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Reply | ReplyStream:
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
    ) -> Reply: ...
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
    ) -> ReplyStream: ...
    def generate(
        self,
        text: str | None = None,
        *,
        messages: Sequence[MessageLike] | None = None,
        token_ids: Iterable[int] | None = None,
        stream: bool = False,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Reply | ReplyStream:
        """Adds raw text, messages or token ids, whichever is given, and goes on from there."""
        return self._generate(inputs.prompt(text, messages, token_ids), stream, timeout, options)

    def append(
        self,
        content: str | Sequence[MessageLike] | None = None,
        *,
        token_ids: Iterable[int] | None = None,
        timeout: float | None = None,
        **options: Unpack[TurnOptions],
    ) -> Appended:
        """Adds without generating: raw text (a string), messages (a list), or token ids."""
        return self._client._send(calls.append(self._ref, inputs.append(content, token_ids), **options), timeout)

    def create(self, *, request_id: str | None = None, timeout: float | None = None) -> AgentInfo:
        """Makes the agent, empty. AgentExists if the name is taken."""
        return self._client._send(calls.create_agent(self._ref, request_id), timeout)

    def info(self, *, timeout: float | None = None) -> AgentInfo:
        return self._client._send(calls.get_agent(self._ref), timeout)

    def turns(self, *, include_messages: bool = False, timeout: float | None = None) -> list[Turn]:
        """All turns, oldest first."""
        ref = self._ref
        return list(self._client._pages(lambda token: calls.list_turns(ref, include_messages, token), timeout))

    def delete(
        self, *, request_id: str | None = None, expect_turn: int | None = None, timeout: float | None = None
    ) -> int:
        """Forgets the agent. The number of bytes freed on disk."""
        return self._client._send(calls.delete_agent(self._ref, request_id, expect_turn), timeout)

    def fork(
        self,
        new_name: str,
        *,
        at_turn: int | None = None,
        request_id: str | None = None,
        expect_turn: int | None = None,
        timeout: float | None = None,
    ) -> Agent:
        """A new agent that shares this one's timeline up to the end of `at_turn`, the last one by default."""
        self._client._send(calls.fork_agent(self._ref, new_name, at_turn, request_id, expect_turn), timeout)
        return Agent(self._client, new_name, self.namespace)

    def rewind(
        self,
        to_turn: int,
        *,
        request_id: str | None = None,
        expect_turn: int | None = None,
        timeout: float | None = None,
    ) -> Rewound:
        """Sets the agent back to the end of a turn; 0 empties it."""
        return self._client._send(calls.rewind_agent(self._ref, to_turn, request_id, expect_turn), timeout)

    @property
    def _ref(self) -> types_pb2.AgentRef:
        return inputs.agent_ref(self.namespace, self.name)

    def _generate(
        self, prompt: types_pb2.Input, stream: bool, timeout: float | None, options: GenerateOptions
    ) -> Reply | ReplyStream:
        reply = self._client._generate(self._ref, prompt, timeout, options)
        if stream:
            return reply
        with reply:
            return reply.drain()

"""An agent as an object; the asynchronous kind."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from agentmem.v1 import types_pb2
from agentmem_client import calls, inputs, turns
from agentmem_client.calls import Span
from agentmem_client.inputs import MessageLike
from agentmem_client.streams import AsyncReplyStream
from agentmem_client.turns import GenerateOptions, SpliceOptions, TurnOptions
from agentmem_client.types import (
    AgentInfo,
    Appended,
    Diff,
    Evicted,
    Prefetched,
    Reply,
    Rewound,
    Slice,
    Spliced,
    Thought,
    Turn,
)

if TYPE_CHECKING:
    from agentmem_client.async_client import AsyncClient


class AsyncAgent:
    """One agent's memory, by name.

    tokens_to_recompute: of a fork, positions to compute before it can go on; 0 for full attention.
    timeout: a deadline in seconds. By default 30 for calls that only look, and none for those that wait behind turns
    that run, or send files.
    For the other options see `turns.TurnOptions` and `turns.GenerateOptions`.
    """

    def __init__(self, client: AsyncClient, name: str, namespace: str, tokens_to_recompute: int = 0) -> None:
        self.name = name
        self.namespace = namespace
        self.tokens_to_recompute = tokens_to_recompute
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
        return await self._client._send(turns.append(self._ref, inputs.append(content, token_ids), **options), timeout)

    async def splice(
        self,
        parts: str | Slice | Iterable[str | Slice],
        *,
        reposition: Literal["exact", "reposition", "blend"] = "reposition",
        order: Literal["given", "canonical"] = "given",
        ratio: float | None = None,
        check_layer: int | None = None,
        timeout: float | None = None,
        **options: Unpack[SpliceOptions],
    ) -> Spliced:
        """Puts parts of other agents' memories behind this one's: whole ones by name, or `Slice`s.

        reposition: "exact" computes them anew, "reposition" takes their state as it is, "blend" computes those
        positions anew that miss their context most: the share `ratio`, judged at the layer `check_layer`.
        order: "canonical" makes the same memory of the same parts however they are given.
        """
        call = turns.splice(self._ref, parts, reposition, order, ratio, check_layer, **options)
        return await self._client._send(call, timeout)

    async def think(
        self,
        steps: int,
        content: str | Sequence[MessageLike] | None = None,
        *,
        token_ids: Iterable[int] | None = None,
        projection: Literal["identity", "ridge", "softmax"] = "ridge",
        timeout: float | None = None,
        **options: Unpack[TurnOptions],
    ) -> Thought:
        """Takes latent steps: the last hidden state is fed back as the next input, without a word.

        content, token_ids: what to think about, as for `append`; without any it goes on from where the agent is.
        projection: how a hidden state becomes an input, see `agentmem.v1.Projection`.
        """
        prompt = inputs.thinking(content, token_ids)
        return await self._client._send(turns.think(self._ref, steps, prompt, projection, **options), timeout)

    async def create(
        self,
        *,
        share: Literal["namespace", "private"] = "namespace",
        ttl: Span | None = None,
        pinned: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AgentInfo:
        """Makes the agent, empty. AgentExists if the name is taken.

        share: "private" keeps its blocks from all other agents. ttl: it expires after so many seconds, or this
        timedelta, and goes with the next `Client.prune(expired=True)`. pinned: see `pin`.
        """
        return await self._client._send(calls.create_agent(self._ref, share, ttl, pinned, request_id), timeout)

    async def info(self, *, timeout: float | None = None) -> AgentInfo:
        return await self._client._send(calls.get_agent(self._ref), timeout)

    async def turns(self, *, include_messages: bool = False, timeout: float | None = None) -> list[Turn]:
        """All turns, oldest first."""
        ref = self._ref
        pages = self._client._pages(lambda token: calls.list_turns(ref, include_messages, token), timeout)
        return [turn async for turn in pages]

    async def delete(
        self,
        *,
        dry_run: bool = False,
        request_id: str | None = None,
        expect_turn: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """Forgets the agent. The number of bytes freed on disk, or with dry_run those that would be."""
        return await self._client._send(calls.delete_agent(self._ref, dry_run, request_id, expect_turn), timeout)

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
        call = calls.fork_agent(self._ref, new_name, at_turn, request_id, expect_turn)
        return AsyncAgent(self._client, new_name, self.namespace, await self._client._send(call, timeout))

    async def rewind(
        self,
        to_turn: int,
        *,
        request_id: str | None = None,
        expect_turn: int | None = None,
        timeout: float | None = None,
    ) -> Rewound:
        """Sets the agent back to the end of a turn; 0 empties it. This is a turn itself, which can be undone."""
        return await self._client._send(calls.rewind_agent(self._ref, to_turn, request_id, expect_turn), timeout)

    async def diff(self, other: str | AsyncAgent, *, timeout: float | None = None) -> Diff:
        """Where this timeline and another agent's part. A name is looked for in this agent's namespace."""
        ref = other._ref if isinstance(other, AsyncAgent) else inputs.agent_ref(self.namespace, other)
        return await self._client._send(calls.diff_agents(self._ref, ref), timeout)

    async def update(
        self,
        *,
        pinned: bool | None = None,
        ttl: Span | None = None,
        share: Literal["namespace", "private"] | None = None,
        request_id: str | None = None,
        expect_turn: int | None = None,
        timeout: float | None = None,
    ) -> AgentInfo:
        """Changes how the agent is kept; what is None stays as it is. For the meanings see `create`.

        ttl counts from now, whether the agent is used or not; 0 takes an earlier one back.
        """
        call = calls.update_agent(self._ref, pinned, ttl, share, request_id, expect_turn)
        return await self._client._send(call, timeout)

    async def pin(self, *, timeout: float | None = None) -> AgentInfo:
        """It is never pruned, and never evicted to make room."""
        return await self.update(pinned=True, timeout=timeout)

    async def unpin(self, *, timeout: float | None = None) -> AgentInfo:
        return await self.update(pinned=False, timeout=timeout)

    async def evict(
        self,
        to: Literal["warm", "cold"] = "warm",
        *,
        dry_run: bool = False,
        request_id: str | None = None,
        expect_turn: int | None = None,
        timeout: float | None = None,
    ) -> Evicted:
        """Frees RAM; with "cold" also the blocks on disk that nobody else uses. The agent remembers as before.

        A cold agent's state is recomputed at its next turn.
        """
        return await self._client._send(calls.evict_agent(self._ref, to, dry_run, request_id, expect_turn), timeout)

    async def prefetch(self, *, request_id: str | None = None, timeout: float | None = None) -> Prefetched:
        """Brings the state into RAM, so that the next turn need not wait for it."""
        return await self._client._send(calls.prefetch_agent(self._ref, request_id), timeout)

    async def export(self, path: str | Path, *, timeout: float | None = None) -> int:
        """Writes the agent to one file, which `Client.import_agent` reads. The number of bytes.

        A file of that name is replaced, once the new one is whole. It holds what was said, and is not encrypted.
        """
        return await self._client._save(calls.export_agent(self._ref), path, timeout)

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

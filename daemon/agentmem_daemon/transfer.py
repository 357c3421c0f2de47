"""Files between the engine's threads and gRPC streams: piece by piece, each side waiting for the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType

from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef
from agentmem.v1 import agents_pb2
from agentmem_daemon.errors import unreadable

PIECE_BYTES = 1 << 20
"""Of one message, whatever the engine gives at a time."""


async def pieces(export: Callable[[AgentRef], Iterator[bytes]], ref: AgentRef) -> AsyncIterator[bytes]:
    """The exported file. `export` and its iterator run on other threads, only as fast as pieces are taken."""
    chunks = await asyncio.to_thread(export, ref)
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        for at in range(0, len(chunk), PIECE_BYTES):
            yield chunk[at : at + PIECE_BYTES]


class Incoming:
    """The chunks of an ImportAgent stream as a plain iterator, for a thread other than the loop's.

    Used as a context manager on the loop: when the call ends early, the iterator raises REQUEST_CANCELLED.
    """

    def __init__(self, messages: AsyncIterator[agents_pb2.ImportAgentRequest | None]) -> None:
        self._messages = messages
        self._loop = asyncio.get_running_loop()
        self._ended = False

    def __enter__(self) -> Iterator[bytes]:
        return self._chunks()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self._ended = True

    def _chunks(self) -> Iterator[bytes]:
        while True:
            chunk = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            if self._ended:
                raise AgentmemError(Reason.REQUEST_CANCELLED, "The import was cancelled; nothing was imported.")
            if chunk is None:
                return
            yield chunk

    async def _next(self) -> bytes | None:
        """The next chunk; None at the end."""
        async for message in self._messages:
            if message is None:
                raise unreadable()
            if message.WhichOneof("part") != "chunk":
                raise AgentmemError(Reason.INPUT_INVALID, "After its header an import holds chunks only.")
            return message.chunk
        return None

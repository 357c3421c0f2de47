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
    """The messages of an ImportAgent stream. Used as a context manager, on the loop's thread.

    When the call ends early, the iterator of chunks raises REQUEST_CANCELLED. (On a loaded machine gRPC may tell of the
    end of the messages first: then the file was cut short, which its own checks find.) When it ends with an error, the
    rest of the stream is read all the same: a client whose messages are still on their way reports INTERNAL instead of
    ours.
    """

    def __init__(self, messages: AsyncIterator[agents_pb2.ImportAgentRequest | None]) -> None:
        self._messages = messages
        self._loop = asyncio.get_running_loop()
        self._ended = False

    async def __aenter__(self) -> Incoming:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self._ended = True
        if isinstance(error, Exception):
            async for _ in self._messages:
                pass

    async def first(self) -> agents_pb2.ImportAgentRequest | None:
        """None if there is none that can be read."""
        return await anext(self._messages, None)

    def chunks(self) -> Iterator[bytes]:
        """All further messages, for a thread other than the loop's."""
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

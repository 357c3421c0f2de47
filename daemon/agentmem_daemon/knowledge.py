"""The knowledge pool between its own types and the wire."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.entry import Entry
from agentmem.primitives.knowledge import KnowledgePool
from agentmem.primitives.plan import Plan
from agentmem.v1 import primitives_pb2
from agentmem_daemon import paging, requests
from agentmem_daemon.errors import unreadable

DEFAULT_NEAREST = 5
PIECE_BYTES = 1 << 20
MAX_IMPORT_BYTES = 256 << 20
"""It is read whole, before any of it is taken in."""
_LISTING = ("pool",)


def listed(pool: KnowledgePool, request: primitives_pb2.ListPoolRequest) -> primitives_pb2.ListPoolResponse:
    """Raises INPUT_INVALID, PAGE_TOKEN_INVALID, and what the pool does."""
    if request.query:
        if request.page_token:
            raise AgentmemError(Reason.PAGE_TOKEN_INVALID, "What is nearest to a query comes on one page.")
        matches = pool.nearest(request.query, request.page_size or DEFAULT_NEAREST)
        return primitives_pb2.ListPoolResponse(entries=[entry(m.entry, m.similarity) for m in matches])
    limit, after = paging.page_limit(request.page_size), paging.last_number(_LISTING, request.page_token)
    found = pool.page(after, limit + 1)
    more = len(found) > limit
    return primitives_pb2.ListPoolResponse(
        entries=[entry(one) for _, one in found[:limit]],
        next_page_token=paging.page_token(_LISTING, str(found[limit - 1][0])) if more else "",
    )


def recorded(pool: KnowledgePool, request: primitives_pb2.RecordOutcomeRequest) -> primitives_pb2.RecordOutcomeResponse:
    """Raises INPUT_INVALID, PLAN_INVALID, REQUEST_ID_REUSED, and what the pool does."""
    request_id, plan = requests.request_id(request.request_id), Plan.parse(request.plan)
    repeated = bool(request_id) and pool.has_recorded(request_id)
    known = pool.record(request.query, plan, request.score, entry=request.entry_id or None, request_id=request_id)
    return primitives_pb2.RecordOutcomeResponse(entry=entry(known), repeated_result=repeated)


def pieces(lines: Iterator[str]) -> Iterator[bytes]:
    """Of a file of these lines."""
    piece = bytearray()
    for line in lines:
        piece += line.encode()
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


async def lines(messages: AsyncIterator[primitives_pb2.ImportPoolRequest | None]) -> io.TextIOWrapper:
    """Of the file that comes in a stream. Raises IMPORT_INVALID, but only once the client has sent all of it:
    one whose messages are still on their way reports INTERNAL instead of ours.
    """
    data, error = io.BytesIO(), None
    async for message in messages:
        if error is None and message is None:
            error = unreadable()
        elif error is None and message is not None and data.tell() + len(message.chunk) > MAX_IMPORT_BYTES:
            error = AgentmemError(
                Reason.IMPORT_INVALID, f"A knowledge file has {MAX_IMPORT_BYTES} bytes at the most; this one has more."
            )
        elif error is None and message is not None:
            data.write(message.chunk)
    if error is not None:
        raise error
    data.seek(0)
    return io.TextIOWrapper(data, "utf-8", newline="\n")


def entry(one: Entry, similarity: float = 0.0) -> primitives_pb2.PoolEntry:
    return primitives_pb2.PoolEntry(
        id=one.id,
        title=one.title,
        description=one.description,
        tags=one.tags,
        plan=one.plan.json_text(),
        why=one.why,
        source=one.source,
        outcomes=one.outcomes.count,
        mean_score=one.outcomes.mean,
        similarity=similarity,
    )

"""The knowledge pool's calls, and both clients' handles for it: which plan suited what kind of task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.v1 import primitives_pb2
from agentmem_client import convert, inputs
from agentmem_client.calls import Call, Page
from agentmem_client.files import pieces
from agentmem_client.knowledge_types import PoolEntry

if TYPE_CHECKING:
    from agentmem_client.async_client import AsyncClient
    from agentmem_client.client import Client

PlanLike = str | Mapping[str, Any]
"""JSON, or what it says."""


def list_pool(query: str, page_size: int, page_token: str) -> Call[Page[PoolEntry]]:
    request = primitives_pb2.ListPoolRequest(
        query=inputs.text(query, "The query"),
        page_size=inputs.unsigned(page_size, "page_size", 32),
        page_token=page_token,
    )
    return Call("ListPool", request, lambda r: Page(tuple(map(convert.pool_entry, r.entries)), r.next_page_token))


def record(query: str, plan: PlanLike, score: float, entry_id: str | None, request_id: str | None) -> Call[PoolEntry]:
    request = primitives_pb2.RecordOutcomeRequest(
        query=inputs.text(query, "The query"),
        plan=inputs.plan(plan),
        score=inputs.number(score, "score", "INPUT_INVALID"),
        entry_id=inputs.text(entry_id or "", "The entry's id"),
        request_id=inputs.request_id(request_id),
    )
    return Call("RecordOutcome", request, lambda response: convert.pool_entry(response.entry))


def forget(entry_id: str) -> Call[bool]:
    request = primitives_pb2.ForgetOutcomeRequest(entry_id=inputs.text(entry_id, "The entry's id"))
    return Call("ForgetOutcome", request, lambda response: response.forgotten)


def export() -> Call[bytes]:
    """Reads the pieces of the file, one of each response."""
    return Call("ExportPool", primitives_pb2.ExportPoolRequest(), lambda r: r.chunk, timeout=None)


def import_file(path: str | Path) -> Call[int]:
    """Raises OSError if the file cannot be opened."""
    stream = pieces(Path(path), lambda piece: primitives_pb2.ImportPoolRequest(chunk=piece))
    return Call("ImportPool", stream, lambda response: response.changed, timeout=None)


class KnowledgePool:
    """Of the daemon: which plan suited what kind of task. Got from `Client.pool`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def entries(self, *, page_size: int = 0, timeout: float | None = None) -> Iterator[PoolEntry]:
        """All of them, in the order in which they came; fetched page by page."""
        return self._client._pages(lambda token: list_pool("", page_size, token), timeout)

    def nearest(self, query: str, k: int = 5, *, timeout: float | None = None) -> list[PoolEntry]:
        """Those that suit a query best, best first; fewer, or none, if fewer share a word with it."""
        return list(self._client._send(_nearest(query, k), timeout).items)

    def record(
        self,
        query: str,
        plan: PlanLike,
        score: float,
        *,
        entry_id: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> PoolEntry:
        """Notes, durably, how well a plan did on a query, 0 to 1. The pool then holds the query's text.

        entry_id: of the entry that the plan came from; the score counts for it, too.
        """
        return self._client._send(record(query, plan, score, entry_id, request_id), timeout)

    def forget(self, entry_id: str, *, timeout: float | None = None) -> bool:
        """Removes a learned entry, and its text from the file; False if there is none of that id."""
        return self._client._send(forget(entry_id), timeout)

    def export(self, path: str | Path, *, timeout: float | None = None) -> int:
        """Writes all entries to a JSONL file, readable by its owner only. The number of bytes."""
        return self._client._save(export(), path, timeout)

    def import_file(self, path: str | Path, *, timeout: float | None = None) -> int:
        """Takes in an exported file, all of it or nothing. How many entries came or changed."""
        return self._client._send(import_file(path), timeout)


class AsyncKnowledgePool:
    """As `KnowledgePool`. Got from `AsyncClient.pool`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def entries(self, *, page_size: int = 0, timeout: float | None = None) -> AsyncIterator[PoolEntry]:
        return self._client._pages(lambda token: list_pool("", page_size, token), timeout)

    async def nearest(self, query: str, k: int = 5, *, timeout: float | None = None) -> list[PoolEntry]:
        return list((await self._client._send(_nearest(query, k), timeout)).items)

    async def record(
        self,
        query: str,
        plan: PlanLike,
        score: float,
        *,
        entry_id: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> PoolEntry:
        return await self._client._send(record(query, plan, score, entry_id, request_id), timeout)

    async def forget(self, entry_id: str, *, timeout: float | None = None) -> bool:
        return await self._client._send(forget(entry_id), timeout)

    async def export(self, path: str | Path, *, timeout: float | None = None) -> int:
        return await self._client._save(export(), path, timeout)

    async def import_file(self, path: str | Path, *, timeout: float | None = None) -> int:
        return await self._client._send(import_file(path), timeout)


def _nearest(query: str, k: int) -> Call[Page[PoolEntry]]:
    if not inputs.text(query, "The query"):
        raise inputs.invalid("The query is empty.")
    return list_pool(query, k, "")

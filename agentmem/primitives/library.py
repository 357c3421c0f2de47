"""The knowledge pool of a state folder, for any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.knowledge import KnowledgePool

FILE = "knowledge.sqlite"
T = TypeVar("T")


class Library:
    """Opens the pool when it is first asked for: a damaged one keeps nobody from anything else.

    encrypted: the state folder is, which the pool is not: so nothing that people said may be written to it.
    """

    def __init__(self, folder: Path, *, encrypted: bool = False) -> None:
        self._path, self._encrypted = folder / FILE, encrypted
        self._pool: KnowledgePool | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "agentmem-knowledge")  # which alone touches the file

    def do(self, function: Callable[[KnowledgePool], T]) -> T:
        """What the function makes of the pool; waits for it. Raises what that does, and what opening the pool does."""
        with self._lock:
            if self._closed:
                raise AgentmemError(Reason.SHUTTING_DOWN, "the knowledge pool is closed; the daemon is stopping")
            future = self._thread.submit(lambda: function(self._opened()))
        return future.result()

    def learn(self, function: Callable[[KnowledgePool], T]) -> T:
        """As `do`, for what writes the text of queries. Raises KNOWLEDGE_NOT_ENCRYPTED."""
        if self._encrypted:
            message = (
                "This state folder is encrypted, and the knowledge pool would hold the text of queries in the clear: "
                "outcomes are neither recorded in it nor imported."
            )
            raise AgentmemError(Reason.KNOWLEDGE_NOT_ENCRYPTED, message)
        return self.do(function)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _opened(self) -> KnowledgePool:
        if self._pool is None:
            self._pool = KnowledgePool(self._path)
        return self._pool

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.close()

"""Adding a turn: block files first, then its record, then one catalog transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from agentmem.errors import AgentmemError
from agentmem.store import records
from agentmem.store.blockfile import Block
from agentmem.store.blocks import BlockFiles
from agentmem.store.catalog import blocks as block_rows
from agentmem.store.catalog import turns
from agentmem.store.catalog.thread import Catalog
from agentmem.store.keys import catalog_parent
from agentmem.store.namespaces import Namespaces
from agentmem.store.records import TurnRecord
from agentmem.store.rows import AgentRow, BlockRow, NewTurn
from agentmem.store.turnfiles import TurnFiles
from agentmem.types import Share, TurnKind

_T = TypeVar("_T")


class TurnWriter:
    """The caller sees to it that nobody else changes the store meanwhile."""

    def __init__(self, catalog: Catalog, blocks: BlockFiles, turns: TurnFiles, namespaces: Namespaces) -> None:
        self._catalog = catalog
        self._blocks = blocks
        self._turns = turns
        self._namespaces = namespaces

    def add(
        self,
        record: TurnRecord,
        blocks: Iterable[Block],
        enter: Callable[[sqlite3.Connection, NewTurn], _T],
        agent: AgentRow | None = None,
    ) -> tuple[_T, int]:
        """What the transaction `enter` returns, and the bytes written. blocks: those that may not be there yet.

        agent: if the turn makes it. Raises OSError if the files cannot be written; then nothing has changed.
        """
        new, data = self.encode(record)
        if agent is None:
            self._turns.keep(record.agent_id)
        rows, written = self._write(record, data, blocks, agent)
        # From here on nothing is cleaned up on failure: a COMMIT that reports an error may still have happened.
        entered = self._catalog.write(enter, NewTurn(record, new.record_bytes, new.digest, rows))
        if agent is not None:
            self._turns.keep(agent.id)
        return entered, written

    def encode(self, record: TurnRecord) -> tuple[NewTurn, bytes]:
        """A turn that needs no new blocks, and the record's file."""
        begins = record.kind is TurnKind.FORK
        previous = b"" if begins else self._catalog.read(turns.digest, record.agent_id, record.number - 1)
        data, digest = records.encode(record, previous, self._secret(record))
        return NewTurn(record, len(data), digest, {}), data

    def _write(
        self, record: TurnRecord, data: bytes, blocks: Iterable[Block], agent: AgentRow | None
    ) -> tuple[dict[bytes, BlockRow], int]:
        """The catalog rows of the blocks, and the bytes written. Removes what it wrote if it cannot write all."""
        secret = self._secret(record)
        rows: dict[bytes, BlockRow] = {}
        fresh: list[bytes] = []
        written = 0
        try:
            for block in blocks:
                known = self._catalog.read(block_rows.known, [block.key]).get(block.key)
                if known is None:
                    fresh.append(block.key)
                size, new = self._blocks.keep_or_write(block, known.size if known else None, secret)
                rows[block.key] = BlockRow(size, block.tokens, catalog_parent(secret, block.parent, block.state_id))
                written += new
            if agent is not None:
                self._turns.begin(agent.id, agent.share is Share.PRIVATE)
            return rows, written + self._turns.write(record.agent_id, record.number, data)
        except (OSError, AgentmemError):  # the latter from blocks that are read as they are written
            self._turns.remove_quietly(record.agent_id, record.number)
            if agent is not None:
                with suppress(OSError):
                    self._turns.remove_all(agent.id)
            for key in fresh:
                self._blocks.remove_quietly(key)
            raise

    def _secret(self, record: TurnRecord) -> bytes:
        return self._namespaces.get(record.namespace).secret

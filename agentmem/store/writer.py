"""Adding a turn: block files first, then its record, then one catalog transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from agentmem.errors import AgentmemError
from agentmem.store import commit as rules
from agentmem.store import records
from agentmem.store.blockfile import Block
from agentmem.store.catalog import agents, requests, turns
from agentmem.store.catalog import blocks as block_rows
from agentmem.store.core import Core
from agentmem.store.records import TurnRecord
from agentmem.store.rows import AgentRow, BlockRow, NewTurn
from agentmem.types import Share, TurnKind

_T = TypeVar("_T")


class TurnWriter:
    """The caller holds the store still."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def commit(self, record: TurnRecord, blocks: list[Block]) -> int:
        """See `Store.commit`."""
        core = self._core
        agent = core.catalog.read(agents.by_id, record.agent_id)
        history = core.history(agent)
        timeline = history.timeline()
        kept = timeline[: record.base_blocks]
        left = set(history.companions()).difference(record.companions)
        dropped = {use.key for use in (*timeline[record.base_blocks :], *left)}
        known = core.catalog.read(block_rows.known, {use.key for use in (*record.blocks, *record.companions)})
        known |= core.catalog.read(block_rows.get, dropped)
        ahead = list(core.ahead.among(use.key for use in record.blocks))
        tokens = {key: row.tokens for key, row in known.items()} | {b.key: b.tokens for b in (*ahead, *blocks)}
        secret = core.secret(agent.namespace)
        rules.check(record, agent, kept, tokens)
        rules.check_blocks(blocks, record, secret)
        blocks = [*ahead, *blocks]
        core.catalog.read(requests.check_new, record.namespace, record.request_id)
        longer = rules.superseded({key: tokens[key] for key in dropped}, blocks, secret)
        needless, written = self.add(record, blocks, partial(turns.add, superseded=longer))
        for key in needless:
            core.blocks.remove_quietly(key)
        return written

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
            self._core.turns.keep(record.agent_id)
        rows, written = self._write(record, data, blocks, agent)
        # From here on nothing is cleaned up on failure: a COMMIT that reports an error may still have happened.
        entered = self._core.catalog.write(enter, NewTurn(record, new.record_bytes, new.digest, rows))
        if agent is not None:
            self._core.turns.keep(agent.id)
        return entered, written

    def encode(self, record: TurnRecord) -> tuple[NewTurn, bytes]:
        """A turn that needs no new blocks, and the record's file."""
        begins = record.kind is TurnKind.FORK
        previous = b"" if begins else self._core.catalog.read(turns.digest, record.agent_id, record.number - 1)
        data, digest = records.encode(record, previous, self._core.secret(record.namespace))
        data = self._core.turns.sealed(record.agent_id, record.number, data)
        return NewTurn(record, len(data), digest, {}), data

    def _write(
        self, record: TurnRecord, data: bytes, blocks: Iterable[Block], agent: AgentRow | None
    ) -> tuple[dict[bytes, BlockRow], int]:
        """The catalog rows of the blocks, and the bytes written. Removes what it wrote if it cannot write all."""
        secret = self._core.secret(record.namespace)
        rows: dict[bytes, BlockRow] = {}
        fresh: list[bytes] = []
        written = 0
        there = self._core.catalog.read(block_rows.known, [use.key for use in (*record.blocks, *record.companions)])
        try:
            for block in blocks:
                row, new = self._core.ahead.row(block.key), 0
                if row is None:
                    known = there.get(block.key)
                    if known is None:
                        fresh.append(block.key)
                    row, new = self._core.blocks.keep_or_write(block, known, secret)
                rows[block.key] = row
                written += new
            if agent is not None:
                self._core.turns.begin(agent.id, agent.share is Share.PRIVATE)
            return rows, written + self._core.turns.write(record.agent_id, record.number, data)
        except (OSError, AgentmemError):  # the latter from blocks that are read as they are written
            self._core.turns.remove_quietly(record.agent_id, record.number)
            if agent is not None:
                with suppress(OSError):
                    self._core.turns.remove_all(agent.id)
            for key in fresh:
                self._core.blocks.remove_quietly(key)
            raise

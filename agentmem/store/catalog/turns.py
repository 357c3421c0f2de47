"""Turns and timelines in the catalog."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping

from agentmem.errors import AgentmemError, Reason
from agentmem.store.catalog import agents, blocks, requests
from agentmem.store.catalog.scalar import number
from agentmem.store.catalog.tables import FOREVER
from agentmem.store.records import BlockUse
from agentmem.store.rows import AgentRow, BlockRow, NewTurn, RequestRow, TurnRow
from agentmem.types import TurnKind

_DISAGREEING = """SELECT count(*) FROM agents a
    WHERE a.turn IS NOT coalesce((SELECT max(number) FROM turns WHERE agent=a.id), 0)
    OR a.tokens IS NOT coalesce((SELECT tokens FROM turns WHERE agent=a.id AND number=a.turn), 0)"""


def add(db: sqlite3.Connection, new: NewTurn, superseded: dict[bytes, bytes]) -> list[bytes]:
    """Makes a turn the agent's last one. superseded: longer block by the key it replaces.

    Only this agent's turns move to the longer block: what another agent adds must not outlive that agent in blocks
    of this one. Returns the superseded keys that nobody else uses either.
    A REBUILD turn is a request's preparation, so that it does not use the request id up.
    """
    record = new.record
    agent = record.agent_id
    db.execute(
        "UPDATE agents SET turn=?, tokens=?, state_id=?, exactness=? WHERE id=?",
        (record.number, record.end, record.state_id, record.exactness.value, agent),
    )
    agents.touch(db, agent, time.time())
    db.execute("INSERT INTO turns VALUES (?,?,?,?,?)", (agent, record.number, record.end, new.record_bytes, new.digest))
    blocks.put(db, new.blocks, record.created)
    db.execute(
        "UPDATE timeline SET until=? WHERE agent=? AND until=? AND place>=?",
        (record.number, agent, FOREVER, record.base_blocks),
    )
    db.executemany(
        "INSERT INTO timeline VALUES (?,?,?,?,?,?)",
        [
            (agent, record.number, FOREVER, place, use.key, use.used)
            for place, use in enumerate(record.blocks, record.base_blocks)
        ],
    )
    db.executemany(
        "UPDATE timeline SET key=? WHERE agent=? AND key=?",
        [(new_key, agent, old_key) for old_key, new_key in superseded.items()],
    )
    if record.kind is not TurnKind.REBUILD:
        made = RequestRow(record.kind.value, record.agent_name, record.number)
        requests.remember(db, record.namespace, record.request_id, made)
    return list(blocks.drop_unused(db, superseded))


def go_on(db: sqlite3.Connection, new: NewTurn) -> AgentRow:
    """Makes a turn the agent's last one, all blocks of the turns before staying as they are."""
    add(db, new, {})
    return agents.by_id(db, new.record.agent_id)


def begin(
    db: sqlite3.Connection, new: NewTurn, agent: AgentRow, to_compute: Mapping[bytes, BlockRow] | None = None
) -> AgentRow:
    """Enters an agent with its first turn. to_compute: those of its blocks that may have no file."""
    agents.insert(db, agent)
    blocks.expect(db, to_compute or {}, new.record.created)
    return go_on(db, new)


def rows(db: sqlite3.Connection, agent_id: str) -> dict[int, TurnRow]:
    """The turns that are listed, by number, oldest first."""
    query = """SELECT number, tokens, record_bytes, digest, lag(digest, 1, x'') OVER (ORDER BY number)
        FROM turns WHERE agent=? ORDER BY number"""
    return {number: TurnRow(*row) for number, *row in db.execute(query, (agent_id,))}


def digest(db: sqlite3.Connection, agent_id: str, number: int) -> bytes:
    """Of a turn's record; b"" if the turn is not listed."""
    row = db.execute("SELECT digest FROM turns WHERE agent=? AND number=?", (agent_id, number)).fetchone()
    return row[0] if row else b""


def listed(db: sqlite3.Connection) -> dict[str, range]:
    """The numbers of the turns that are listed, by agent id.

    Raises STORE_UNREADABLE if agents and turns disagree about the last one.
    """
    if number(db, _DISAGREEING):
        raise AgentmemError(Reason.STORE_UNREADABLE, "The catalog contradicts itself about agents' last turns.")
    query = "SELECT id, (SELECT coalesce(min(number), 1) FROM turns WHERE agent=id), turn FROM agents"
    return {agent: range(first, last + 1) for agent, first, last in db.execute(query)}


def timeline(db: sqlite3.Connection, agent_id: str, number: int) -> list[BlockUse] | None:
    """The blocks of a turn's timeline; None if the turn is not listed. Raises STORE_UNREADABLE if they are not all."""
    turn = db.execute("SELECT tokens FROM turns WHERE agent=? AND number=?", (agent_id, number)).fetchone()
    if turn is None:
        return None
    query = "SELECT key, used FROM timeline WHERE agent=? AND since<=? AND until>? ORDER BY place"
    uses = [BlockUse(*row) for row in db.execute(query, (agent_id, number, number))]
    if sum(use.used for use in uses) != turn[0]:
        raise AgentmemError(Reason.STORE_UNREADABLE, f"The catalog contradicts itself about turn {number}.")
    return uses


def drop_before(db: sqlite3.Connection, agent_id: str, last: int) -> tuple[dict[int, int], list[bytes]]:
    """Drops an agent's turns before `last`: the bytes that each frees, by number, and the keys of unused blocks.

    A block is freed by the last turn that used it.
    """
    freed = dict(
        db.execute(
            "SELECT number, record_bytes FROM turns WHERE agent=? AND number<? ORDER BY number", (agent_id, last)
        )
    )
    query = "SELECT key, max(until)-1 FROM timeline WHERE agent=? AND until<=? GROUP BY key"
    users = dict(db.execute(query, (agent_id, last)).fetchall())
    db.execute("DELETE FROM turns WHERE agent=? AND number<?", (agent_id, last))
    db.execute("DELETE FROM timeline WHERE agent=? AND until<=?", (agent_id, last))
    unused = blocks.drop_unused(db, users)
    for key, size in unused.items():
        freed[users[key]] += size
    return freed, list(unused)

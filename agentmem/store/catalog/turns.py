"""Turns and timelines in the catalog."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping

from agentmem.errors import AgentmemError, Reason
from agentmem.store.catalog import agents, blocks, requests
from agentmem.store.catalog.scalar import number
from agentmem.store.catalog.tables import FOREVER
from agentmem.store.records import BlockUse, CompanionUse, TurnRecord
from agentmem.store.rows import AgentRow, BlockRow, NewTurn, RequestRow, TurnRow
from agentmem.types import BLOCK_TOKENS, BlockKind, Share, TurnKind

_SNAPSHOT_SLOT = -1
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
    _set_companions(db, record)
    db.executemany(
        "UPDATE timeline SET key=? WHERE agent=? AND key=?",
        [(new_key, agent, old_key) for old_key, new_key in superseded.items()],
    )
    if record.kind is not TurnKind.REBUILD:
        made = RequestRow(record.kind.value, record.agent_name, record.number)
        requests.remember(db, record.namespace, record.request_id, made)
    return list(blocks.drop_unused(db, superseded))


def slot(use: CompanionUse) -> int:
    """The place of a companion among an agent's timeline rows."""
    return _SNAPSHOT_SLOT if use.kind is BlockKind.SNAPSHOT else _SNAPSHOT_SLOT - 1 - use.place


def _set_companions(db: sqlite3.Connection, record: TurnRecord) -> None:
    """Those of the turn before that this one has as well stay."""
    query = "SELECT place, key, used FROM timeline WHERE agent=? AND until=? AND place<0"
    before = set(db.execute(query, (record.agent_id, FOREVER)))
    now = {(slot(use), use.key, use.used) for use in record.companions}
    db.executemany(
        "UPDATE timeline SET until=? WHERE agent=? AND until=? AND place=?",
        [(record.number, record.agent_id, FOREVER, place) for place, *_ in before - now],
    )
    db.executemany(
        "INSERT INTO timeline VALUES (?,?,?,?,?,?)",
        [(record.agent_id, record.number, FOREVER, *row) for row in sorted(now - before)],
    )


def go_on(db: sqlite3.Connection, new: NewTurn, to_compute: Mapping[bytes, BlockRow] | None = None) -> AgentRow:
    """Makes a turn the agent's last one, all blocks of the turns before staying as they are.

    to_compute: those of its blocks that may have no file.
    """
    blocks.expect(db, to_compute or {}, new.record.created)
    add(db, new, {})
    return agents.by_id(db, new.record.agent_id)


def begin(
    db: sqlite3.Connection, new: NewTurn, agent: AgentRow, to_compute: Mapping[bytes, BlockRow] | None = None
) -> AgentRow:
    """Enters an agent with its first turn; see `go_on`."""
    agents.insert(db, agent)
    return go_on(db, new, to_compute)


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


def ends(db: sqlite3.Connection, namespace: str, low: int, high: int, limit: int) -> list[int]:
    """Positions in (low, high] at which turns of agents end that share their blocks, the last first."""
    query = """SELECT DISTINCT t.tokens FROM turns t JOIN agents a ON a.id=t.agent
        WHERE a.namespace=? AND a.share=? AND t.tokens>? AND t.tokens<=? ORDER BY t.tokens DESC LIMIT ?"""
    return [end for (end,) in db.execute(query, (namespace, Share.NAMESPACE.value, low, high, limit))]


def timeline(db: sqlite3.Connection, agent_id: str, number: int) -> list[BlockUse] | None:
    """The blocks of a turn's timeline; None if the turn is not listed. Raises STORE_UNREADABLE if they are not all."""
    turn = db.execute("SELECT tokens FROM turns WHERE agent=? AND number=?", (agent_id, number)).fetchone()
    if turn is None:
        return None
    query = "SELECT key, used FROM timeline WHERE agent=? AND since<=? AND until>? AND place>=0 ORDER BY place"
    uses = [BlockUse(*row) for row in db.execute(query, (agent_id, number, number))]
    if sum(use.used for use in uses) != turn[0]:
        raise AgentmemError(Reason.STORE_UNREADABLE, f"The catalog contradicts itself about turn {number}.")
    return uses


def companions(db: sqlite3.Connection, agent_id: str, number: int) -> list[CompanionUse]:
    """What going on from a turn's end needs beside the blocks, by place; nothing if the turn is not listed."""
    query = """SELECT place, key, used, (SELECT tokens FROM turns WHERE agent=?1 AND number=?2) FROM timeline
        WHERE agent=?1 AND since<=?2 AND until>?2 AND place<0 ORDER BY place DESC"""
    found = []
    for place, key, used, tokens in db.execute(query, (agent_id, number)):
        if place == _SNAPSHOT_SLOT:
            found.append(CompanionUse(key, used, BlockKind.SNAPSHOT, max(0, tokens - 1) // BLOCK_TOKENS))
        else:
            found.append(CompanionUse(key, used, BlockKind.WINDOW, _SNAPSHOT_SLOT - 1 - place))
    return found


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

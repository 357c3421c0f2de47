"""Agents in the catalog."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from agentmem.errors import AgentmemError, Reason, agent_not_found
from agentmem.store.catalog import blocks, requests
from agentmem.store.catalog.scalar import number
from agentmem.store.rows import CREATE, DELETE, UNCHANGED, UPDATE, AgentRow, Deleted, RequestRow, Unchanged
from agentmem.types import Exactness, Share

_COLUMNS = "id, namespace, name, created, last_used, turn, tokens, state_id, exactness, share, pinned, expires"


def create(db: sqlite3.Connection, row: AgentRow, request_id: str) -> None:
    """Enters an agent that has no turn yet."""
    insert(db, row)
    requests.remember(db, row.namespace, request_id, RequestRow(CREATE, row.name))


def insert(db: sqlite3.Connection, row: AgentRow) -> None:
    db.execute(
        f"INSERT INTO agents ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            row.id, row.namespace, row.name, row.created, row.last_used, row.turn, row.tokens, row.state_id,
            row.exactness.value, row.share.value, row.pinned, row.expires,
        ),
    )  # fmt: skip


def check_new(db: sqlite3.Connection, namespace: str, name: str, request_id: str) -> None:
    """Whether a request may make an agent. Raises AGENT_EXISTS, REQUEST_ID_REUSED."""
    requests.check_new(db, namespace, request_id)
    if find(db, namespace, name):
        raise AgentmemError(Reason.AGENT_EXISTS, f"There is an agent named {name!r} already.", agent=name)


def find(db: sqlite3.Connection, namespace: str, name: str) -> AgentRow | None:
    return _one(db, "namespace=? AND name=?", namespace, name)


def get(db: sqlite3.Connection, namespace: str, name: str) -> AgentRow:
    """Raises AGENT_NOT_FOUND."""
    row = find(db, namespace, name)
    if row is None:
        raise agent_not_found(namespace, name)
    return row


def by_id(db: sqlite3.Connection, agent_id: str) -> AgentRow:
    """Raises AGENT_NOT_FOUND."""
    row = _one(db, "id=?", agent_id)
    if row is None:
        raise AgentmemError(Reason.AGENT_NOT_FOUND, "There is no such agent any more.")
    return row


def page(db: sqlite3.Connection, namespace: str, after: str, limit: int) -> list[AgentRow]:
    """Those with names after `after`, in the order of their names' UTF-8 bytes."""
    return _all(db, "namespace=? AND name>? ORDER BY name LIMIT ?", namespace, after, limit)


def of_namespace(db: sqlite3.Connection, namespace: str) -> list[AgentRow]:
    return _all(db, "namespace=? ORDER BY name", namespace)


def prunable(
    db: sqlite3.Connection, namespace: str, unused_since: float | None, expired_at: float | None
) -> list[AgentRow]:
    """Agents, by name, that are not pinned and were last used before the one or expire by the other (Unix seconds)."""
    # A comparison with NULL chooses nothing.
    where = "namespace=? AND NOT pinned AND (last_used<? OR expires<=?) ORDER BY name"
    return _all(db, where, namespace, unused_since, expired_at)


def count(db: sqlite3.Connection) -> int:
    return number(db, "SELECT count(*) FROM agents")


def touch(db: sqlite3.Connection, agent_id: str, at: float) -> None:
    """Notes that the agent was used then (Unix seconds): a clock that goes back makes no agent look less used."""
    db.execute("UPDATE agents SET last_used=max(last_used, ?) WHERE id=?", (at, agent_id))


def date(db: sqlite3.Connection, agent_id: str, at: float) -> None:
    """Sets when the agent was last used (Unix seconds), whatever was noted."""
    db.execute("UPDATE agents SET last_used=? WHERE id=?", (at, agent_id))


def update(
    db: sqlite3.Connection,
    namespace: str,
    name: str,
    request_id: str,
    pinned: bool | None,
    expires: float | None | Unchanged,
    share: Share | None,
) -> AgentRow:
    """The agent as it is afterwards. None and UNCHANGED leave things as they are. Raises AGENT_NOT_FOUND."""
    row = get(db, namespace, name)
    row = replace(
        row,
        pinned=row.pinned if pinned is None else pinned,
        expires=row.expires if expires is UNCHANGED else expires,
        share=share or row.share,
    )
    db.execute(
        "UPDATE agents SET pinned=?, expires=?, share=? WHERE id=?",
        (row.pinned, row.expires, row.share.value, row.id),
    )
    requests.remember(db, namespace, request_id, RequestRow(UPDATE, name, row.turn))
    return row


def make_private(db: sqlite3.Connection, agent_ids: list[str]) -> None:
    """Those that are marked so among their records."""
    db.executemany(
        "UPDATE agents SET share=?1 WHERE id=?2 AND share<>?1", [(Share.PRIVATE.value, one) for one in agent_ids]
    )


def delete(db: sqlite3.Connection, row: AgentRow) -> Deleted:
    """Forgets an agent, and the blocks that no other one uses."""
    records = number(db, "SELECT coalesce(sum(record_bytes), 0) FROM turns WHERE agent=?", row.id)
    used = [key for (key,) in db.execute("SELECT DISTINCT key FROM timeline WHERE agent=?", (row.id,))]
    db.execute("DELETE FROM agents WHERE id=?", (row.id,))
    # A later agent of this name must not answer for this one's requests.
    db.execute(
        "DELETE FROM requests WHERE namespace=? AND agent_name=? AND operation<>?", (row.namespace, row.name, DELETE)
    )
    unused = blocks.drop_unused(db, used)
    return Deleted(row, tuple(unused), records + sum(unused.values()))


def _one(db: sqlite3.Connection, where: str, *values: object) -> AgentRow | None:
    rows = _all(db, where, *values)
    return rows[0] if rows else None


def _all(db: sqlite3.Connection, where: str, *values: object) -> list[AgentRow]:
    return [_agent(row) for row in db.execute(f"SELECT {_COLUMNS} FROM agents WHERE {where}", values)]


def _agent(row: tuple) -> AgentRow:
    agent = AgentRow(*row)
    try:
        exactness, share = Exactness(agent.exactness), Share(agent.share)
    except ValueError as error:
        raise AgentmemError(Reason.STORE_UNREADABLE, "The catalog is damaged: an agent's label is none.") from error
    return replace(agent, exactness=exactness, share=share, pinned=bool(agent.pinned))

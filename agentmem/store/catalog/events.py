"""Events in the catalog: what the daemon did on its own. An agent's go with it, by the foreign key."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import astuple

from agentmem.store.rows import Event, EventKind, NewEvent
from agentmem.types import AgentRef

KEPT = 10_000
"""Older ones are dropped. No number comes twice: who follows the list asks for what is behind the last one seen."""

_COLUMNS = "number, created, kind, agent, reason, bytes, start, stop"


def add(db: sqlite3.Connection, new: Iterable[NewEvent]) -> None:
    """Enters events, but for those of agents that are not there, and drops the oldest beyond KEPT."""
    db.executemany(
        f"""INSERT INTO events ({_COLUMNS}) SELECT ?,?,?,?4,?,?,?,?
            WHERE ?4 IS NULL OR EXISTS (SELECT 1 FROM agents WHERE id=?4)""",
        [astuple(event) for event in new],
    )
    db.execute("DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?", (KEPT,))


def last_number(db: sqlite3.Connection) -> int:
    """The highest number that an event in the catalog has or had; 0 if there was none."""
    return db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name='events'").fetchone()[0]


def page(
    db: sqlite3.Connection,
    namespace: str | None,
    agent_id: str | None,
    since: float,
    after: int,
    limit: int,
    waiting: Sequence[NewEvent] = (),
) -> list[Event]:
    """Up to `limit` events behind number `after`, oldest first, from `since` (Unix seconds) on.

    Of one agent, of the agents of one namespace, or all. waiting: those that are yet to be entered.
    """
    query = f"""WITH joined AS (
            SELECT {_COLUMNS} FROM events UNION ALL
            SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7
                FROM json_each(?1))
        SELECT e.number, e.created, e.kind, a.namespace, a.name, e.reason, e.bytes, e.start, e.stop
            FROM joined e LEFT JOIN agents a ON a.id=e.agent
            WHERE e.number>?2 AND e.created>=?3 AND (e.agent IS NULL OR a.id IS NOT NULL)
                AND (?4 IS NULL OR a.namespace=?4) AND (?5 IS NULL OR a.id=?5)
            ORDER BY e.number LIMIT ?6"""
    rows = db.execute(
        query, (json.dumps([astuple(event) for event in waiting]), after, since, namespace, agent_id, limit)
    )
    return [
        Event(number, created, kind, None if name is None else AgentRef(space, name), *rest)
        for number, created, kind, space, name, *rest in rows
    ]


def stopped_last(db: sqlite3.Connection) -> bool | None:
    """Whether the last run noted its end; None if no run is known."""
    runs = (EventKind.STARTED.value, EventKind.STOPPED.value)
    row = db.execute("SELECT kind FROM events WHERE kind IN (?,?) ORDER BY number DESC LIMIT 1", runs).fetchone()
    return None if row is None else row[0] == EventKind.STOPPED.value

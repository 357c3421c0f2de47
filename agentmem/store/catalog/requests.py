"""What request ids did in the last 24 hours, so that a repeat gets the committed result (invariant 10)."""

from __future__ import annotations

import json
import sqlite3
import time

from agentmem.errors import AgentmemError, Reason, request_id_reused
from agentmem.store.rows import RequestRow

SECONDS = 24 * 3600.0


def find(db: sqlite3.Connection, namespace: str, request_id: str) -> RequestRow | None:
    """An empty id is nobody's."""
    query = """SELECT operation, agent_name, turn, freed FROM requests
        WHERE namespace=? AND request_id=? AND created>?"""
    row = db.execute(query, (namespace, request_id, time.time() - SECONDS)).fetchone()
    if row is None:
        return None
    operation, agent_name, turn, freed = row
    return RequestRow(operation, agent_name, turn, _pairs(freed))


def repeated(
    db: sqlite3.Connection, namespace: str, request_id: str, operation: str, agent_name: str
) -> RequestRow | None:
    """What this very request did before, None if it is new. Raises REQUEST_ID_REUSED if the id did something else."""
    made = find(db, namespace, request_id)
    if made and (made.operation, made.agent_name) != (operation, agent_name):
        raise request_id_reused()
    return made


def check_new(db: sqlite3.Connection, namespace: str, request_id: str) -> None:
    """Raises REQUEST_ID_REUSED if the id did anything."""
    if find(db, namespace, request_id):
        raise request_id_reused()


def remember(db: sqlite3.Connection, namespace: str, request_id: str, made: RequestRow) -> None:
    """Raises REQUEST_ID_REUSED if the id did anything. An empty id is not remembered."""
    if not request_id:
        return
    purge(db)
    check_new(db, namespace, request_id)
    db.execute(
        "INSERT INTO requests VALUES (?,?,?,?,?,?,?)",
        (namespace, request_id, made.operation, made.agent_name, made.turn, json.dumps(made.freed), time.time()),
    )


def purge(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM requests WHERE created<=?", (time.time() - SECONDS,))


def _pairs(text: str) -> tuple[tuple[int, int], ...]:
    try:
        return tuple((int(turn), int(size)) for turn, size in json.loads(text))
    except (ValueError, TypeError) as error:
        raise AgentmemError(Reason.STORE_UNREADABLE, "The catalog is damaged: a request's result is none.") from error

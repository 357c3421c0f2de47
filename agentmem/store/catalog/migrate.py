"""Older catalogs made into the present one, in the transaction that opens them."""

from __future__ import annotations

import sqlite3

from agentmem.store.catalog.tables import NAMES, create

_SELECT = {
    "agents": """SELECT id, namespace, name, created, last_used, create_request_id, turn, tokens, state_id, exactness,
        'namespace', 0, NULL FROM old_agents""",
    "blocks": "SELECT key, bytes, tokens, x'', 0.0 FROM old_blocks",
}
"""What each row of a table becomes; tables that are not here have the same columns as before."""


def from_1(db: sqlite3.Connection) -> None:
    """Schema 1 knew no sharing, pins and times to live, and not how blocks begin; nor were its tables STRICT.

    A block from then is found by others that hold the whole of it, but not by those that agree with it in part.
    """
    for (index,) in db.execute("SELECT name FROM sqlite_schema WHERE type='index' AND sql IS NOT NULL").fetchall():
        db.execute(f"DROP INDEX {index}")
    for table in NAMES:
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    create(db)
    for table in NAMES:
        db.execute(f"INSERT INTO {table} {_SELECT.get(table, f'SELECT * FROM old_{table}')}")
    for table in reversed(NAMES):
        db.execute(f"DROP TABLE old_{table}")

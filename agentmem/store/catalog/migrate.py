"""Older catalogs made into the present one, in the transaction that opens them."""

from __future__ import annotations

import sqlite3

from agentmem.store.catalog.tables import NAMES, VERSION, create

_AGENTS_OF_1 = """SELECT id, namespace, name, created, last_used, turn, tokens, state_id, exactness,
    'namespace', 0, NULL FROM old_agents"""
_AGENTS_OF_2 = """SELECT id, namespace, name, created, last_used, turn, tokens, state_id, exactness,
    share, pinned, expires FROM old_agents"""
_REQUESTS_OF_2 = """SELECT namespace, request_id, operation, agent_name, turn,
    CASE operation WHEN 'DELETE' THEN json_array(json_array(turn, freed_bytes)) ELSE '[]' END, created
    FROM old_requests"""
_BLOCKS_OF_2 = "SELECT key, bytes, tokens, x'', 0.0, x'' FROM old_blocks"
_SELECT = {
    1: {"agents": _AGENTS_OF_1, "blocks": _BLOCKS_OF_2, "requests": _REQUESTS_OF_2},
    2: {"agents": _AGENTS_OF_2, "blocks": _BLOCKS_OF_2, "requests": _REQUESTS_OF_2},
}
"""What each row of a table becomes, by the version that wrote it; other tables have the columns that they had."""


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Schema 1 knew no sharing, pins and times to live, nor were its tables STRICT; 2 knew not how blocks begin.
    That of 3 is the present one.

    A block from then is found by others that hold the whole of it, but not by those that agree with it in part.
    """
    if version not in _SELECT:
        db.execute(f"PRAGMA user_version={VERSION}")
        return
    for (index,) in db.execute("SELECT name FROM sqlite_schema WHERE type='index' AND sql IS NOT NULL").fetchall():
        db.execute(f"DROP INDEX {index}")
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type='table'")}
    old = [table for table in NAMES if table in there]
    for table in old:
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    create(db)
    for table in old:
        db.execute(f"INSERT INTO {table} {_SELECT[version].get(table, f'SELECT * FROM old_{table}')}")
    for table in reversed(old):
        db.execute(f"DROP TABLE old_{table}")

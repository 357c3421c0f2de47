"""Older catalogs made into the present one, in the transaction that opens them."""

from __future__ import annotations

import sqlite3

from agentmem.store.catalog.tables import NAMES, create
from agentmem.store.files import read_file, read_small_file
from agentmem.store.folder import SECRET, StateFolder
from agentmem.store.keys import catalog_parent
from agentmem.store.records import RecordUnreadable, decode

_SELECT = {
    "agents": """SELECT id, namespace, name, created, last_used, create_request_id, turn, tokens, state_id, exactness,
        'namespace', 0, NULL FROM old_agents""",
    "blocks": """SELECT key, bytes, tokens, coalesce((
          SELECT p.key FROM old_timeline t JOIN old_timeline p
            ON p.agent=t.agent AND p.place=t.place-1 AND p.since<=t.since AND p.until>t.since
          WHERE t.key=old_blocks.key AND t.place>0 LIMIT 1
        ), x'') FROM old_blocks""",
}
"""What each row of a table becomes; tables that are not here have the same columns as before."""
_FIRST_BLOCKS = """SELECT t.key, n.folder, t.agent, u.number, u.record_bytes FROM timeline t
  JOIN agents a ON a.id=t.agent JOIN namespaces n ON n.name=a.namespace
  JOIN turns u ON u.agent=t.agent AND u.number=t.since
  WHERE t.place=0"""


def from_1(db: sqlite3.Connection, folder: StateFolder) -> None:
    """Schema 1 knew no sharing, pins and times to live, and not what a block follows; nor were its tables STRICT."""
    for (index,) in db.execute("SELECT name FROM sqlite_schema WHERE type='index' AND sql IS NOT NULL").fetchall():
        db.execute(f"DROP INDEX {index}")
    for table in NAMES:
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    create(db)
    # The old timeline is asked for every block what it follows.
    db.execute("CREATE INDEX old_timeline_key ON old_timeline (key)")
    db.execute("CREATE INDEX old_timeline_place ON old_timeline (agent, place)")
    for table in NAMES:
        db.execute(f"INSERT INTO {table} {_SELECT.get(table, f'SELECT * FROM old_{table}')}")
    for table in reversed(NAMES):
        db.execute(f"DROP TABLE old_{table}")
    for key, namespace, agent, number, size in db.execute(_FIRST_BLOCKS).fetchall():
        # A timeline's first block has the state id of the turn that began with it, which only the record tells.
        try:
            secret = read_small_file(folder.namespaces / namespace / SECRET)
            record = decode(read_file(folder.record(agent, number), size), secret)
        except (OSError, ValueError, RecordUnreadable):
            continue  # It will not be found as another agent's beginning; its own agent is served as before.
        db.execute("UPDATE blocks SET parent=? WHERE key=?", (catalog_parent(secret, b"", record.state_id), key))

"""Older catalogs made into the present one, in the transaction that opens them."""

from __future__ import annotations

import sqlite3

from agentmem.store.files import read_file, read_small_file
from agentmem.store.folder import SECRET, StateFolder
from agentmem.store.keys import catalog_parent
from agentmem.store.records import RecordUnreadable, decode

_FROM_1 = """
ALTER TABLE agents ADD COLUMN share TEXT NOT NULL DEFAULT 'namespace';
ALTER TABLE agents ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN expires REAL;
ALTER TABLE blocks ADD COLUMN parent BLOB NOT NULL DEFAULT x'';
CREATE INDEX blocks_parent ON blocks (parent);
UPDATE blocks SET parent=coalesce((
  SELECT p.key FROM timeline t JOIN timeline p
    ON p.agent=t.agent AND p.place=t.place-1 AND p.since<=t.since AND p.until>t.since
  WHERE t.key=blocks.key AND t.place>0 LIMIT 1
), x'')
"""
_FIRST_BLOCKS = """SELECT t.key, n.folder, t.agent, u.number, u.record_bytes FROM timeline t
  JOIN agents a ON a.id=t.agent JOIN namespaces n ON n.name=a.namespace
  JOIN turns u ON u.agent=t.agent AND u.number=t.since
  WHERE t.place=0"""


def from_1(db: sqlite3.Connection, folder: StateFolder) -> None:
    """Schema 1 knew no sharing, pins and times to live, and not what a block follows."""
    for statement in _FROM_1.split(";"):
        db.execute(statement)
    for key, namespace, agent, number, size in db.execute(_FIRST_BLOCKS).fetchall():
        # A timeline's first block has the state id of the turn that began with it, which only the record tells.
        try:
            secret = read_small_file(folder.namespaces / namespace / SECRET)
            record = decode(read_file(folder.record(agent, number), size), secret)
        except (OSError, ValueError, RecordUnreadable):
            continue  # It will not be found as another agent's beginning; its own agent is served as before.
        db.execute("UPDATE blocks SET parent=? WHERE key=?", (catalog_parent(secret, b"", record.state_id), key))

"""The catalog's tables."""

from __future__ import annotations

import re
import sqlite3

from agentmem.store.folder import FORMAT

VERSION = FORMAT
FOREVER = (1 << 63) - 1
"""`until` of a timeline entry that the agent's last turn still has."""

# Names are TEXT, compared as the bytes of their UTF-8. A row of `timeline` says that the block at `place` belongs to
# the timelines of the turns since..until-1; so any turn's timeline is one range query, and a turn adds only the rows
# that it changes. Places below 0 are those of companions (`turns.slot`), which come and go with the turns likewise.
# A block's reference count is the number of rows that name it: counted, not kept, it cannot drift.
# STRICT lets the check at each start find damaged values by their types.
_TABLES = """
CREATE TABLE namespaces (
  name TEXT PRIMARY KEY,
  folder TEXT NOT NULL UNIQUE,
  created REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE agents (
  id TEXT PRIMARY KEY,
  namespace TEXT NOT NULL REFERENCES namespaces(name),
  name TEXT NOT NULL,
  created REAL NOT NULL,
  last_used REAL NOT NULL,
  turn INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  state_id TEXT NOT NULL,
  exactness TEXT NOT NULL,
  share TEXT NOT NULL,
  pinned INTEGER NOT NULL,
  expires REAL,
  UNIQUE (namespace, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE turns (
  agent TEXT NOT NULL REFERENCES agents(id) ON DELETE CASCADE,
  number INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  record_bytes INTEGER NOT NULL,
  digest BLOB NOT NULL,
  PRIMARY KEY (agent, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE blocks (
  key BLOB PRIMARY KEY,
  bytes INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  beginning BLOB NOT NULL,
  created REAL NOT NULL,
  seal BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX blocks_beginning ON blocks (beginning, created);
CREATE TABLE timeline (
  agent TEXT NOT NULL REFERENCES agents(id) ON DELETE CASCADE,
  since INTEGER NOT NULL,
  until INTEGER NOT NULL,
  place INTEGER NOT NULL,
  key BLOB NOT NULL REFERENCES blocks(key),
  used INTEGER NOT NULL,
  PRIMARY KEY (agent, since, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX timeline_until ON timeline (agent, until, place);
CREATE INDEX timeline_key ON timeline (key);
CREATE TABLE requests (
  namespace TEXT NOT NULL,
  request_id TEXT NOT NULL,
  operation TEXT NOT NULL,
  agent_name TEXT NOT NULL,
  turn INTEGER NOT NULL,
  freed TEXT NOT NULL,
  created REAL NOT NULL,
  PRIMARY KEY (namespace, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_created ON requests (created);
CREATE TABLE events (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  created REAL NOT NULL,
  kind TEXT NOT NULL,
  agent TEXT REFERENCES agents(id) ON DELETE CASCADE,
  reason TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  start INTEGER NOT NULL,
  stop INTEGER NOT NULL
) STRICT;
CREATE INDEX events_agent ON events (agent);
"""
NAMES = tuple(re.findall(r"CREATE TABLE (\w+)", _TABLES))
"""Of the tables, each after those that it refers to."""
INDEXES = tuple(re.findall(r"CREATE INDEX (\w+)", _TABLES))


def create(db: sqlite3.Connection) -> None:
    """Makes the tables; the caller has begun a transaction."""
    for statement in _TABLES.split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA user_version={VERSION}")

"""The catalog's SQLite database: its tables, how it is opened, and what its errors mean."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentmem.errors import AgentmemError, Reason

VERSION = 1
FOREVER = (1 << 63) - 1
"""`until` of a timeline entry that the agent's last turn still has."""

# Names are TEXT, compared as the bytes of their UTF-8. A row of `timeline` says that the block at `place` belongs to
# the timelines of the turns since..until-1; so any turn's timeline is one range query, and a turn adds only the rows
# that it changes. A block's reference count is the number of rows that name it: counted, not kept, it cannot drift.
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
  create_request_id TEXT NOT NULL,
  turn INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  state_id TEXT NOT NULL,
  exactness TEXT NOT NULL,
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
  tokens INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
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
  freed_bytes INTEGER NOT NULL,
  created REAL NOT NULL,
  PRIMARY KEY (namespace, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_created ON requests (created);
"""
_NAMES = set(re.findall(r"CREATE (?:TABLE|INDEX) (\w+)", _TABLES))

_UNWRITABLE = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY,
}  # fmt: skip
_UNREADABLE = {
    sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_NOTADB,
}  # fmt: skip
_UNREADABLE_IO = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}


def open_database(path: Path, must_exist: bool) -> sqlite3.Connection:
    """The catalog, made if need be. The connection belongs to the calling thread.

    must_exist: an empty catalog is a lost one. Raises AgentmemError: STORE_TOO_NEW, STORE_UNREADABLE, STORE_UNWRITABLE.
    """
    with sqlite_errors():
        try:
            # SQLite gives its side files the rights of the main file, but would make that one 0644.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise AgentmemError(Reason.STORE_UNWRITABLE, f"The catalog cannot be opened: {error.strerror}.") from error
        db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        try:
            _prepare(db, must_exist)
        except BaseException:
            db.close()
            raise
        return db


def _prepare(db: sqlite3.Connection, must_exist: bool) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise AgentmemError(
            Reason.STORE_TOO_NEW,
            f"The catalog has format {version}; this version of agentmem knows formats up to {VERSION}.",
        )
    if version == 0 and must_exist:
        raise AgentmemError(Reason.STORE_UNREADABLE, "The catalog is missing or empty, but turn records are there.")
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "checkpoint_fullfsync=ON"):
        db.execute(f"PRAGMA {pragma}")
    if version == 0:
        with transaction(db):
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={VERSION}")
    elif not _NAMES.issubset(name for (name,) in db.execute("SELECT name FROM sqlite_schema")):
        raise AgentmemError(Reason.STORE_UNREADABLE, "The catalog lacks tables.")
    elif (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise AgentmemError(Reason.STORE_UNREADABLE, "The catalog is damaged.", verdict=verdict)
    db.execute("PRAGMA foreign_keys=ON")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of the work inside, durably, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def sqlite_errors() -> Iterator[None]:
    """Turns what the disk does to SQLite into STORE_UNREADABLE or STORE_UNWRITABLE; our own mistakes pass through."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            raise
        if code in _UNREADABLE_IO or code & 0xFF in _UNREADABLE:
            raise AgentmemError(Reason.STORE_UNREADABLE, f"The catalog is damaged: {error}.") from error
        if code & 0xFF in _UNWRITABLE:
            raise AgentmemError(Reason.STORE_UNWRITABLE, f"The catalog cannot be written to: {error}.") from error
        raise

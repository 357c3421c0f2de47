"""The catalog's SQLite database: how it is opened, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from agentmem.errors import AgentmemError, Reason
from agentmem.store.catalog.migrate import migrate
from agentmem.store.catalog.tables import INDEXES, NAMES, VERSION, create
from agentmem.store.folder import StateFolder

# Nothing of SQLite's goes to a temporary folder: it might hold agents' names.
PRAGMAS = (
    "journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "checkpoint_fullfsync=ON", "secure_delete=ON",
    "temp_store=MEMORY",
)  # fmt: skip

LOCK_WAIT_S = 5.0
"""How long another process's lock is waited for."""

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_UNWRITABLE = {
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY,
}  # fmt: skip
_UNREADABLE = {
    sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_NOTADB,
}  # fmt: skip
_UNREADABLE_IO = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}


def open_database(folder: StateFolder, must_exist: bool) -> sqlite3.Connection:
    """The folder's catalog, made or migrated if need be. The connection belongs to the calling thread.

    must_exist: an empty catalog is a lost one. Raises AgentmemError: STORE_TOO_NEW, STORE_UNREADABLE, STORE_UNWRITABLE.
    """
    with sqlite_errors():
        try:
            # SQLite gives its side files the rights of the main file, but would make that one 0644.
            os.close(os.open(folder.catalog, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise AgentmemError(Reason.STORE_UNWRITABLE, f"The catalog cannot be opened: {error.strerror}.") from error
        db = sqlite3.connect(folder.catalog, isolation_level=None, timeout=LOCK_WAIT_S)
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
    for pragma in PRAGMAS:
        db.execute(f"PRAGMA {pragma}")
    if version == 0:
        with transaction(db):
            create(db)
    elif (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise AgentmemError(Reason.STORE_UNREADABLE, "The catalog is damaged.", verdict=verdict)
    if 0 < version < VERSION:
        with transaction(db):
            migrate(db, version)
    if not {*NAMES, *INDEXES}.issubset(name for (name,) in db.execute("SELECT name FROM sqlite_schema")):
        raise AgentmemError(Reason.STORE_UNREADABLE, "The catalog lacks tables.")
    db.execute("PRAGMA foreign_keys=ON")


@contextmanager
def transaction(db: sqlite3.Connection, keep: bool = True) -> Iterator[None]:
    """All of the work inside, durably, or nothing of it; nothing unless it is to be kept."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT" if keep else "ROLLBACK")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def sqlite_errors() -> Iterator[None]:
    """Turns what the disk does to SQLite into STORE_UNREADABLE or STORE_UNWRITABLE; our own mistakes pass through."""
    try:
        yield
    except UnicodeDecodeError:  # of a message of SQLite's that quotes what is damaged
        raise _no_text() from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None and isinstance(error, sqlite3.OperationalError):  # Python's; it quotes what it cannot decode
            raise _no_text() from None
        if code is None:
            raise
        if code in _UNREADABLE_IO or code & 0xFF in _UNREADABLE:
            raise AgentmemError(Reason.STORE_UNREADABLE, f"The catalog is damaged: {error}.") from error
        if code & 0xFF in _LOCKED:
            message = "The catalog is locked by another process: close what has it open, and repeat."
            raise AgentmemError(Reason.STORE_UNWRITABLE, message) from error
        if code & 0xFF in _UNWRITABLE:
            raise AgentmemError(Reason.STORE_UNWRITABLE, f"The catalog cannot be written to: {error}.") from error
        raise


def _no_text() -> AgentmemError:
    return AgentmemError(Reason.STORE_UNREADABLE, "The catalog is damaged: a text in it is none.")

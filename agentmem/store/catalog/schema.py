"""The catalog's SQLite database: how it is opened, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from functools import partial

from agentmem.errors import AgentmemError, Reason
from agentmem.sqlite import LOCK_WAIT_S, PRAGMAS, transaction, translated
from agentmem.store.catalog.migrate import migrate
from agentmem.store.catalog.tables import INDEXES, NAMES, VERSION, create
from agentmem.store.folder import StateFolder

sqlite_errors = partial(translated, "The catalog", Reason.STORE_UNREADABLE, Reason.STORE_UNWRITABLE)
"""A context that turns what the disk does to SQLite into these reasons."""


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

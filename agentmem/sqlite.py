"""What every SQLite file of agentmem has in common: how it is set up, transactions, and what SQLite's errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from agentmem.errors import AgentmemError, Reason

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
def translated(what: str, unreadable: Reason, unwritable: Reason) -> Iterator[None]:
    """Turns what the disk does to SQLite into one of two reasons; our own mistakes pass through.

    what: the file as people know it, to begin a sentence with.
    """
    try:
        yield
    except UnicodeDecodeError:  # of a message of SQLite's that quotes what is damaged
        raise _no_text(what, unreadable) from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None and isinstance(error, sqlite3.OperationalError):  # Python's; it quotes what it cannot decode
            raise _no_text(what, unreadable) from None
        if code is None:
            raise
        if code in _UNREADABLE_IO or code & 0xFF in _UNREADABLE:
            raise AgentmemError(unreadable, f"{what} is damaged: {error}.") from error
        if code & 0xFF in _LOCKED:
            message = f"{what} is locked by another process: close what has it open, and repeat."
            raise AgentmemError(unwritable, message) from error
        if code & 0xFF in _UNWRITABLE:
            raise AgentmemError(unwritable, f"{what} cannot be written to: {error}.") from error
        raise


def _no_text(what: str, unreadable: Reason) -> AgentmemError:
    return AgentmemError(unreadable, f"{what} is damaged: a text in it is none.")

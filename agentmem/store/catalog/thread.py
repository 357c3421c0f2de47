"""The thread that owns the catalog: it runs work on the database, and callers wait for it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Concatenate, ParamSpec, TypeVar

from agentmem.errors import AgentmemError, Reason
from agentmem.sqlite import transaction
from agentmem.store.catalog.schema import open_database, sqlite_errors
from agentmem.store.folder import StateFolder

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Catalog:
    """`read` and `write` take a function of the connection, and its other arguments.

    Every method may raise STORE_UNREADABLE or STORE_UNWRITABLE.
    """

    def __init__(self, folder: StateFolder, must_exist: bool, durable: bool = True) -> None:
        """durable=False: no transaction waits for the drive; the caller syncs the file once it is closed."""
        self._folder = folder
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentmem-catalog")
        self.rider: Callable[[sqlite3.Connection], Callable[[], None]] = lambda db: lambda: None
        """Does work of its own at the end of every transaction, and then what it returned, once that is committed."""
        try:
            self._db = self._thread.submit(open_database, folder, must_exist).result()
            if not durable:
                self.read(lambda db: db.execute("PRAGMA synchronous=OFF"))
            self._file = self._file_in_place()
        except BaseException:
            self._thread.shutdown()
            raise

    def check_in_place(self) -> None:
        """Raises STORE_UNWRITABLE if the folder was deleted or moved: SQLite would go on in a file without a name."""
        if self._file_in_place() != self._file:
            raise AgentmemError(
                Reason.STORE_UNWRITABLE,
                f"The state folder {self._folder.root} was deleted or moved while it is in use: put it back, or "
                "restart the daemon to begin anew.",
            )

    def _file_in_place(self) -> tuple[int, int] | None:
        """What tells the catalog's file from any other of its name; None if there is none."""
        try:
            status = os.stat(self._folder.catalog)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def close(self) -> None:
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()

    def read(
        self, work: Callable[Concatenate[sqlite3.Connection, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        def run() -> _T:
            with sqlite_errors():
                return work(self._db, *args, **kwargs)

        return self._thread.submit(run).result()

    def write(
        self, work: Callable[Concatenate[sqlite3.Connection, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Runs the work as one transaction, durably."""

        def run(db: sqlite3.Connection) -> _T:
            with transaction(db):
                result = work(db, *args, **kwargs)
                self.check_in_place()
                committed = self.rider(db)
            committed()
            return result

        return self.read(run)

    def write_soon(self) -> None:
        """Begins a transaction that has the rider's work only, and does not wait for it. Never fails."""
        with suppress(RuntimeError):  # the thread has ended
            self._thread.submit(self._write_quietly)

    def _write_quietly(self) -> None:
        with suppress(sqlite3.Error):
            with transaction(self._db):
                committed = self.rider(self._db)
            committed()

    def rehearse(
        self, work: Callable[Concatenate[sqlite3.Connection, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """What `write` would return; nothing changes."""

        def run(db: sqlite3.Connection) -> _T:
            with transaction(db, keep=False):
                return work(db, *args, **kwargs)

        return self.read(run)

    def scrub(self) -> None:
        """Leaves nothing of deleted rows in the catalog's files.

        PRAGMA secure_delete clears what is freed, but not the copies that rows leave where they moved between pages
        (of 1,500 deleted agents, the names of one or two stayed). So the database is written anew, and its log emptied:
        0.3 s with 10,000 agents and 100,000 blocks.
        """

        def work(db: sqlite3.Connection) -> None:
            db.execute("VACUUM")
            busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                message = "The catalog cannot be cleared of what was deleted while another process reads it."
                raise AgentmemError(Reason.STORE_UNWRITABLE, message)

        self.read(work)

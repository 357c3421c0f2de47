"""The catalog: who there is, which turns they have, which blocks those use. One thread owns it; callers wait for it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from agentmem.errors import AgentmemError, Reason
from agentmem.store.records import BlockUse, TurnRecord
from agentmem.store.rows import DELETE, AgentRow, BlockRow, Deleted, RequestRow, TurnRow
from agentmem.store.schema import FOREVER, open_database, sqlite_errors, transaction
from agentmem.types import Exactness, TurnKind

REQUEST_SECONDS = 24 * 3600.0

_AGENT = "id, namespace, name, created, last_used, turn, tokens, state_id, exactness"
_DISAGREEING = """SELECT count(*) FROM agents a
    WHERE a.turn IS NOT coalesce((SELECT max(number) FROM turns WHERE agent=a.id), 0)
    OR a.tokens IS NOT coalesce((SELECT tokens FROM turns WHERE agent=a.id AND number=a.turn), 0)"""
_T = TypeVar("_T")


class Catalog:
    """Every method runs on the catalog's thread and may raise STORE_UNREADABLE or STORE_UNWRITABLE."""

    def __init__(self, path: Path, must_exist: bool, durable: bool = True) -> None:
        """durable=False: no transaction waits for the drive; the caller syncs the file once it is closed."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentmem-catalog")
        try:
            self._db = self._thread.submit(open_database, path, must_exist).result()
            if not durable:
                self._read(lambda db: db.execute("PRAGMA synchronous=OFF"))
        except BaseException:
            self._thread.shutdown()
            raise

    def close(self) -> None:
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()

    def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        def run() -> _T:
            with sqlite_errors():
                return work(self._db)

        return self._thread.submit(run).result()

    def _write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        def run(db: sqlite3.Connection) -> _T:
            with transaction(db):
                return work(db)

        return self._read(run)

    # Namespaces

    def namespace_folders(self) -> dict[str, str]:
        """Folder by name."""
        return self._read(lambda db: dict(db.execute("SELECT name, folder FROM namespaces")))

    def add_namespace(self, name: str, folder: str) -> None:
        self._write(lambda db: db.execute("INSERT INTO namespaces VALUES (?, ?, ?)", (name, folder, time.time())))

    # Agents

    def create_agent(self, agent_id: str, namespace: str, name: str, request_id: str) -> AgentRow:
        """Raises AGENT_EXISTS, unless the same non-empty request made the one that is there."""

        def work(db: sqlite3.Connection) -> AgentRow:
            taken = db.execute(
                f"SELECT create_request_id, {_AGENT} FROM agents WHERE namespace=? AND name=?", (namespace, name)
            ).fetchone()
            if taken and request_id and taken[0] == request_id:
                return _agent(taken[1:])
            if taken:
                raise AgentmemError(Reason.AGENT_EXISTS, f"There is an agent named {name!r} already.", agent=name)
            now = time.time()
            row = AgentRow(agent_id, namespace, name, now, now, 0, 0, "", Exactness.EXACT)
            db.execute(
                f"INSERT INTO agents ({_AGENT}, create_request_id) VALUES (?,?,?,?,?,?,?,?,?,?)",
                (agent_id, namespace, name, now, now, 0, 0, "", row.exactness.value, request_id),
            )
            return row

        return self._write(work)

    def agent(self, namespace: str, name: str) -> AgentRow | None:
        return self._read(lambda db: _find_agent(db, "namespace=? AND name=?", namespace, name))

    def agent_by_id(self, agent_id: str) -> AgentRow | None:
        return self._read(lambda db: _find_agent(db, "id=?", agent_id))

    def agents(self, namespace: str, after: str, limit: int) -> list[AgentRow]:
        query = f"SELECT {_AGENT} FROM agents WHERE namespace=? AND name>? ORDER BY name LIMIT ?"
        return self._read(lambda db: [_agent(row) for row in db.execute(query, (namespace, after, limit))])

    def count_agents(self) -> int:
        return self._read(lambda db: _number(db, "SELECT count(*) FROM agents"))

    def agent_turns(self) -> dict[str, int]:
        """The number of the last turn, by agent id. Raises STORE_UNREADABLE if agents and turns disagree about it."""

        def work(db: sqlite3.Connection) -> dict[str, int]:
            if _number(db, _DISAGREEING):
                raise AgentmemError(Reason.STORE_UNREADABLE, "The catalog contradicts itself about agents' last turns.")
            return dict(db.execute("SELECT id, turn FROM agents"))

        return self._read(work)

    def touch(self, agent_id: str) -> None:
        self._write(lambda db: db.execute("UPDATE agents SET last_used=? WHERE id=?", (time.time(), agent_id)))

    def delete_agent(self, row: AgentRow, request_id: str) -> Deleted:
        """Forgets an agent, and the blocks that no other one uses."""

        def work(db: sqlite3.Connection) -> Deleted:
            freed = _number(db, "SELECT coalesce(sum(record_bytes), 0) FROM turns WHERE agent=?", row.id)
            used = db.execute(
                "SELECT key, bytes FROM blocks WHERE key IN (SELECT key FROM timeline WHERE agent=?)", (row.id,)
            ).fetchall()
            db.execute("DELETE FROM agents WHERE id=?", (row.id,))
            # A later agent of this name must not answer for this one's requests.
            db.execute(
                "DELETE FROM requests WHERE namespace=? AND agent_name=? AND operation<>?",
                (row.namespace, row.name, DELETE),
            )
            unused = [item for item in used if not _referenced(db, item[0])]
            db.executemany("DELETE FROM blocks WHERE key=?", [(key,) for key, _ in unused])
            freed += sum(size for _, size in unused)
            if request_id:
                _remember(db, row.namespace, request_id, RequestRow(DELETE, row.name, row.turn, freed))
            return Deleted(tuple(key for key, _ in unused), freed)

        return self._write(work)

    # Turns

    def commit(
        self,
        record: TurnRecord,
        record_bytes: int,
        digest: bytes,
        blocks: dict[bytes, BlockRow],
        superseded: dict[bytes, bytes],
    ) -> list[bytes]:
        """Makes a turn the agent's last one. blocks: written for it. superseded: longer block by the key it replaces.

        Only this agent's turns move to the longer block: what another agent adds must not outlive that agent in blocks
        of this one. Returns the superseded keys that nobody else uses either.
        A REBUILD turn is a request's preparation, so that it does not use the request id up.
        """

        def work(db: sqlite3.Connection) -> list[bytes]:
            agent, number = record.agent_id, record.number
            db.execute(
                "UPDATE agents SET turn=?, tokens=?, state_id=?, exactness=?, last_used=? WHERE id=?",
                (number, record.end, record.state_id, record.exactness.value, time.time(), agent),
            )
            db.execute("INSERT INTO turns VALUES (?,?,?,?,?)", (agent, number, record.end, record_bytes, digest))
            db.executemany(
                "INSERT INTO blocks VALUES (?,?,?) ON CONFLICT (key) DO UPDATE SET bytes=excluded.bytes",
                [(key, row.bytes, row.tokens) for key, row in blocks.items()],
            )
            db.execute(
                "UPDATE timeline SET until=? WHERE agent=? AND until=? AND place>=?",
                (number, agent, FOREVER, record.base_blocks),
            )
            db.executemany(
                "INSERT INTO timeline VALUES (?,?,?,?,?,?)",
                [
                    (agent, number, FOREVER, place, use.key, use.used)
                    for place, use in enumerate(record.blocks, record.base_blocks)
                ],
            )
            db.executemany(
                "UPDATE timeline SET key=? WHERE agent=? AND key=?",
                [(new, agent, old) for old, new in superseded.items()],
            )
            unused = [key for key in superseded if not _referenced(db, key)]
            db.executemany("DELETE FROM blocks WHERE key=?", [(key,) for key in unused])
            if record.request_id and record.kind is not TurnKind.REBUILD:
                made = RequestRow(record.kind.value, record.agent_name, number)
                _remember(db, record.namespace, record.request_id, made)
            return unused

        return self._write(work)

    def turn(self, agent_id: str, number: int) -> TurnRow | None:
        query = """SELECT t.tokens, t.record_bytes, t.digest, coalesce(p.digest, x'')
            FROM turns t LEFT JOIN turns p ON p.agent=t.agent AND p.number=t.number-1 WHERE t.agent=? AND t.number=?"""
        row = self._read(lambda db: db.execute(query, (agent_id, number)).fetchone())
        return TurnRow(*row) if row else None

    def timeline(self, agent_id: str, number: int) -> list[BlockUse]:
        query = "SELECT key, used FROM timeline WHERE agent=? AND since<=? AND until>? ORDER BY place"
        return self._read(lambda db: [BlockUse(*row) for row in db.execute(query, (agent_id, number, number))])

    # Blocks and bytes

    def blocks(self, keys: Iterable[bytes]) -> dict[bytes, BlockRow]:
        """Those of the keys that are known."""

        def work(db: sqlite3.Connection) -> dict[bytes, BlockRow]:
            query = "SELECT bytes, tokens FROM blocks WHERE key=?"
            found = ((key, db.execute(query, (key,)).fetchone()) for key in keys)
            return {key: BlockRow(*row) for key, row in found if row}

        return self._read(work)

    def resize_block(self, key: bytes, size: int) -> None:
        self._write(lambda db: db.execute("UPDATE blocks SET bytes=? WHERE key=?", (size, key)))

    def block_keys(self) -> set[bytes]:
        return self._read(lambda db: {key for (key,) in db.execute("SELECT key FROM blocks")})

    def disk_bytes(self, agent_id: str) -> int:
        query = """SELECT
            (SELECT coalesce(sum(bytes), 0) FROM blocks WHERE key IN (SELECT key FROM timeline WHERE agent=?1)) +
            (SELECT coalesce(sum(record_bytes), 0) FROM turns WHERE agent=?1)"""
        return self._read(lambda db: _number(db, query, agent_id))

    def total_bytes(self) -> int:
        query = """SELECT (SELECT coalesce(sum(bytes), 0) FROM blocks) +
            (SELECT coalesce(sum(record_bytes), 0) FROM turns)"""
        return self._read(lambda db: _number(db, query))

    # Requests

    def find_request(self, namespace: str, request_id: str) -> RequestRow | None:
        return self._read(lambda db: _find_request(db, namespace, request_id))

    def purge_requests(self) -> None:
        self._write(_purge)


def _number(db: sqlite3.Connection, query: str, *values: object) -> int:
    return int(db.execute(query, values).fetchone()[0])


def _agent(row: tuple) -> AgentRow:
    try:
        return replace(AgentRow(*row), exactness=Exactness(row[-1]))
    except ValueError as error:
        raise AgentmemError(Reason.STORE_UNREADABLE, "The catalog is damaged: an agent's label is none.") from error


def _find_agent(db: sqlite3.Connection, where: str, *values: str) -> AgentRow | None:
    row = db.execute(f"SELECT {_AGENT} FROM agents WHERE {where}", values).fetchone()
    return _agent(row) if row else None


def _referenced(db: sqlite3.Connection, key: bytes) -> bool:
    return db.execute("SELECT 1 FROM timeline WHERE key=? LIMIT 1", (key,)).fetchone() is not None


def _find_request(db: sqlite3.Connection, namespace: str, request_id: str) -> RequestRow | None:
    query = """SELECT operation, agent_name, turn, freed_bytes FROM requests
        WHERE namespace=? AND request_id=? AND created>?"""
    row = db.execute(query, (namespace, request_id, time.time() - REQUEST_SECONDS)).fetchone()
    return RequestRow(*row) if row else None


def _remember(db: sqlite3.Connection, namespace: str, request_id: str, made: RequestRow) -> None:
    """Raises REQUEST_ID_REUSED if the id did something else in the last 24 hours."""
    _purge(db)
    if _find_request(db, namespace, request_id):
        raise AgentmemError(Reason.REQUEST_ID_REUSED, "The request id was used for another request.")
    db.execute(
        "INSERT INTO requests VALUES (?,?,?,?,?,?,?)",
        (namespace, request_id, made.operation, made.agent_name, made.turn, made.freed_bytes, time.time()),
    )


def _purge(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM requests WHERE created<=?", (time.time() - REQUEST_SECONDS,))

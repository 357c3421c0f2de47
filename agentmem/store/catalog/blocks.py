"""Blocks in the catalog. A block's reference count is the number of timeline rows that name it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from agentmem.errors import AgentmemError, Reason
from agentmem.store.placement import KEPT
from agentmem.store.rows import BlockRow
from agentmem.types import Share


def known(db: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, BlockRow]:
    """Those of the keys that are known."""
    query = "SELECT bytes, tokens, beginning, seal FROM blocks WHERE key=?"
    found = ((key, db.execute(query, (key,)).fetchone()) for key in keys)
    return {key: BlockRow(*row) for key, row in found if row}


def get(db: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, BlockRow]:
    """Blocks that some timeline names. Raises STORE_UNREADABLE if one is not known."""
    keys = list(keys)
    found = known(db, keys)
    if not found.keys() >= set(keys):
        raise AgentmemError(Reason.STORE_UNREADABLE, "The catalog contradicts itself: it lacks a block of a timeline.")
    return found


def sizes(db: sqlite3.Connection) -> dict[bytes, int]:
    """File sizes by key, of all blocks; 0 for one that was given up."""
    return dict(db.execute("SELECT key, bytes FROM blocks"))


def put(db: sqlite3.Connection, rows: Mapping[bytes, BlockRow], created: float) -> None:
    """Enters blocks, or their new files."""
    db.executemany(
        """INSERT INTO blocks VALUES (?,?,?,?,?,?)
        ON CONFLICT (key) DO UPDATE SET bytes=excluded.bytes, seal=excluded.seal""",
        [(key, row.size, row.tokens, row.beginning, created, row.seal) for key, row in rows.items()],
    )


def expect(db: sqlite3.Connection, rows: Mapping[bytes, BlockRow], created: float) -> None:
    """Enters blocks, but for those that are known."""
    there = known(db, rows)
    put(db, {key: row for key, row in rows.items() if key not in there}, created)


def replace(db: sqlite3.Connection, key: bytes, row: BlockRow) -> None:
    """Notes that a block has another file."""
    db.execute("UPDATE blocks SET bytes=?, seal=? WHERE key=?", (row.size, row.seal, key))


def drop_unused(db: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, int]:
    """Drops those of the blocks that no timeline uses any more; their file sizes by key."""
    dropped = {}
    for key in keys:
        query = "DELETE FROM blocks WHERE key=?1 AND NOT EXISTS (SELECT 1 FROM timeline WHERE key=?1) RETURNING bytes"
        if row := db.execute(query, (key,)).fetchone():
            dropped[key] = row[0]
    return dropped


def shared(db: sqlite3.Connection, key: bytes) -> bool:
    """Whether some agent shares the block with its namespace."""
    query = "SELECT 1 FROM timeline t JOIN agents a ON a.id=t.agent WHERE t.key=? AND a.share=? LIMIT 1"
    return db.execute(query, (key, Share.NAMESPACE.value)).fetchone() is not None


def count_shared(db: sqlite3.Connection, keys: Sequence[bytes]) -> int:
    """How many of the leading keys are shared ones."""
    return next((i for i, key in enumerate(keys) if not shared(db, key)), len(keys))


def only_of(db: sqlite3.Connection, agent_id: str) -> dict[bytes, int]:
    """The blocks that this agent alone uses, with a file that can be given up; file sizes by key."""
    query = """SELECT key, bytes FROM blocks WHERE bytes>0 AND beginning<>?2
        AND key IN (SELECT key FROM timeline WHERE agent=?1)
        AND key NOT IN (SELECT key FROM timeline WHERE agent<>?1)"""
    return dict(db.execute(query, (agent_id, KEPT)))


def empty(db: sqlite3.Connection, keys: Iterable[bytes]) -> None:
    """Notes that these blocks have no files any more, and are to be computed again."""
    db.executemany("UPDATE blocks SET bytes=0, seal=x'' WHERE key=?", [(key,) for key in keys])


def beginning(db: sqlite3.Connection, beginning: bytes, limit: int) -> list[bytes]:
    """Keys of blocks that begin so and that some agent shares with its namespace, the newest first."""
    query = """SELECT key FROM blocks b WHERE beginning=? AND EXISTS (
            SELECT 1 FROM timeline t JOIN agents a ON a.id=t.agent WHERE t.key=b.key AND a.share=?
        ) ORDER BY created DESC LIMIT ?"""
    return [key for (key,) in db.execute(query, (beginning, Share.NAMESPACE.value, limit))]

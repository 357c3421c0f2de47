"""The knowledge pool's file: how it is made, opened, checked and written to. Rows and words; no judgement.

Entries are kept as JSON with a checksum; `words` holds what they can be found by, in an FTS5 index. Both are checked
whole at each open, so that a damaged file is refused and never half-read.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.entry import LEARNED_PREFIX, MAX_BYTES, Entry
from agentmem.primitives.nearness import Holders
from agentmem.primitives.strict import Refused, load
from agentmem.primitives.words import match_expression, words
from agentmem.sqlite import LOCK_WAIT_S, PRAGMAS, transaction, translated
from agentmem.store.files import TEMP_SUFFIX, Files

VERSION = 1
APPLICATION_ID = 0x61676D6B
"""Marks the file as a knowledge pool: "agmk"."""

_TABLES = (
    "CREATE TABLE entries "
    "(number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, data TEXT NOT NULL, digest BLOB NOT NULL) STRICT",
    "CREATE VIRTUAL TABLE words "
    "USING fts5(title, description, tags, tokenize = 'porter unicode61 remove_diacritics 2')",
    "CREATE TABLE requests (id TEXT PRIMARY KEY, entry TEXT NOT NULL, made REAL NOT NULL) STRICT",
)
_SCHEMA = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'words!_%' ESCAPE '!' ORDER BY name"
"""All but the index's own tables, which are SQLite's business and differ between its versions."""

REMEMBERED_S = 24 * 3600.0
"""How long a request id is remembered."""

_LEARNED = f"id GLOB '{LEARNED_PREFIX}*'"

errors = partial(translated, "The knowledge pool", Reason.KNOWLEDGE_UNREADABLE, Reason.KNOWLEDGE_UNWRITABLE)
"""A context that turns what the disk does to SQLite into these reasons."""


def open_pool(path: Path, fill: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """The pool in a file, made if there is none; fill: puts the first entries in, in a transaction.

    Raises AgentmemError: KNOWLEDGE_TOO_NEW, KNOWLEDGE_UNREADABLE, KNOWLEDGE_UNWRITABLE, FULL_TEXT_SEARCH_MISSING.
    """
    with errors():
        _require_fts5()
        try:
            if not os.path.lexists(path):
                _make(path, fill)
            _recognise(path)
            os.chmod(path, 0o600)  # SQLite gives its side files the rights of this one
        except OSError as error:
            message = f"The knowledge pool cannot be opened: {error.strerror}."
            raise AgentmemError(Reason.KNOWLEDGE_UNWRITABLE, message) from error
        db = _connect(path)
        try:
            _check(db)
        except BaseException:
            db.close()
            raise
        return db


def put(db: sqlite3.Connection, entry: Entry) -> None:
    """Adds an entry, or replaces the one of its id. The caller has begun a transaction."""
    data = entry.model_dump_json()
    old = db.execute("SELECT number FROM entries WHERE id = ?", (entry.id,)).fetchone()
    if old is not None:
        db.execute("UPDATE entries SET data = ?, digest = ? WHERE number = ?", (data, _digest(data), old[0]))
        db.execute("DELETE FROM words WHERE rowid = ?", old)
        number = old[0]
    else:
        row = (entry.id, data, _digest(data))
        number = db.execute("INSERT INTO entries (id, data, digest) VALUES (?, ?, ?)", row).lastrowid
    db.execute("INSERT INTO words (rowid, title, description, tags) VALUES (?, ?, ?, ?)", (number, *_indexed(entry)))


def drop(db: sqlite3.Connection, id: str) -> None:
    """Removes an entry. The caller has begun a transaction."""
    db.execute("DELETE FROM words WHERE rowid = (SELECT number FROM entries WHERE id = ?)", (id,))
    db.execute("DELETE FROM entries WHERE id = ?", (id,))
    db.execute("DELETE FROM requests WHERE entry = ?", (id,))


def get(db: sqlite3.Connection, id: str) -> Entry | None:
    row = db.execute("SELECT id, data, digest FROM entries WHERE id = ?", (id,)).fetchone()
    return None if row is None else _read(*row)


def all_entries(db: sqlite3.Connection) -> Iterator[Entry]:
    """In the order in which they came."""
    for row in db.execute("SELECT id, data, digest FROM entries ORDER BY number"):
        yield _read(*row)


def page(db: sqlite3.Connection, after: int, limit: int) -> list[tuple[int, Entry]]:
    """Up to `limit` entries behind a number, with theirs."""
    query = "SELECT number, id, data, digest FROM entries WHERE number > ? ORDER BY number LIMIT ?"
    return [(number, _read(*row)) for number, *row in db.execute(query, (after, limit))]


def entry_of_request(db: sqlite3.Connection, request_id: str) -> str | None:
    """The id of the entry that a request of the last 24 hours noted an outcome for."""
    query = "SELECT entry FROM requests WHERE id = ? AND made > ?"
    row = db.execute(query, (request_id, time.time() - REMEMBERED_S)).fetchone()
    return None if row is None else str(row[0])


def remember_request(db: sqlite3.Connection, request_id: str, entry: str) -> None:
    """The caller has begun a transaction. An empty id is nobody's."""
    now = time.time()
    db.execute("DELETE FROM requests WHERE made <= ?", (now - REMEMBERED_S,))
    if request_id:
        db.execute("INSERT OR REPLACE INTO requests VALUES (?, ?, ?)", (request_id, entry, now))


def matching(db: sqlite3.Connection, expression: str, weights: tuple[float, float, float]) -> list[int]:
    """Numbers of the entries that an FTS5 expression matches, best first by bm25."""
    query = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words, ?, ?, ?), rowid"
    return [number for (number,) in db.execute(query, (expression, *weights))]


def read(db: sqlite3.Connection, numbers: Iterable[int]) -> list[tuple[int, Entry]]:
    """The entries of these numbers, with them, in that order; those that are gone are left out."""
    query = "SELECT id, data, digest FROM entries WHERE number = ?"
    rows = ((number, db.execute(query, (number,)).fetchone()) for number in numbers)
    return [(number, _read(*row)) for number, row in rows if row is not None]


def holders(db: sqlite3.Connection, word: str) -> Holders:
    """Who has a word, in any of its forms and spellings. word: one of `words`."""

    def matching(expression: str) -> frozenset[int]:
        query = "SELECT rowid FROM words WHERE words MATCH ?"
        return frozenset(number for (number,) in db.execute(query, (expression,)))

    expression = match_expression([word])
    return Holders(matching(expression), matching(f"{{title tags}} : ({expression})"))


def shipped(db: sqlite3.Connection) -> frozenset[int]:
    """Numbers of the entries that were not learned."""
    return frozenset(n for (n,) in db.execute(f"SELECT number FROM entries WHERE NOT {_LEARNED}"))


def count_learned(db: sqlite3.Connection) -> int:
    return int(db.execute(f"SELECT count(*) FROM entries WHERE {_LEARNED}").fetchone()[0])


def drop_oldest_learned(db: sqlite3.Connection) -> None:
    """The caller has begun a transaction, and there is one."""
    (id,) = db.execute(f"SELECT id FROM entries WHERE {_LEARNED} ORDER BY number LIMIT 1").fetchone()
    drop(db, id)


def scrub(db: sqlite3.Connection) -> None:
    """Leaves nothing of dropped entries in the file: rewrites the index and the tables, and empties the log."""
    with transaction(db):
        db.execute("INSERT INTO words (words) VALUES ('optimize')")
    db.execute("VACUUM")
    if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        message = "The knowledge pool cannot be cleared of what was forgotten while another process reads it."
        raise AgentmemError(Reason.KNOWLEDGE_UNWRITABLE, message)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=LOCK_WAIT_S)
    db.text_factory = _text
    return db


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:  # whose message would quote it
        raise _unreadable("a text in it is none") from None


def _make(path: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Makes a whole pool beside the path and links it there: so an empty file is never a new pool, but a damaged one.

    Another process that does the same at the same time may win; then its pool is the one. Raises OSError.
    """
    temp = path.with_name(f".{secrets.token_hex(8)}{TEMP_SUFFIX}")
    os.close(os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        db = _connect(temp)
        try:
            for pragma in (f"application_id={APPLICATION_ID}", f"user_version={VERSION}", *PRAGMAS):
                db.execute(f"PRAGMA {pragma}")
            with transaction(db):
                for table in _TABLES:
                    db.execute(table)
                fill(db)
        finally:
            db.close()
        with suppress(FileExistsError):
            os.link(temp, path)
        Files().sync(path.parent)
    finally:
        temp.unlink()


def _recognise(path: Path) -> None:
    """Refuses what is not a pool before anything is done to it. Raises KNOWLEDGE_UNREADABLE or OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise _unreadable("its path leads to something that is not a file")
    with path.open("rb") as file:
        head = file.read(72)  # https://www.sqlite.org/fileformat.html#the_database_header
    if len(head) < 72 or head[:16] != b"SQLite format 3\0" or int.from_bytes(head[68:]) != APPLICATION_ID:
        raise _unreadable("the file is not one")
    if not set(head[18:20]) <= {1, 2}:  # SQLite would take it for read-only
        raise _unreadable("its head is not what was written")


def _check(db: sqlite3.Connection) -> None:
    """Of the whole file. Nothing is written to one that is not of this version."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise AgentmemError(
            Reason.KNOWLEDGE_TOO_NEW,
            f"The knowledge pool has format {version}; this version of agentmem knows formats up to {VERSION}.",
        )
    if version != VERSION or db.execute(_SCHEMA).fetchall() != _expected_schema():
        raise _unreadable("its tables are not those that were made")
    for pragma in PRAGMAS:
        db.execute(f"PRAGMA {pragma}")
    if db.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
        raise _unreadable("its pages contradict each other")
    with transaction(db):  # as others may be writing
        db.execute("INSERT INTO words (words) VALUES ('integrity-check')")
        found = db.execute("SELECT rowid, title, description, tags FROM words ORDER BY rowid").fetchall()
        numbers = [number for (number,) in db.execute("SELECT number FROM entries ORDER BY number")]
        if found != [(n, *_indexed(entry)) for n, entry in zip(numbers, all_entries(db), strict=True)]:
            raise _unreadable("its index belongs to other entries")
        if not _finds_all(db, found):
            raise _unreadable("its index does not find what it should")


def _finds_all(db: sqlite3.Connection, rows: list[tuple[int, str, str, str]]) -> bool:
    """Whether each word of the rows finds what it finds in an index made anew, and as well.

    FTS5's own check reads the index through, and does not notice damage to what a search jumps by.
    """
    anew = sqlite3.connect(":memory:")
    try:
        anew.execute(_TABLES[1])
        anew.executemany("INSERT INTO words (rowid, title, description, tags) VALUES (?, ?, ?, ?)", rows)
        query = "SELECT rowid, bm25(words) FROM words WHERE words MATCH ? ORDER BY rowid"
        searches = [(f'"{word}"',) for word in sorted({w for row in rows for text in row[1:] for w in text.split()})]
        return all(db.execute(query, s).fetchall() == anew.execute(query, s).fetchall() for s in searches)
    finally:
        anew.close()


def _expected_schema() -> list[tuple[str, str, str]]:
    db = sqlite3.connect(":memory:")
    try:
        for table in _TABLES:
            db.execute(table)
        return db.execute(_SCHEMA).fetchall()
    finally:
        db.close()


def _require_fts5() -> None:
    db = sqlite3.connect(":memory:")
    try:
        db.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
    except sqlite3.OperationalError:
        message = (
            f"This Python's SQLite ({sqlite3.sqlite_version}) was built without FTS5, which the knowledge pool needs: "
            "use a Python whose SQLite has it, as those of python.org, Homebrew, uv and the Linux distributions do."
        )
        raise AgentmemError(Reason.FULL_TEXT_SEARCH_MISSING, message) from None
    finally:
        db.close()


def _indexed(entry: Entry) -> tuple[str, str, str]:
    """The columns of `words`."""
    return " ".join(words(entry.title)), " ".join(words(entry.description)), " ".join(words(" ".join(entry.tags)))


def _digest(data: str) -> bytes:
    return hashlib.blake2b(data.encode(), digest_size=16).digest()


def _read(id: str, data: str, digest: bytes) -> Entry:
    if digest != _digest(data):
        raise _unreadable("the checksum of an entry is another one's")
    try:
        entry = load(Entry, data, MAX_BYTES)
    except (Refused, AgentmemError):
        raise _unreadable("an entry is none") from None
    if entry.id != id:
        raise _unreadable("an entry stands under the id of another")
    return entry


def _unreadable(why: str) -> AgentmemError:
    message = f"The knowledge pool is damaged: {why}. Move the file away to begin a new one."
    return AgentmemError(Reason.KNOWLEDGE_UNREADABLE, message)

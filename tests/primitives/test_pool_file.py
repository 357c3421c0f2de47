"""The pool's file: rights, damage, versions, and several processes at once."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmem.errors import AgentmemError, Code, Reason
from agentmem.primitives import pooldb
from agentmem.primitives.knowledge import KnowledgePool
from tests.primitives.plans import plan

QUERIES = [f"how do I {verb} a {thing}" for verb in ("mend", "paint") for thing in ("boat", "roof", "фонарь")]


def refused(path: Path, reason: Reason) -> AgentmemError:
    with pytest.raises(AgentmemError) as caught:
        KnowledgePool(path)
    assert caught.value.reason is reason
    return caught.value


@pytest.fixture
def filled(path: Path) -> Path:
    """Small, so that damage hits something: no shipped entries."""
    with KnowledgePool(path, shipped=False) as pool:
        for number, query in enumerate(QUERIES):
            pool.record(query, plan("vote", solvers=number + 1), number / 10)
    return path


def contents(path: Path) -> list[str]:
    with KnowledgePool(path, shipped=False) as pool:
        return [*pool.export_lines(), *(m.entry.id for q in QUERIES for m in pool.nearest(q))]


def test_it_is_for_its_owner_only(path: Path) -> None:
    old = os.umask(0)
    try:
        with KnowledgePool(path):
            assert {p.stat().st_mode & 0o777 for p in path.parent.iterdir()} == {0o600}
            assert len(list(path.parent.iterdir())) == 3
        path.chmod(0o644)
        with KnowledgePool(path) as pool:
            pool.record("query", plan(), 1)
            assert {p.stat().st_mode & 0o777 for p in path.parent.iterdir()} == {0o600}
    finally:
        os.umask(old)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_opening_writes_nothing_that_is_not_new(filled: Path) -> None:
    data = filled.read_bytes()
    contents(filled)
    assert filled.read_bytes() == data


@pytest.mark.parametrize(
    "what", ["garbage", "truncated", "empty", "head only", "text", "ids", "pages", "folder", "fifo", "link"]
)
def test_what_is_no_pool_is_refused_and_left_as_it_is(filled: Path, what: str) -> None:
    data = filled.read_bytes()
    damaged = {
        "garbage": b"\x5a" * len(data),
        "truncated": data[: len(data) // 2 - 100],
        "empty": b"",
        "head only": data[:100],
        "text": b'{"format":1,"entries":0}\n',
        "ids": data[:8192] + data[8192:12288].replace(b"learned-", b"Learned-") + data[12288:],  # of the index of ids
        "pages": data[:4096] + bytes(len(data) - 4096),
    }
    if what in damaged:
        filled.write_bytes(damaged[what])
    else:
        filled.unlink()
        if what == "folder":
            filled.mkdir()
        elif what == "fifo":
            os.mkfifo(filled)
        else:
            filled.symlink_to(os.devnull)
    for _ in range(2):
        error = refused(filled, Reason.KNOWLEDGE_UNREADABLE)
        assert error.code is Code.DATA_LOSS
        assert "damaged" in error.message
        if what in damaged:
            assert filled.read_bytes() == damaged[what]


def test_somebody_elses_database_is_refused_and_keeps_its_rights(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE entries (id)")
    db.close()
    path.chmod(0o644)
    refused(path, Reason.KNOWLEDGE_UNREADABLE)
    assert path.stat().st_mode & 0o777 == 0o644


Damage = Callable[[sqlite3.Connection], object]
CHANGES: dict[str, Damage] = {
    "an entry's text": lambda db: db.execute("UPDATE entries SET data = replace(data, 'boat', 'goat')"),
    "an entry's score": lambda db: db.execute(
        """UPDATE entries SET data = replace(data, '"mean":0.1', '"mean":0.9')"""
    ),
    "an entry's id": lambda db: db.execute("UPDATE entries SET id = 'learned-x' WHERE number = 1"),
    "an entry's plan, checksum and all": lambda db: db.execute(
        "UPDATE entries SET data = data2, digest = digest_of(data2) FROM "
        "(SELECT number AS n, replace(data, '\"solvers\":1', '\"solvers\":99') AS data2 FROM entries) WHERE n = number"
    ),
    "an entry": lambda db: db.execute("DELETE FROM entries WHERE number = 2"),
    "words": lambda db: db.execute("UPDATE words SET title = 'other' WHERE rowid = 1"),
    "a row of words": lambda db: db.execute("DELETE FROM words WHERE rowid = 1"),
    "the index": lambda db: db.execute("DELETE FROM words_data WHERE id > 10"),
    "what the index is of": lambda db: db.execute("UPDATE words_content SET c0 = 'x' WHERE id = 1"),
    "a table": lambda db: db.execute("DROP TABLE words"),
    "a table more": lambda db: db.execute("CREATE TABLE more (a)"),
    "a trigger": lambda db: db.execute("CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM entries; END"),
    "the version": lambda db: db.execute("PRAGMA user_version = 0"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_pool_that_was_changed_is_refused(filled: Path, what: str) -> None:
    db = sqlite3.connect(filled)
    db.create_function("digest_of", 1, pooldb._digest)
    with db:
        CHANGES[what](db)
    db.close()
    message = refused(filled, Reason.KNOWLEDGE_UNREADABLE).message
    assert "boat" not in message
    assert "goat" not in message


def flips(filled: Path, count: int) -> None:
    """Any flipped byte either changes nothing that can be read, or the file is refused."""
    wanted, data = contents(filled), filled.read_bytes()
    told = {Reason.KNOWLEDGE_UNREADABLE, Reason.KNOWLEDGE_TOO_NEW}
    used = [place for place, byte in enumerate(data) if byte]  # most of a small file is empty
    draw, refusals = random.Random(5), 0
    for _ in range(count):
        place = draw.choice(used)
        filled.write_bytes(data[:place] + bytes([data[place] ^ draw.randrange(1, 256)]) + data[place + 1 :])
        try:
            assert contents(filled) == wanted, place
        except AgentmemError as error:
            if error.reason not in told or "boat" in error.message:
                raise
            refusals += 1
        for side in ("-wal", "-shm"):
            filled.with_name(filled.name + side).unlink(missing_ok=True)
    assert refusals > count / 2


def test_a_flipped_byte_is_noticed(filled: Path) -> None:
    flips(filled, 60)


@pytest.mark.slow
def test_any_of_many_flipped_bytes_is_noticed(filled: Path) -> None:
    flips(filled, 3000)


def test_damage_done_while_it_is_open_is_not_served(filled: Path) -> None:
    with KnowledgePool(filled, shipped=False) as pool:
        db = sqlite3.connect(filled)
        with db:
            db.execute("UPDATE entries SET data = replace(data, 'boat', 'goat')")
        db.close()
        for call in (
            lambda: pool.nearest("boat"),
            pool.export_lines,
            lambda: pool.record(QUERIES[0], plan(), 1, entry=boat(pool)),
        ):
            with pytest.raises(AgentmemError) as caught:
                call()
            assert caught.value.reason is Reason.KNOWLEDGE_UNREADABLE


def boat(pool: KnowledgePool) -> str:
    return str(pool._db.execute("SELECT id FROM entries WHERE data LIKE '%goat%'").fetchone()[0])


def test_a_newer_format_is_refused_and_not_touched(filled: Path) -> None:
    with sqlite3.connect(filled) as db:
        db.execute(f"PRAGMA user_version = {pooldb.VERSION + 1}")
        db.execute("CREATE TABLE of_the_future (a)")
    db.close()
    data = filled.read_bytes()
    error = refused(filled, Reason.KNOWLEDGE_TOO_NEW)
    assert str(pooldb.VERSION + 1) in error.message
    assert filled.read_bytes() == data


def test_a_python_without_fts5_is_told_apart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Poor(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            if "fts5" in sql:
                raise sqlite3.OperationalError("no such module: fts5")
            return super().execute(sql, *values)  # type: ignore[arg-type]

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=Poor))
    assert "FTS5" in refused(path, Reason.FULL_TEXT_SEARCH_MISSING).message
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_is_not_there_or_not_writable(path: Path) -> None:
    refused(path.parent / "no" / "pool", Reason.KNOWLEDGE_UNWRITABLE)
    (path.parent / "dangling").symlink_to(path.parent / "nothing")
    refused(path.parent / "dangling", Reason.KNOWLEDGE_UNWRITABLE)
    assert not (path.parent / "nothing").exists()


def test_a_lock_that_stays_is_an_error_to_repeat_after(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooldb, "LOCK_WAIT_S", 0.05)
    with KnowledgePool(filled, shipped=False) as pool:
        before = list(pool.export_lines())
        other = sqlite3.connect(filled, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(AgentmemError, match="locked by another process") as caught:
            pool.record("query", plan(), 1)
        assert caught.value.reason is Reason.KNOWLEDGE_UNWRITABLE
        assert pool.nearest("boat")  # readers do not wait
        other.execute("ROLLBACK")
        other.close()
        assert list(pool.export_lines()) == before
        pool.record("query", plan(), 1)


RECORDER = """
import sys
from pathlib import Path
from agentmem.primitives.knowledge import KnowledgePool
from tests.primitives.plans import plan
path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
with KnowledgePool(path) as pool:
    for number in range(count):
        pool.record("the shared query", plan(), 0.5, entry="essay")
        pool.record(f"query {number} of {name}", plan(), 1.0)
        assert pool.nearest("shared query")
"""


def recorders(path: Path, count: int) -> list[subprocess.Popen[str]]:
    """Two processes that make and fill the pool, from the same moment on."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", RECORDER, str(path)]
    made = [subprocess.Popen([*command, name, str(count)], **pipes) for name in ("anna", "bert")]  # type: ignore[call-overload]
    for process in made:
        assert process.stdout.readline() == "ready\n"
    for process in made:
        process.stdin.write("go\n")
        process.stdin.flush()
    return made


def test_two_processes_record_and_nothing_is_lost(path: Path) -> None:
    count = 10
    for process in recorders(path, count):
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    with KnowledgePool(path) as pool:
        essay = pool.get("essay")
        assert essay is not None
        assert essay.outcomes.count == 2 * count
        shared = pool.nearest("the shared query", 1)[0].entry
        assert (shared.title, shared.outcomes.count) == ("the shared query", 2 * count)
        assert sum('"query ' in line for line in pool.export_lines()) == 2 * count
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_processes_that_are_killed_leave_a_sound_pool(path: Path) -> None:
    processes = recorders(path, 10_000)
    log = path.with_name(f"{path.name}-wal")
    while not log.exists() or log.stat().st_size < 60_000:
        assert all(p.poll() is None for p in processes)
        time.sleep(0.005)
    for process in processes:
        process.kill()
        process.communicate()
    with KnowledgePool(path) as pool:
        essay, shared = pool.get("essay"), pool.nearest("the shared query", 1)[0].entry
        assert essay is not None
        assert 0 < essay.outcomes.count == shared.outcomes.count  # both in one transaction
        lines = list(pool.export_lines())
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    with KnowledgePool(copy) as pool:
        assert list(pool.export_lines()) == lines

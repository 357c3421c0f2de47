"""Opening a store: locks, formats, damage, and the sweep."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.store.folder import FORMAT
from agentmem.store.store import Store
from tests.store.samples import FailingFiles, add_turn, files_below, make_block


def refused(folder: Path, reason: Reason) -> AgentmemError:
    with pytest.raises(AgentmemError) as caught:
        Store.open(folder)
    assert caught.value.reason is reason
    return caught.value


def filled(folder: Path) -> Path:
    store = Store.open(folder)
    add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    store.close()
    return folder


def test_a_folder_in_use_is_refused_by_name(folder: Path) -> None:
    store = Store.open(folder)
    assert str(folder) in refused(folder, Reason.STORE_LOCKED).message
    store.close()
    Store.open(folder).close()


def test_a_newer_format_is_refused_and_not_touched(folder: Path) -> None:
    filled(folder)
    (folder / "format.json").write_text(json.dumps({"format": FORMAT + 1}))
    refused(folder, Reason.STORE_TOO_NEW)
    (folder / "format.json").write_text(json.dumps({"format": FORMAT}))
    with sqlite3.connect(folder / "catalog.sqlite") as db:
        db.execute(f"PRAGMA user_version={FORMAT + 1}")
    db.close()
    refused(folder, Reason.STORE_TOO_NEW)
    assert len(files_below(folder / "blocks", "")) == 1


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "1"}', '{"format": true}', "\xff", "[" * 9999])
def test_a_damaged_marker_is_refused(folder: Path, text: str) -> None:
    filled(folder)
    (folder / "format.json").write_text(text, encoding="latin-1")
    refused(folder, Reason.STORE_UNREADABLE)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty", "missing", "no table", "no version", "pages"])
def test_a_damaged_catalog_is_refused_and_nothing_is_swept(folder: Path, damage: str) -> None:
    catalog = filled(folder) / "catalog.sqlite"
    data = catalog.read_bytes()
    if damage == "garbage":
        catalog.write_bytes(b"\x5a" * len(data))
    elif damage == "truncated":
        catalog.write_bytes(data[: len(data) // 2 - 100])
    elif damage == "empty":
        catalog.write_bytes(b"")
    elif damage == "missing":
        catalog.unlink()
    elif damage == "pages":
        catalog.write_bytes(data[:4096] + bytes(len(data) - 4096))
    else:
        db = sqlite3.connect(catalog)
        db.execute("DROP TABLE turns" if damage == "no table" else "PRAGMA user_version=0")
        db.commit()
        db.close()
    for _ in range(2):
        refused(folder, Reason.STORE_UNREADABLE)
        assert len(files_below(folder / "blocks", ".safetensors")) == 1
        assert len(files_below(folder / "turns", ".json")) == 1


def test_a_catalog_that_lost_turns_is_refused(folder: Path) -> None:
    filled(folder)
    shutil.copy(folder / "catalog.sqlite", folder / "old")
    store = Store.open(folder)
    agent = store.agent("default", "alice")
    assert agent is not None
    agent, _ = add_turn(store, agent, [4])
    add_turn(store, agent, [5])
    store.close()
    shutil.move(folder / "old", folder / "catalog.sqlite")
    refused(folder, Reason.STORE_UNREADABLE)
    assert len(files_below(folder / "turns", ".json")) == 3


def test_a_wrong_length_in_the_catalog_is_not_served(folder: Path) -> None:
    filled(folder)
    db = sqlite3.connect(folder / "catalog.sqlite")
    db.execute("UPDATE timeline SET used=2")
    db.commit()
    db.close()
    store = Store.open(folder)
    agent = store.agent("default", "alice")
    assert agent is not None
    with pytest.raises(AgentmemError) as caught:
        store.history(agent.id).timeline()
    assert caught.value.reason is Reason.STORE_UNREADABLE
    store.close()


def test_what_nobody_refers_to_is_swept(folder: Path) -> None:
    filled(folder)
    (block,) = files_below(folder / "blocks", "")
    (record,) = files_below(folder / "turns", "")
    name = make_block([9]).key.hex()
    unknown = folder / "turns" / ("0" * 32)
    unknown.mkdir()
    orphans = [
        block.with_name(f"{name}.safetensors"),
        block.with_name(".0123456789abcdef.tmp"),
        record.with_name(".0123456789abcdef.tmp"),
        unknown / "00000001.json",
        unknown / "forgotten",
        folder / "quarantine" / f"{name}.safetensors",
        folder / "quarantine" / f"{name}.reason.json",
        folder / ".0123456789abcdef.tmp",
    ]
    strangers = [block.with_name("notes.txt"), folder / "turns" / ".DS_Store", folder / "mine.tmp"]
    for path in orphans + strangers:
        path.write_bytes(b"x")
    Store.open(folder).close()
    assert [path for path in orphans if path.exists()] == []
    assert not unknown.exists()
    assert all(path.exists() for path in [block, record, *strangers])


def test_a_record_that_was_not_committed_is_set_aside_until_its_turn_or_agent_is(folder: Path) -> None:
    filled(folder)
    (record,) = files_below(folder / "turns", "")
    for _ in range(2):
        record.with_name("00000002.json").write_bytes(b"x")
        store = Store.open(folder)
        assert files_below(folder / "turns", "") == [record]
        (aside,) = files_below(folder / "quarantine", "")
        assert aside.read_bytes() == b"x"
        agent = store.agent("default", "alice")
        assert agent is not None
        store.close()
    store = Store.open(folder)
    add_turn(store, agent, [4])
    assert files_below(folder / "quarantine", "") == []
    store.close()
    record.with_name("00000003.json").write_bytes(b"x")
    store = Store.open(folder)
    store.pruning.delete("default", "alice")
    assert files_below(folder / "quarantine", "") == files_below(folder / "turns", "") == []
    store.close()


def test_a_catalog_that_lost_an_agent_is_refused(folder: Path) -> None:
    filled(folder)
    shutil.copy(folder / "catalog.sqlite", folder / "old")
    store = Store.open(folder)
    add_turn(store, store.create_agent("default", "bob"), [1, 2, 3])
    store.close()
    shutil.move(folder / "old", folder / "catalog.sqlite")
    refused(folder, Reason.STORE_UNREADABLE)
    assert len(files_below(folder / "turns", ".json")) == 2


def test_a_text_that_is_none_is_damage_and_not_quoted(folder: Path) -> None:
    filled(folder)
    db = sqlite3.connect(folder / "catalog.sqlite")
    db.execute("UPDATE agents SET name=CAST(x'616cff696365' AS TEXT)")
    db.commit()
    db.close()
    store = Store.open(folder)
    with pytest.raises(AgentmemError) as caught:
        store.agents("default")
    assert caught.value.reason is Reason.STORE_UNREADABLE
    assert "ice" not in caught.value.message
    store.close()


def test_a_damaged_name_costs_no_secret(folder: Path) -> None:
    filled(folder)
    (name,) = files_below(folder / "namespaces", "name.json")
    name.write_text("{")
    for path in folder.glob("catalog.sqlite*"):
        path.unlink()
    for path in files_below(folder / "turns", ""):
        path.unlink()
    Store.open(folder).close()
    assert len(files_below(folder / "namespaces", "secret")) == 1


def test_the_secret_outlives_the_catalog(folder: Path) -> None:
    store = Store.open(folder)
    secret = store.namespace("a/b").secret
    store.close()
    for path in folder.glob("catalog.sqlite*"):
        path.unlink()
    store = Store.open(folder)
    assert store.namespace("a/b").secret == secret
    store.close()


def test_a_lost_secret_is_said_and_not_replaced(folder: Path) -> None:
    filled(folder)
    (secret,) = files_below(folder / "namespaces", "secret")
    for data in (b"short", b""):
        secret.write_bytes(data)
        store = Store.open(folder)
        for _ in range(2):
            with pytest.raises(AgentmemError) as caught:
                store.namespace("default")
            assert caught.value.reason is Reason.STORE_UNREADABLE
        add_turn(store, store.create_agent("other", f"bob{len(data)}"), [1])
        store.close()


def test_spotlight_is_kept_out(folder: Path) -> None:
    Store.open(folder).close()
    assert (folder / ".metadata_never_index").exists()


def test_a_folder_that_cannot_be_written_is_refused(folder: Path) -> None:
    files = FailingFiles(PermissionError(13, "Permission denied"))
    files.fail_at = 1
    with pytest.raises(AgentmemError) as caught:
        Store.open(folder, files)
    assert caught.value.reason is Reason.STORE_UNWRITABLE
    folder.write_text("a file, not a folder")
    refused(folder, Reason.STORE_UNWRITABLE)


def test_the_catalog_waits_for_the_drive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    store = Store.open(folder)
    wanted = {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1, "checkpoint_fullfsync": 1, "foreign_keys": 1}
    wanted |= {"secure_delete": 1, "temp_store": 2}
    for pragma, value in wanted.items():
        assert store._core.catalog.read(lambda db, name=pragma: db.execute(f"PRAGMA {name}").fetchone()[0]) == value
    store.close()

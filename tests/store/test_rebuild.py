"""Rebuilding the catalog: the same as it was, or cut at the last sound turn, and nothing thrown away."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.store.rebuild import Rebuilt, rebuild
from agentmem.store.records import BlockUse
from agentmem.store.store import Store
from agentmem.types import TurnKind
from tests.store.samples import Crash, FailingFiles, add_turn, dump, files_below, make_block, make_record, read_all


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Superseded, shared, full and abandoned blocks, a rewind, a rebuild under another model, two namespaces."""
    folder = tmp_path_factory.mktemp("base") / "state"
    store = Store.open(folder)
    secret = store.namespace("default").secret
    alice, _ = add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    add_turn(store, store.create_agent("default", "twin"), [1, 2, 3])
    alice, _ = add_turn(store, alice, [4, 5], created=9e9, request_id="request-1")

    bob = store.create_agent("default", "bob")
    full = make_block(list(range(256)), secret=secret)
    tail = make_block([1, 2], parent=full.key, secret=secret, start=256)
    uses = [BlockUse(full.key, 256), BlockUse(tail.key, 2)]
    store.commit(make_record(bob, [*range(256), 1, 2], uses), [full, tail])
    bob = store.agent("default", "bob") or bob
    longer = make_block([1, 2, 3], parent=full.key, secret=secret, start=256)
    store.commit(make_record(bob, [3], [BlockUse(longer.key, 3)], base_blocks=1), [longer])
    bob = store.agent("default", "bob") or bob
    other = make_block([1, 9], parent=full.key, secret=secret, start=256)
    store.commit(make_record(bob, [9], [BlockUse(other.key, 2)], base_blocks=1, start=257, end=258), [other])
    bob = store.agent("default", "bob") or bob
    fresh = replace(make_block([7], secret=secret), state_id="state-2")
    fresh = replace(fresh, key=fresh.key_of_prefix(secret, 1))
    changes = {"kind": TurnKind.REBUILD, "start": 0, "end": 1, "state_id": "state-2", "created": 9e9}
    store.commit(make_record(bob, [7], [BlockUse(fresh.key, 1)], request_id="request-2", **changes), [fresh])

    carol, _ = add_turn(store, store.create_agent("other/..", "alice"), [1, 2, 3])
    add_turn(store, carol, [4])
    store.close()
    return folder


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "state"))


def records(folder: Path, agent: str, namespace: str = "default") -> list[Path]:
    store = Store.open(folder)
    row = store.agent(namespace, agent)
    assert row is not None
    store.close()
    return files_below(folder / "turns" / row.id, ".json")


def reopened(folder: Path, *, blocks_may_be_missing: bool = False) -> dict[tuple[str, str], list[int]]:
    """Ids by agent; everything is read, and nothing may lie about."""
    return read_all(folder, ("default", "other/.."), blocks_may_be_missing=blocks_may_be_missing)


def problems(result: Rebuilt) -> list[tuple[str, str, int]]:
    return sorted((problem.namespace, problem.agent, problem.turn) for problem in result.problems)


@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "lost turns", "sound"])
def test_the_same_catalog_comes_back(folder: Path, damage: str) -> None:
    catalog, before, served = folder / "catalog.sqlite", dump(folder), reopened(folder)
    if damage == "missing":
        catalog.unlink()
    elif damage != "sound":
        catalog.write_bytes({"empty": b"", "garbage": b"x" * 5000}.get(damage, catalog.read_bytes()[:8192]))
    result = rebuild(folder)
    assert (result.agents, result.turns, result.problems) == (4, 9, ())
    assert dump(folder) == before
    assert reopened(folder) == served
    if damage == "missing":
        assert result.set_aside is None
    else:
        assert result.set_aside == folder / "catalog.1.sqlite"
        assert result.set_aside.exists()
    assert rebuild(folder).set_aside == folder / f"catalog.{1 if damage == 'missing' else 2}.sqlite"


def test_times_come_from_the_records(folder: Path) -> None:
    rebuild(folder)
    store = Store.open(folder)
    row = store.agent("default", "alice")
    assert row is not None
    assert (row.created, row.last_used) == (1234.5, 9e9)
    store.close()


def test_a_broken_chain_ends_at_the_last_sound_turn(folder: Path) -> None:
    first, second, third, fourth = records(folder, "bob")
    sound = {path: path.read_bytes() for path in (first, second, third, fourth)}
    second.write_bytes(second.read_bytes().replace(b'"open":false', b'"open":true'))
    result = rebuild(folder)
    assert problems(result) == [("default", "bob", 2)]
    served = reopened(folder, blocks_may_be_missing=True)
    assert served["default", "bob"] == [*range(256), 1, 2]
    assert served["default", "alice"] == [1, 2, 3, 4, 5]
    aside = folder / "quarantine" / first.parent.name
    assert [path.name for path in files_below(aside, "")] == [second.name, third.name, fourth.name]

    # What was lost comes back once the record does.
    (aside / second.name).write_bytes(sound[second])
    assert rebuild(folder).problems == ()
    assert {path: path.read_bytes() for path in sound} == sound
    assert reopened(folder, blocks_may_be_missing=True)["default", "bob"] == [7]


def test_a_missing_record_ends_the_chain(folder: Path) -> None:
    first, _ = records(folder, "alice")
    first.unlink()
    assert problems(rebuild(folder)) == [("default", "alice", 1)]
    assert ("default", "alice") not in reopened(folder)


def test_records_of_others_do_not_enter(folder: Path) -> None:
    first, second = records(folder, "alice")
    (twin,) = records(folder, "twin")
    foreign, _ = records(folder, "alice", "other/..")
    second.write_bytes(foreign.read_bytes())
    twin.write_bytes(first.read_bytes())
    result = rebuild(folder)
    assert problems(result) == [("", "", 1), ("default", "alice", 2)]
    served = reopened(folder, blocks_may_be_missing=True)
    assert served["default", "alice"] == [1, 2, 3]
    assert ("default", "twin") not in served


def test_damaged_blocks_are_listed_and_not_served(folder: Path) -> None:
    before = dump(folder)
    damaged, missing = files_below(folder / "blocks", "")[:2]
    damaged.write_bytes(b"x")
    missing.unlink()
    assert rebuild(folder).problems == ()
    after = dump(folder)
    assert {key: tokens for key, _, tokens, *_ in after["blocks"]} == {
        key: tokens for key, _, tokens, *_ in before["blocks"]
    }
    assert after["timeline"] == before["timeline"]
    reopened(folder, blocks_may_be_missing=True)


def test_a_turn_whose_transaction_was_lost_is_found(folder: Path) -> None:
    catalog = (folder / "catalog.sqlite").read_bytes()
    store = Store.open(folder)
    row = store.agent("default", "twin")
    assert row is not None
    add_turn(store, row, [8])
    store.close()
    (folder / "catalog.sqlite").write_bytes(catalog)
    served = reopened(folder, blocks_may_be_missing=True)
    assert served["default", "twin"] == [1, 2, 3], "it looks as if a crash had prevented the turn"
    assert rebuild(folder).problems == ()
    assert reopened(folder, blocks_may_be_missing=True)["default", "twin"] == [1, 2, 3, 8]


def test_of_two_agents_with_one_name_the_later_is_kept(folder: Path) -> None:
    gone = shutil.copytree(folder / "turns", folder.parent / "turns")
    store = Store.open(folder)
    store.pruning.delete("default", "alice")
    add_turn(store, store.create_agent("default", "alice"), [8], created=5000.0)
    store.close()
    shutil.copytree(gone, folder / "turns", dirs_exist_ok=True)  # as if its removal had not reached the disk
    result = rebuild(folder)
    assert problems(result) == [("default", "alice", 1)]
    assert reopened(folder)["default", "alice"] == [8]


def test_an_interrupted_deletion_is_not_undone(folder: Path) -> None:
    files = FailingFiles(Crash())
    store = Store.open(folder, files)
    row = store.agent("default", "alice")
    assert row is not None
    files.fail_at = files.count + 4
    with pytest.raises(Crash):
        store.pruning.delete("default", "alice")
    store.close()
    assert files_below(folder / "turns" / row.id, ".json"), "it was stopped too late"
    (folder / "catalog.sqlite").unlink()
    rebuild(folder)
    assert ("default", "alice") not in reopened(folder)
    assert not (folder / "turns" / row.id).exists()


def test_a_deletion_that_failed_does_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(folder)
    row = store.agent("default", "alice")
    assert row is not None

    def fail(*_: object) -> None:
        raise AgentmemError(Reason.STORE_UNWRITABLE, "The catalog cannot be written to.")

    with monkeypatch.context() as patch:
        patch.setattr(store._core.catalog, "write", fail)
        with pytest.raises(AgentmemError):
            store.pruning.delete("default", "alice")
    add_turn(store, row, [6])
    store.close()
    (folder / "catalog.sqlite").unlink()
    rebuild(folder)
    assert reopened(folder)["default", "alice"] == [1, 2, 3, 4, 5, 6]


def test_namespaces_are_told_by_their_secrets(folder: Path) -> None:
    served = reopened(folder)
    names = files_below(folder / "namespaces", "name.json")
    texts = [path.read_text() for path in names]
    for path, text in zip(names, reversed(texts), strict=True):
        path.write_text(text)
    assert len(rebuild(folder).problems) == 2
    assert reopened(folder) == served
    names[0].write_text("{")
    (folder / "format.json").write_text("{")
    assert len(rebuild(folder).problems) == 1
    assert reopened(folder) == served


def test_a_lost_secret_costs_its_namespace_alone(folder: Path) -> None:
    store = Store.open(folder)
    store.close()
    for path in files_below(folder / "namespaces", "secret"):
        if "other" in path.with_name("name.json").read_text():
            path.unlink()
    assert problems(rebuild(folder)) == [("", "", 1)]
    assert sorted(reopened(folder)) == [("default", "alice"), ("default", "bob"), ("default", "twin")]
    assert len(list(folder.glob("quarantine/*/*.json"))) == 2


def test_a_crash_at_any_operation_of_a_rebuild(folder: Path, tmp_path: Path) -> None:
    served = reopened(folder)
    (records(folder, "alice")[1]).write_bytes(b"x")
    counted = FailingFiles()
    rebuild(Path(shutil.copytree(folder, tmp_path / "count")), counted)
    for step in range(1, counted.count + 1):
        copy = Path(shutil.copytree(folder, tmp_path / str(step)))
        files = FailingFiles(Crash())
        files.fail_at = step
        with pytest.raises(Crash):
            rebuild(copy, files)
        with_catalog = (copy / "catalog.sqlite").exists()
        if not with_catalog:
            with pytest.raises(AgentmemError) as caught:
                Store.open(copy)
            assert caught.value.reason is Reason.STORE_UNREADABLE
        rebuild(copy)
        after = reopened(copy, blocks_may_be_missing=True)
        assert after == served | {("default", "alice"): [1, 2, 3]}


def test_what_must_not_be_rebuilt(folder: Path, tmp_path: Path) -> None:
    def refused(path: Path) -> Reason:
        with pytest.raises(AgentmemError) as caught:
            rebuild(path)
        return caught.value.reason

    store = Store.open(folder)
    assert refused(folder) is Reason.STORE_LOCKED
    store.close()
    (folder / "format.json").write_text('{"format": 999}')
    assert refused(folder) is Reason.STORE_TOO_NEW
    assert refused(tmp_path / "nowhere") is Reason.STORE_UNREADABLE
    assert not (tmp_path / "nowhere").exists()

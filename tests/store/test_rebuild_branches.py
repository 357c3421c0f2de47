"""Rebuilding the catalog of agents that were forked, set back, pruned, imported, made private, or evicted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.store.blockfile import BlockUnreadable, Unreadable
from agentmem.store.rebuild import rebuild
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.types import Share
from tests.store.samples import Crash, add_turn, dump, files_below, read_all

NAMESPACES = ("default",)
IDS = {
    "alice": [1, 2, 3, 9],
    "fork": [1, 2, 3],
    "imported": [1, 2, 3, 4, 5],
    "pruned": [1, 2, 3, 4, 5, 6],
    "hidden": [7, 8],
    "hidden fork": [7, 8],
    "published": [5, 5],
    "text": [1, 2, 3, 9],
    "cold": [11, 12],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, sealing: None) -> Path:
    folder = tmp_path_factory.mktemp("base") / "state"
    store = Store.open(folder)
    alice, _ = add_turn(store, store.create_agent("default", "alice"), [1, 2, 3], request_id="r-1", created=9e9)
    alice, _ = add_turn(store, alice, [4, 5])
    store.branches.fork("default", "alice", "fork", at_turn=1, request_id="r-fork")
    store.transfers.take_in(
        store.transfers.export("default", "alice"), "default", "imported", "r-import", lambda record: None
    )
    pruned = store.branches.fork("default", "alice", "pruned")
    pruned, _ = add_turn(store, pruned, [6])
    store.branches.rewind("default", "pruned", 1)
    pruned = store.branches.rewind("default", "pruned", 2)
    store.pruning.history("default", "pruned")
    store.branches.rewind("default", "pruned", 5)
    alice = store.branches.rewind("default", "alice", 1, request_id="r-rewind")
    store.branches.rewind("default", "alice", 2)
    alice = store.branches.rewind("default", "alice", 1)
    add_turn(store, alice, [9])
    text = store.transfers.export("default", "alice")
    store.transfers.take_in(text, "default", "text", "r-text", lambda record: "state-2")
    store.create_agent("default", "hidden")
    store.set_agent("default", "hidden", share=Share.PRIVATE)
    add_turn(store, row(store, "hidden"), [7, 8])
    store.branches.fork("default", "hidden", "hidden fork")
    add_turn(store, store.create_agent("default", "published"), [5, 5])
    store.set_agent("default", "published", share=Share.PRIVATE)
    store.set_agent("default", "published", share=Share.NAMESPACE)
    cold, _ = add_turn(store, store.create_agent("default", "cold"), [11, 12])
    assert store.pruning.blocks(cold.id) > 0
    store.close()
    return folder


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "state"))


def row(store: Store, name: str) -> AgentRow:
    found = store.agent("default", name)
    assert found is not None
    return found


def agent_id(folder: Path, name: str) -> str:
    store = Store.open(folder)
    found = row(store, name).id
    store.close()
    return found


def served(folder: Path) -> dict[str, list[int]]:
    return {name: ids for (_, name), ids in read_all(folder, NAMESPACES, blocks_may_be_missing=True).items()}


def test_the_same_catalog_comes_back(folder: Path) -> None:
    assert served(folder) == IDS
    before = dump(folder)
    (folder / "catalog.sqlite").unlink()
    result = rebuild(folder)
    assert (result.agents, result.problems) == (len(IDS), ())
    assert dump(folder) == before
    assert served(folder) == IDS


def test_request_ids_of_branches_are_known(folder: Path) -> None:
    rebuild(folder)
    store = Store.open(folder)
    for name, request_id in (("fork", "r-fork"), ("imported", "r-import"), ("alice", "r-rewind"), ("text", "r-text")):
        made = store.find_request("default", request_id)
        assert made is not None
        assert made.agent_name == name
    assert store.branches.fork("default", "alice", "fork", at_turn=1, request_id="r-fork") == row(store, "fork")
    store.close()


def test_what_was_given_up_is_no_loss(folder: Path) -> None:
    rebuild(folder)
    store = Store.open(folder)
    for name in ("cold", "text"):
        agent = row(store, name)
        assert store.standings([agent.id])[agent.id].lacks_blocks
        (use,) = store.history(agent.id).timeline()
        with pytest.raises(BlockUnreadable) as caught:
            store.blocks.read("default", use.key)
        assert caught.value.reason is Unreadable.EVICTED
    store.close()


def test_a_private_agent_stays_private(folder: Path) -> None:
    rebuild(folder)
    store = Store.open(folder)
    assert {agent.name for agent in store.agents("default") if agent.share is Share.PRIVATE} == {
        "hidden",
        "hidden fork",
        "imported",
    }
    for name in ("hidden", "published"):
        (use,) = store.history(row(store, name).id).timeline()
        assert store.blocks.shared(use.key) is (name == "published")
    store.close()


def test_a_catalog_that_lost_the_change_to_private_does_not_share(folder: Path) -> None:
    """As after damage to the last transaction in its log, which no check can tell from a crash."""
    catalog = (folder / "catalog.sqlite").read_bytes()
    store = Store.open(folder)
    store.set_agent("default", "fork", share=Share.PRIVATE)
    store.close()
    (folder / "catalog.sqlite").write_bytes(catalog)
    store = Store.open(folder)
    assert row(store, "fork").share is Share.PRIVATE
    store.close()


def test_turns_that_were_pruned_stay_gone(folder: Path) -> None:
    """A crash while their records were being removed left some of them, and the catalog was lost."""
    records = folder / "turns" / agent_id(folder, "alice")
    old = {path: path.read_bytes() for path in files_below(records, ".json")}
    store = Store.open(folder)
    store.pruning.history("default", "alice")
    store.close()
    for path in list(old)[1:]:
        path.write_bytes(old[path])
    (folder / "catalog.sqlite").unlink()
    assert rebuild(folder).problems == ()
    assert served(folder) == IDS
    assert [path.name for path in files_below(records, "")] == ["00000007.json"]


def test_pruning_that_was_not_committed_costs_no_turn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = folder / "turns" / agent_id(folder, "alice")
    old = files_below(records, "")
    store = Store.open(folder)

    def crash(*_: object) -> None:
        raise Crash

    monkeypatch.setattr(store._core.catalog, "write", crash)
    with pytest.raises(Crash):
        store.pruning.history("default", "alice")
    store.close()
    assert served(folder) == IDS
    assert len(files_below(folder / "quarantine", ".json")) == 1
    rebuild(folder)
    assert served(folder) == IDS
    assert files_below(records, "") == old

    # But it holds all there is, if the others are lost.
    old[2].write_bytes(b"x")
    assert rebuild(folder).problems == ()
    assert served(folder) == IDS
    assert len(files_below(records, "")) == 1


def test_pruning_that_the_catalog_forgot(folder: Path) -> None:
    catalog = (folder / "catalog.sqlite").read_bytes()
    store = Store.open(folder)
    store.pruning.history("default", "alice")
    store.close()
    (folder / "catalog.sqlite").write_bytes(catalog)
    Store.open(folder).close()
    assert rebuild(folder).problems == ()
    assert served(folder) == IDS


def test_a_catalog_that_lost_an_agents_first_turns_is_refused(folder: Path) -> None:
    """It looks as if they had been pruned, but for the record that would have taken their place."""
    alice = agent_id(folder, "alice")
    records = files_below(folder / "turns" / alice, "")
    store = Store.open(folder)
    store._core.catalog.write(lambda db: db.execute("DELETE FROM turns WHERE agent=? AND number<4", (alice,)))
    store.close()
    with pytest.raises(AgentmemError) as caught:
        Store.open(folder)
    assert caught.value.reason is Reason.STORE_UNREADABLE
    assert files_below(folder / "turns" / alice, "") == records
    assert rebuild(folder).problems == ()
    assert served(folder) == IDS


def test_an_agent_whose_only_turn_is_damaged_is_named(folder: Path) -> None:
    pruned = agent_id(folder, "pruned")
    first, _ = files_below(folder / "turns" / pruned, "")
    first.write_bytes(b"x")
    (problem,) = rebuild(folder).problems
    assert (problem.namespace, problem.agent, problem.turn) == ("default", "pruned", int(first.stem))
    assert served(folder) == {name: ids for name, ids in IDS.items() if name != "pruned"}
    assert len(files_below(folder / "quarantine" / pruned, "")) == 2


def test_nothing_of_a_deleted_agent_stays_in_catalogs_set_aside(folder: Path) -> None:
    rebuild(folder)
    store = Store.open(folder)
    for name in ("hidden", "hidden fork"):
        assert any(name.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())
        store.pruning.delete("default", name)
    store.close()
    assert not any(b"hidden" in path.read_bytes() for path in folder.rglob("*") if path.is_file())

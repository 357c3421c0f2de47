"""Calls that are sent again: the committed result, and nothing done twice."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.store.catalog import requests
from agentmem.store.rows import AgentRow, PrunedKind
from agentmem.store.store import Store
from agentmem.types import Share
from tests.store.samples import add_turn, expect, files_below


@pytest.fixture
def alice(store: Store) -> AgentRow:
    agent = store.create_agent("default", "alice")
    agent, _ = add_turn(store, agent, [1, 2, 3])
    return add_turn(store, agent, [4])[0]


CHANGES: dict[str, Callable[[Store, str], Any]] = {
    "create": lambda store, r: store.create_agent("default", "new", r),
    "update": lambda store, r: store.set_agent("default", "alice", r, expires=time.time() + 60),
    "prune history": lambda store, r: store.pruning.history("default", "alice", r),
    "prune agents": lambda store, r: store.pruning.agents("default", r, older_than_s=-1),
    "delete": lambda store, r: store.pruning.delete("default", "alice", r),
    "fork": lambda store, r: store.branches.fork("default", "alice", "new", request_id=r),
    "rewind": lambda store, r: store.branches.rewind("default", "alice", 1, r),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_repeat_changes_nothing_and_returns_the_same(
    store: Store, folder: Path, alice: AgentRow, change: str
) -> None:
    def catalog() -> list[list[tuple]]:
        with sqlite3.connect(folder / "catalog.sqlite") as db:
            return [db.execute(f"SELECT * FROM {table}").fetchall() for table in ("agents", "turns", "requests")]

    made, before = CHANGES[change](store, "r"), catalog()
    again = CHANGES[change](store, "r")
    if change == "prune agents":  # names are forgotten
        made = [replace(one, agent=None) for one in made]
    assert again == made
    assert catalog() == before


@pytest.mark.parametrize("second", CHANGES)
@pytest.mark.parametrize("first", ["create", "update", "prune history", "prune agents"])
def test_an_id_is_not_for_another_call(store: Store, alice: AgentRow, first: str, second: str) -> None:
    if first == second:
        return
    CHANGES[first](store, "r")
    if first == "prune agents":
        add_turn(store, store.create_agent("default", "alice"), [1])
    with expect(Reason.REQUEST_ID_REUSED):
        CHANGES[second](store, "r")


def test_an_id_is_not_for_the_same_call_to_another_agent(store: Store, alice: AgentRow) -> None:
    store.create_agent("default", "bob", "r")
    with expect(Reason.REQUEST_ID_REUSED):
        store.create_agent("default", "carol", "r")
    store.set_agent("default", "alice", "u", pinned=True)
    with expect(Reason.REQUEST_ID_REUSED):
        store.set_agent("default", "bob", "u", pinned=True)
    store.pruning.history("default", "alice", "p")
    store.create_agent("another", "alice", "r")  # a namespace of its own


def test_a_time_to_live_does_not_begin_again(store: Store, alice: AgentRow) -> None:
    row = store.set_agent("default", "alice", "r", expires=1e9, share=Share.PRIVATE)
    store.set_agent("default", "alice", share=Share.NAMESPACE)
    again = store.set_agent("default", "alice", "r", expires=2e9, share=Share.PRIVATE)
    assert again == replace(row, share=Share.NAMESPACE), "as it is now"
    assert store.set_agent("default", "alice", "s", expires=2e9).expires == 2e9


def test_a_repeated_prune_takes_nothing_that_came_later(store: Store, folder: Path, alice: AgentRow) -> None:
    gone = store.pruning.agents("default", "agents", older_than_s=-1)
    bob = store.create_agent("default", "bob")
    bob, _ = add_turn(store, bob, [1])
    bob, _ = add_turn(store, bob, [2])
    assert store.pruning.agents("default", "agents", older_than_s=-1) == [replace(one, agent=None) for one in gone]
    assert store.agent("default", "bob") == bob
    turns = store.pruning.history("default", "bob", "history")
    assert [one.turn for one in turns] == [1, 2]
    add_turn(store, store.set_agent("default", "bob"), [3])
    assert store.pruning.history("default", "bob", "history") == turns
    assert len(store.history(bob.id).page()) == 2
    assert b"alice" not in b"".join(path.read_bytes() for path in folder.glob("catalog*"))


def test_a_repeated_prune_of_orphans_says_the_same(store: Store, folder: Path, alice: AgentRow) -> None:
    def leave_one() -> Path:
        block = files_below(folder / "blocks", "")[0]
        orphan = block.with_name("0" * 64 + ".safetensors")
        orphan.write_bytes(b"1234")
        return orphan

    leave_one()
    (pruned,) = store.pruning.orphans("default", "r")
    assert (pruned.kind, pruned.freed_bytes) == (PrunedKind.ORPHAN, 4)
    orphan = leave_one()
    assert store.pruning.orphans("default", "r") == [pruned]
    assert orphan.exists()
    with expect(Reason.REQUEST_ID_REUSED):
        store.pruning.agents("default", "r", expired=True)


def test_a_prune_that_found_nothing_is_done_when_it_is_repeated(store: Store, alice: AgentRow) -> None:
    """Nobody heard of the first one, and it changed nothing: the second is the first."""
    assert store.pruning.agents("default", "r", expired=True) == []
    store.set_agent("default", "alice", expires=1.0)
    assert len(store.pruning.agents("default", "r", expired=True)) == 1


def test_a_dry_run_uses_no_id_up(store: Store, alice: AgentRow) -> None:
    for _ in range(2):
        assert len(store.pruning.history("default", "alice", "r", dry_run=True)) == 2
        assert len(store.pruning.agents("default", "r", older_than_s=-1, dry_run=True)) == 1
    assert store.find_request("default", "r") is None


def test_a_result_is_remembered_over_a_restart_and_for_a_day(
    store: Store, folder: Path, alice: AgentRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = store.pruning.history("default", "alice", "r")
    store.close()
    again = Store.open(folder)
    try:
        assert again.pruning.history("default", "alice", "r") == turns
        add_turn(again, again.set_agent("default", "alice"), [5])
        monkeypatch.setattr(requests, "SECONDS", 0.0)
        assert [one.turn for one in again.pruning.history("default", "alice", "r")] == [3, 4]
    finally:
        again.close()


@pytest.mark.parametrize("damage", ["", "[", "7", '[["a", 1]]', "[[1]]"])
def test_a_damaged_result_is_no_result(store: Store, folder: Path, alice: AgentRow, damage: str) -> None:
    store.pruning.history("default", "alice", "r")
    with sqlite3.connect(folder / "catalog.sqlite") as db:
        (was,) = db.execute("SELECT freed FROM requests WHERE request_id='r'").fetchone()
        assert json.loads(was)
        db.execute("UPDATE requests SET freed=? WHERE request_id='r'", (damage,))
    db.close()
    with pytest.raises(AgentmemError) as caught:
        store.pruning.history("default", "alice", "r")
    assert caught.value.reason is Reason.STORE_UNREADABLE

"""What leaves the store: agents and turns; and that nothing of them stays behind."""

from __future__ import annotations

import errno
import random
import re
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.store.catalog import agents
from agentmem.store.rows import AgentRow, PrunedKind
from agentmem.store.store import Store
from agentmem.types import AgentRef, Message, TurnKind, TurnMessage
from tests.store.samples import add_turn, expect, files_below


@pytest.fixture
def alice(store: Store) -> AgentRow:
    """1 2 3, then 4 5, then back to 1 2 3, then 6."""
    agent = store.create_agent("default", "alice")
    agent, _ = add_turn(store, agent, [1, 2, 3])
    agent, _ = add_turn(store, agent, [4, 5], request_id="r2")
    agent = store.branches.rewind("default", "alice", 1)
    return add_turn(store, agent, [6])[0]


def bytes_on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in files_below(folder / "blocks", "") + files_below(folder / "turns", ""))


def test_history_is_dropped_and_the_timeline_stays(store: Store, folder: Path, alice: AgentRow) -> None:
    history = store.history(alice.id)
    ids, messages, timeline = history.ids().tolist(), history.messages(), history.timeline()
    before = bytes_on_disk(folder)
    planned = store.pruning.history("default", "alice", dry_run=True)
    assert store.agent("default", "alice") == alice
    assert bytes_on_disk(folder) == before == store.total_bytes()

    assert store.pruning.history("default", "alice") == planned
    assert [(item.kind, item.agent, item.turn) for item in planned] == [
        (PrunedKind.TURN, AgentRef("default", "alice"), number) for number in (1, 2, 3, 4)
    ]
    row = store.agent("default", "alice")
    assert row is not None
    assert (row.turn, row.tokens) == (5, 4)
    (record,) = store.history(alice.id).page()
    assert (record.number, record.kind, record.start, record.base_blocks) == (5, TurnKind.FORK, 0, 0)
    assert record.previous == b"", "the chain begins here"
    assert store.history(alice.id).ids().tolist() == ids == [1, 2, 3, 6]
    assert (store.history(alice.id).messages(), store.history(alice.id).timeline()) == (messages, timeline)
    assert [path.name for path in files_below(folder / "turns", "")] == ["00000005.json"]
    assert [path.stem for path in files_below(folder / "blocks", "")] == [use.key.hex() for use in timeline]
    (new,) = files_below(folder / "turns", "")
    assert bytes_on_disk(folder) == before - sum(item.freed_bytes for item in planned) + new.stat().st_size
    assert bytes_on_disk(folder) == store.total_bytes()


def test_pruned_turns_are_gone_and_the_agent_goes_on(store: Store, folder: Path, alice: AgentRow) -> None:
    store.pruning.history("default", "alice")
    for number in (1, 4):
        with expect(Reason.TURN_NOT_FOUND):
            store.history(alice.id).record(number)
        with expect(Reason.TURN_NOT_FOUND):
            store.branches.rewind("default", "alice", number)
        with expect(Reason.TURN_NOT_FOUND):
            store.branches.fork("default", "alice", "bob", at_turn=number)
    request = store.find_request("default", "r2")
    assert request is not None, "a repeat is not done twice"
    row = store.agent("default", "alice")
    assert row is not None
    row, _ = add_turn(store, row, [7])
    assert store.history(alice.id).ids().tolist() == [1, 2, 3, 6, 7]
    assert [turn.number for turn in store.history(alice.id).page()] == [5, 6]
    assert [turn.number for turn in store.history(alice.id).page(limit=1)] == [5]
    assert store.history(alice.id).record(6).previous == store.history(alice.id).record(5).digest
    store.close()
    store = Store.open(folder)
    assert store.branches.rewind("default", "alice", 5).tokens == 4
    assert [item.turn for item in store.pruning.history("default", "alice")] == [5, 6, 7]
    assert store.history(alice.id).ids().tolist() == [1, 2, 3, 6]
    store.close()


def test_there_may_be_no_history_to_drop(store: Store, folder: Path, alice: AgentRow) -> None:
    store.create_agent("default", "empty")
    store.branches.fork("default", "alice", "bob")
    before = bytes_on_disk(folder)
    for name in ("empty", "bob"):
        assert store.pruning.history("default", name) == []
    store.set_agent("default", "alice", pinned=True)
    assert store.pruning.history("default", "alice") == []
    assert bytes_on_disk(folder) == before
    with expect(Reason.AGENT_NOT_FOUND):
        store.pruning.history("default", "nobody")


def test_history_that_others_use_stays_theirs(store: Store, folder: Path, alice: AgentRow) -> None:
    fork = store.branches.fork("default", "alice", "bob", at_turn=2)
    before = bytes_on_disk(folder)
    pruned = store.pruning.history("default", "alice")
    (record,) = files_below(folder / "turns" / alice.id, "")
    assert bytes_on_disk(folder) == before - sum(item.freed_bytes for item in pruned) + record.stat().st_size
    (use,) = store.history(fork.id).timeline()
    assert store.blocks.read("default", use.key)[0].ids.tolist() == [1, 2, 3, 4, 5]


def test_old_and_expired_agents_go_but_pinned_ones_stay(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    for age, name in enumerate(("new", "old", "pinned", "older")):
        monkeypatch.setattr(time, "time", lambda age=age: now - 100 * age)
        add_turn(store, store.create_agent("default", name), [1, 2, 3] if age % 2 else [age])
    add_turn(store, store.create_agent("other", "older"), [1])
    monkeypatch.setattr(time, "time", lambda: now)
    store.set_agent("default", "pinned", pinned=True, expires=now)
    store.set_agent("default", "new", expires=now + 1)
    assert store.pruning.agents("default") == store.pruning.agents("default", expired=True) == []
    assert store.pruning.agents("default", older_than_s=301) == []
    planned = store.pruning.agents("default", older_than_s=99, dry_run=True)
    assert store.count_agents() == 5
    before = bytes_on_disk(folder)
    assert store.pruning.agents("default", older_than_s=99) == planned
    assert [(item.kind, item.agent.name, item.turn) for item in planned] == [
        (PrunedKind.AGENT, "old", 1),
        (PrunedKind.AGENT, "older", 1),
    ]
    assert planned[0].freed_bytes < planned[1].freed_bytes, "a shared block goes with the last who used it"
    assert bytes_on_disk(folder) == before - sum(item.freed_bytes for item in planned) == store.total_bytes()
    monkeypatch.setattr(time, "time", lambda: now + 1)
    assert [item.agent.name for item in store.pruning.agents("default", expired=True)] == ["new"]
    assert [agent.name for agent in store.agents("default")] == ["pinned"]
    assert store.count_agents() == 2
    store.set_agent("default", "pinned", pinned=False)
    assert [item.agent.name for item in store.pruning.agents("default", older_than_s=-1, expired=True)] == ["pinned"]


def found(folder: Path, *words: str) -> set[str]:
    """Which of the words stand anywhere in the folder's files."""
    data = contents(folder)
    return {word for word in words if word.encode() in data}


def contents(folder: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_nothing_of_a_deleted_agent_stays(store: Store, folder: Path) -> None:
    name, text = "XName-of-a-secret-agent", "Xthe-text-of-a-message"
    for _ in range(2):
        agent = store.create_agent("default", name, "create-1")
        message = TurnMessage(Message("user", (text,)), 0, 2)
        agent, _ = add_turn(store, agent, [1, 2], messages=(message,), request_id="turn-1")
        store.branches.fork("default", name, f"{name}-fork", request_id="fork-1")
        store.set_agent("default", name, pinned=True)
        assert found(folder, name, text) == {name, text}
        store.pruning.delete("default", f"{name}-fork")
        assert store.pruning.delete("default", name, "delete-1") > 0
        assert found(folder, name, text) == set()
        store.close()
        assert found(folder, name, text) == set()
        store = Store.open(folder)
        assert store.find_request("default", "turn-1") is None
        assert store.pruning.delete("default", name, "delete-1") > 0, "a repeat is known without the name"
        with expect(Reason.REQUEST_ID_REUSED):
            store.pruning.delete("default", "another", "delete-1")
        db = sqlite3.connect(folder / "catalog.sqlite")
        db.execute("DELETE FROM requests")
        db.commit()
        db.close()
    store.close()


def test_nothing_of_many_deleted_agents_stays(store: Store, folder: Path) -> None:
    """Rows that moved between pages leave copies, which PRAGMA secure_delete alone does not clear."""
    rng = random.Random(1)
    names = [f"X{number:06d}" + "x" * rng.randrange(200) for number in range(3000)]
    kept: list[str] = []

    def come_and_go(db: sqlite3.Connection) -> None:
        for name in names:
            if kept and rng.random() < 0.3:
                agents.delete(db, agents.get(db, "default", kept.pop(rng.randrange(len(kept)))))
            agents.insert(db, replace(AgentRow.new("default", name), id=rng.randbytes(16).hex()))
            kept.append(name)

    store.namespace("default")
    store._core.catalog.write(come_and_go)
    (last, *kept) = kept
    store.pruning.delete("default", last)
    assert {match.decode() for match in re.findall(rb"X[0-9]{6}", contents(folder))} == {name[:7] for name in kept}


def test_a_deletion_says_when_something_stays(store: Store, folder: Path) -> None:
    """Another process that reads the catalog keeps its log from being emptied; a repeat does it."""
    add_turn(store, store.create_agent("default", "Xalice"), [1, 2])
    store._core.catalog.read(lambda db: db.execute("PRAGMA busy_timeout=50"))
    reader = sqlite3.connect(folder / "catalog.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM agents").fetchone() == (1,)
    with expect(Reason.STORE_UNWRITABLE):
        store.pruning.delete("default", "Xalice", "d")
    assert store.agent("default", "Xalice") is None
    assert found(folder, "Xalice") == {"Xalice"}
    reader.close()
    assert store.pruning.delete("default", "Xalice", "d") > 0
    assert found(folder, "Xalice") == set()


@pytest.mark.parametrize("reopened", [True, False])
def test_a_file_of_a_block_that_was_given_up_is_an_orphan(folder: Path, reopened: bool) -> None:
    """A crash leaves it: between catalog and files, or between the file that was written again and the catalog."""
    store = Store.open(folder)
    agent, block = add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    (file,) = files_below(folder / "blocks", "")
    data = file.read_bytes()
    assert store.pruning.blocks(agent.id) == len(data)
    file.write_bytes(data)
    if reopened:
        store.close()
        store = Store.open(folder)
    else:
        assert store.disk_usage().orphaned_bytes == len(data)
        assert [item.freed_bytes for item in store.pruning.orphans()] == [len(data)]
    assert files_below(folder / "blocks", "") == []
    assert store.blocks.sizes([block.key]) == {block.key: 0}
    store.close()


def test_what_was_wrong_with_a_block_that_was_given_up_stays_in_quarantine(folder: Path) -> None:
    store = Store.open(folder)
    _, block = add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    (file,) = files_below(folder / "blocks", "")
    file.write_bytes(b"damaged")
    store.blocks.give_up("default", block.key)
    aside = files_below(folder / "quarantine", "")
    assert len(aside) == 2
    assert store.pruning.orphans() == []
    store.close()
    Store.open(folder).close()
    assert files_below(folder / "quarantine", "") == aside


def test_only_what_nobody_else_uses_is_given_up(store: Store, folder: Path, alice: AgentRow) -> None:
    twin = store.branches.fork("default", "alice", "twin")
    shared = {use.key.hex() for use in store.history(twin.id).timeline()}
    before = {path.stem: path.stat().st_size for path in files_below(folder / "blocks", "")}
    assert shared < before.keys()
    would = store.pruning.blocks(alice.id, dry_run=True)
    assert before.keys() == {path.stem for path in files_below(folder / "blocks", "")}
    assert store.pruning.blocks(alice.id) == would == sum(before[key] for key in before.keys() - shared)
    assert {path.stem for path in files_below(folder / "blocks", "")} == shared
    assert store.pruning.blocks(alice.id) == 0
    assert store.pruning.blocks(twin.id) == 0, "alice has them as well"


@pytest.mark.parametrize("what", ["mark", "transaction"])
def test_a_completely_full_disk_takes_deletions(
    store: Store, folder: Path, alice: AgentRow, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """What only the agents use makes room first; blocks that others use stay."""
    twin = store.branches.fork("default", "alice", "twin")
    add_turn(store, store.create_agent("default", "bob"), [7, 8, 9])
    shared = {use.key for use in store.history(twin.id).timeline()}
    removed = []
    real = {"mark": store._core.turns.mark_forgotten, "transaction": store._core.catalog.write}
    remove = store._core.blocks.remove

    def full(*args: object, **kwargs: object) -> object:
        if not removed:
            if what == "mark":
                raise OSError(errno.ENOSPC, "No space left on device")
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise AgentmemError(Reason.STORE_UNWRITABLE, "The catalog cannot be written to.") from error
        return real[what](*args, **kwargs)

    monkeypatch.setattr(store._core.blocks, "remove", lambda key: (removed.append(key), remove(key)))
    owner = store._core.turns if what == "mark" else store._core.catalog
    monkeypatch.setattr(owner, "mark_forgotten" if what == "mark" else "write", full)
    assert [one.agent and one.agent.name for one in store.pruning.agents("default", older_than_s=-1)] == [
        "alice", "bob", "twin",
    ]  # fmt: skip
    monkeypatch.undo()
    assert shared.isdisjoint(removed[:1]), "two of the agents use it: it goes last"
    assert files_below(folder / "blocks", "") == files_below(folder / "turns", "") == []


def test_a_disk_that_refuses_for_another_reason_costs_no_block(
    store: Store, folder: Path, alice: AgentRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_below(folder / "blocks", "")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(store._core.turns, "mark_forgotten", refuse)
    with expect(Reason.STORE_UNWRITABLE):
        store.pruning.delete("default", "alice")
    assert files_below(folder / "blocks", "") == before

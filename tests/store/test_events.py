"""Events: they cost no transaction, never fail anything, are bounded, and go with their agent."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from agentmem.errors import Reason
from agentmem.store.catalog import events
from agentmem.store.events import MAX_WAITING, QUIET_S
from agentmem.store.rows import EventKind
from agentmem.store.store import Store
from agentmem.types import AgentRef
from tests.store.samples import Crash, add_turn, expect


def stored(folder: Path) -> list[str]:
    """Kinds of what is on the disk."""
    db = sqlite3.connect(folder / "catalog.sqlite")
    kinds = [kind for (kind,) in db.execute("SELECT kind FROM events ORDER BY number")]
    db.close()
    return kinds


def kinds(store: Store, *filters: str) -> list[str]:
    return [event.kind for event in store.events.page(*filters)]


def test_they_wait_for_the_next_change_and_show_at_once(store: Store, folder: Path) -> None:
    agent = store.create_agent("default", "alice")
    store.events.note(EventKind.RAM_EVICTED, agent.id, nbytes=7)
    store.events.note(EventKind.STARTED, reason="UNCLEAN")
    waiting = store.events.page()
    assert stored(folder) == []
    add_turn(store, agent, [1])
    assert stored(folder) == ["RAM_EVICTED", "STARTED"]
    assert store.events.page() == waiting, "numbers included"
    first, second = waiting
    assert (first.agent, first.nbytes, first.reason) == (AgentRef("default", "alice"), 7, "")
    assert (second.agent, second.nbytes, second.reason) == (None, 0, "UNCLEAN")
    assert first.number < second.number
    store.events.note(EventKind.STOPPED)
    store.close()
    assert stored(folder) == ["RAM_EVICTED", "STARTED", "STOPPED"]
    assert Store.open(folder).events.stopped_last()


def test_soon_needs_no_change(store: Store, folder: Path) -> None:
    store.events.note(EventKind.DISK_REFUSED, nbytes=7, soon=True)
    store.namespaces()  # behind it on the catalog's thread
    assert stored(folder) == ["DISK_REFUSED"]
    assert store.events.stopped_last() is None


def test_pages_and_filters(store: Store) -> None:
    alice, bob = store.create_agent("default", "alice"), store.create_agent("team", "bob")
    for n in range(6):
        store.events.note(EventKind.RAM_EVICTED, (alice, bob)[n % 2].id, nbytes=n)
        if n == 2:
            store.namespace("other")  # some are stored, some wait
    store.events.note(EventKind.STARTED)
    assert [event.nbytes for event in store.events.page("default")] == [0, 2, 4]
    assert [event.nbytes for event in store.events.page("team", "bob")] == [1, 3, 5]
    assert len(store.events.page()) == 7
    page = store.events.page(limit=4)
    assert [event.nbytes for event in page] == [0, 1, 2, 3]
    assert [event.nbytes for event in store.events.page(after=page[-1].number)] == [4, 5, 0]
    moment = store.events.page()[3].created
    assert [event.nbytes for event in store.events.page(since=moment)] == [3, 4, 5, 0]
    with expect(Reason.AGENT_NOT_FOUND):
        store.events.page("default", "bob")


def test_an_agents_events_go_with_it(store: Store, folder: Path) -> None:
    alice, bob = store.create_agent("default", "alice"), store.create_agent("default", "bob")
    store.events.note(EventKind.RAM_EVICTED, alice.id)
    store.events.note(EventKind.RAM_EVICTED, bob.id)
    add_turn(store, bob, [1])
    store.events.note(EventKind.DISK_EVICTED, alice.id)
    store.pruning.delete("default", "alice")
    store.events.note(EventKind.DISK_EVICTED, alice.id)  # too late
    store.events.note(EventKind.STOPPED)
    assert [event.agent for event in store.events.page()] == [AgentRef("default", "bob"), None]
    store.close()
    assert stored(folder) == ["RAM_EVICTED", "STOPPED"]
    assert not any(alice.id.encode() in path.read_bytes() for path in folder.glob("catalog.sqlite*"))


def test_the_list_is_bounded(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT", 5)
    for n in range(12):
        store.events.note(EventKind.RAM_EVICTED, nbytes=n)
        store.namespace(f"n{n}")
    assert [event.nbytes for event in store.events.page()] == [7, 8, 9, 10, 11]
    for n in range(MAX_WAITING + 10):
        store.events.note(EventKind.RAM_EVICTED, nbytes=n)
    assert len(store.events._waiting) == MAX_WAITING


def test_an_event_that_cannot_be_noted_fails_nothing(store: Store, folder: Path) -> None:
    agent = store.create_agent("default", "alice")
    with sqlite3.connect(folder / "catalog.sqlite") as db:
        db.execute("ALTER TABLE events RENAME TO lost")
    db.close()
    store.events.note(EventKind.RAM_EVICTED, agent.id)
    agent, _ = add_turn(store, agent, [1])
    assert agent.turn == 1
    store.close()


def test_what_a_failed_change_carried_goes_with_the_next(store: Store, folder: Path) -> None:
    agent = store.create_agent("default", "alice")
    store.events.note(EventKind.RAM_EVICTED, agent.id)
    with expect(Reason.AGENT_NOT_FOUND):
        store.set_agent("default", "nobody", pinned=True)
    ride = store.events._ride

    def cut_off(db: sqlite3.Connection) -> None:
        ride(db)
        raise Crash

    store._core.catalog.rider = cut_off  # type: ignore[assignment]
    with pytest.raises(Crash):
        store.set_agent("default", "alice", pinned=True)
    store._core.catalog.rider = ride
    assert (stored(folder), kinds(store)) == ([], ["RAM_EVICTED"])
    store.set_agent("default", "alice", pinned=True)
    assert stored(folder) == kinds(store) == ["RAM_EVICTED"]


def test_a_refusal_that_is_repeated_does_not_crowd_out_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = store.create_agent("default", "alice"), store.create_agent("default", "bob")
    for _ in range(5):
        for agent in (alice, bob):
            store.events.note(EventKind.DISK_REFUSED, agent.id, soon=True)
            store.events.note(EventKind.RAM_EVICTED, agent.id)
    assert kinds(store, "default", "alice") == ["DISK_REFUSED", *["RAM_EVICTED"] * 5]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + QUIET_S)
    store.events.note(EventKind.DISK_REFUSED, alice.id)
    assert kinds(store, "default", "alice").count("DISK_REFUSED") == 2


def test_no_number_comes_twice(store: Store) -> None:
    """Or who follows the list would miss what took the number of an event that went with its agent."""
    for name in ("alice", "bob"):
        store.events.note(EventKind.RAM_EVICTED, store.create_agent("default", name).id, soon=True)
    last = store.events.page()[-1].number
    store.pruning.delete("default", "bob")
    store.events.note(EventKind.STOPPED)
    assert [event.kind for event in store.events.page(after=last)] == ["STOPPED"]
    store.create_agent("default", "carol")
    assert [event.kind for event in store.events.page(after=last)] == ["STOPPED"]


def test_a_number_that_was_shown_stays(store: Store) -> None:
    """Whatever becomes of those before it: who follows the list asks for what is behind the last number seen."""
    alice, bob = store.create_agent("default", "alice"), store.create_agent("default", "bob")
    undone = store.events.note(EventKind.DISK_EVICTED, bob.id)
    store.events.note(EventKind.RAM_EVICTED, alice.id)
    store.events.note(EventKind.STARTED)
    last = store.events.page()[-1].number
    store.events.take_back([undone])
    assert store.events.page()[-1].number == last
    store.pruning.delete("default", "alice")  # her event waits still, and is not entered
    assert store.events.page()[-1].number == last
    store.events.note(EventKind.STOPPED)
    assert [event.kind for event in store.events.page(after=last)] == ["STOPPED"]

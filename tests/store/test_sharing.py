"""Who uses which blocks: pins, times to live, sharing, matches, and bytes by user."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentmem.errors import Reason
from agentmem.store.records import BlockUse
from agentmem.store.rows import AgentRow, AgentUsage, Child
from agentmem.store.store import Store
from agentmem.types import Share
from tests.store.samples import STATE_ID, add_turn, expect, files_below, make_block, make_record


def test_set_agent_changes_what_it_is_told_to(folder: Path) -> None:
    store = Store.open(folder)
    row = store.create_agent("default", "alice")
    assert (row.pinned, row.expires, row.share) == (False, None, Share.NAMESPACE)
    row = store.set_agent("default", "alice", pinned=True, expires=12.5)
    assert (row.pinned, row.expires, row.share) == (True, 12.5, Share.NAMESPACE)
    row = store.set_agent("default", "alice", share=Share.PRIVATE)
    assert (row.pinned, row.expires, row.share) == (True, 12.5, Share.PRIVATE)
    assert store.set_agent("default", "alice") == row
    row, _ = add_turn(store, row, [1])
    assert (row.pinned, row.expires, row.share) == (True, 12.5, Share.PRIVATE)
    row = store.set_agent("default", "alice", pinned=False, expires=None, share=Share.NAMESPACE)
    assert (row.pinned, row.expires, row.share) == (False, None, Share.NAMESPACE)
    store.close()
    store = Store.open(folder)
    assert store.agent("default", "alice") == row
    with expect(Reason.AGENT_NOT_FOUND):
        store.set_agent("default", "nobody", pinned=True)
    store.close()


@pytest.fixture
def agents(store: Store) -> list[AgentRow]:
    """a and b begin with the same block and go on differently; c is b's twin."""
    secret = store.namespace("default").secret
    full = make_block(list(range(256)), secret=secret)
    rows = []
    for name, token in (("a", 1), ("b", 2), ("c", 2)):
        tail = make_block([token, 7], parent=full.key, secret=secret, start=256)
        uses = [BlockUse(full.key, 256), BlockUse(tail.key, 2)]
        agent = store.create_agent("default", name)
        store.commit(make_record(agent, [*range(256), token, 7], uses), [full, tail])
        rows.append(store.agent("default", name) or agent)
    return rows


def test_children_are_found_newest_first(store: Store, agents: list[AgentRow]) -> None:
    a, b, _ = (store.timeline(agent.id) for agent in agents)
    full = a[0].key
    assert store.children("default", STATE_ID, b"") == [Child(full, 256)]
    assert store.children("default", STATE_ID, full) == [Child(b[1].key, 2), Child(a[1].key, 2)]
    store.touch(agents[0].id)
    assert store.children("default", STATE_ID, full) == [Child(a[1].key, 2), Child(b[1].key, 2)]
    assert store.children("default", STATE_ID, full, limit=1) == [Child(a[1].key, 2)]
    assert store.children("default", STATE_ID, a[1].key) == []
    store.rewind("default", "a", 0)
    assert len(store.children("default", STATE_ID, full)) == 2, "turns that are listed count"
    store.delete_agent("default", "a")
    assert store.children("default", STATE_ID, full) == [Child(b[1].key, 2)]


def test_nobody_finds_what_is_private_or_elsewhere(store: Store, agents: list[AgentRow]) -> None:
    a, b, _ = (store.timeline(agent.id) for agent in agents)
    full = a[0].key
    store.set_agent("default", "a", share=Share.PRIVATE)
    assert store.children("default", STATE_ID, full) == [Child(b[1].key, 2)]
    store.set_agent("default", "b", share=Share.PRIVATE)
    assert store.children("default", STATE_ID, full) == [Child(b[1].key, 2)], "c shares the same block"
    store.set_agent("default", "c", share=Share.PRIVATE)
    assert store.children("default", STATE_ID, full) == store.children("default", STATE_ID, b"") == []
    store.set_agent("default", "c", share=Share.NAMESPACE)
    assert len(store.children("default", STATE_ID, b"")) == 1
    assert store.children("default", "state-2", b"") == store.children("other", STATE_ID, b"") == []


def test_bytes_by_user(store: Store, folder: Path, agents: list[AgentRow]) -> None:
    add_turn(store, store.create_agent("other", "d"), [1, 2, 3])
    store.create_agent("other", "e")
    block_bytes = {path.stem: path.stat().st_size for path in files_below(folder / "blocks", "")}
    records = {row.name: _size(folder / "turns" / row.id) for row in (*agents, *store.agents("other"))}
    (full, a), (_, b) = ([block_bytes[use.key.hex()] for use in store.timeline(row.id)] for row in agents[:2])
    (use,) = store.timeline(store.agents("other")[0].id)
    usage = store.disk_usage()
    default, other = usage.namespaces
    assert (default.namespace, default.shared_bytes, other.namespace, other.shared_bytes) == (
        "default",
        full + b,
        "other",
        0,
    )
    assert default.agents == (
        AgentUsage("a", a, full, records["a"]),
        AgentUsage("b", 0, full + b, records["b"]),
        AgentUsage("c", 0, full + b, records["c"]),
    )
    assert other.agents == (AgentUsage("d", block_bytes[use.key.hex()], 0, records["d"]), AgentUsage("e", 0, 0, 0))
    assert default.total_bytes + other.total_bytes == store.total_bytes()
    assert (usage.orphaned_bytes, usage.quarantined_bytes) == (0, 0)
    assert usage.catalog_bytes == sum(path.stat().st_size for path in folder.glob("catalog.sqlite*"))
    assert usage.total_bytes == store.total_bytes() + usage.catalog_bytes


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in files_below(folder, ""))


def test_bytes_of_nobody(store: Store, folder: Path, agents: list[AgentRow]) -> None:
    (path, *_) = files_below(folder / "blocks", "")
    orphans = [
        (path.with_name(f"{make_block([9]).key.hex()}.safetensors"), 100),
        (path.with_name(".0123456789abcdef.tmp"), 20),
        (folder / "turns" / agents[0].id / "00000002.json", 3),
    ]
    for orphan, size in orphans:
        orphan.write_bytes(bytes(size))
    (folder / "notes.txt").write_bytes(b"mine")
    size = path.stat().st_size
    store.quarantine(bytes.fromhex(path.stem), "CORRUPT")
    (note,) = files_below(folder / "quarantine", ".json")
    usage = store.disk_usage()
    assert (usage.orphaned_bytes, usage.quarantined_bytes) == (123, size + note.stat().st_size)
    store.close()
    store = Store.open(folder)
    assert store.disk_usage().orphaned_bytes == 0
    store.close()


def test_what_is_being_written_is_no_orphan(store: Store) -> None:
    """Usage is asked for while turns are added: at no time does a file of theirs count as orphaned."""
    agent = store.create_agent("default", "alice")
    done = threading.Event()

    def grow() -> None:
        row = agent
        for token in range(30):
            row, _ = add_turn(store, row, [token])
        done.set()

    with ThreadPoolExecutor(1) as pool:
        grown = pool.submit(grow)
        seen = []
        while not done.is_set() and not grown.done():
            seen.append(store.disk_usage())
        grown.result()
    assert len(seen) > 3
    assert {usage.orphaned_bytes for usage in seen} == {0}

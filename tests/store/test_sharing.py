"""Who uses which blocks: pins, times to live, sharing, matches, and bytes by user."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from agentmem.errors import Reason
from agentmem.store.keys import beginning
from agentmem.store.records import BlockUse
from agentmem.store.rows import AgentRow, AgentUsage
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


TAILS = {"a": [1, *range(30), 5], "b": [1, *range(30), 6, 7], "c": [1, *range(30), 6, 7], "d": [2, *range(30)]}
"""What agents go on with behind a block that all of them begin with: a and b alike for 31 positions, c as b does."""


@pytest.fixture
def agents(store: Store) -> list[AgentRow]:
    secret = store.namespace("default").secret
    full = make_block(list(range(256)), secret=secret)
    rows = []
    for place, (name, ids) in enumerate(TAILS.items()):
        tail = make_block(ids, parent=full.key, secret=secret, start=256)
        uses = [BlockUse(full.key, 256), BlockUse(tail.key, len(ids))]
        agent = store.create_agent("default", name)
        store.commit(make_record(agent, [*range(256), *ids], uses, created=1000.0 + place), [full, tail])
        rows.append(store.agent("default", name) or agent)
    return rows


def found(store: Store, parent: bytes, ids: list[int], state_id: str = STATE_ID, namespace: str = "default") -> list:
    secret = store.namespace(namespace).secret
    return store.blocks.beginning(beginning(secret, parent, state_id, np.array(ids, np.int32)), 10)


def test_blocks_are_found_by_how_they_begin_newest_first(store: Store, agents: list[AgentRow]) -> None:
    a, b, c, d = (store.history(agent.id).timeline() for agent in agents)
    full = a[0].key
    assert b[1] == c[1]
    assert found(store, b"", list(range(40))) == [full]
    assert found(store, full, TAILS["a"]) == found(store, full, TAILS["b"][:16]) == [b[1].key, a[1].key]
    assert found(store, full, TAILS["d"]) == [d[1].key]
    assert found(store, full, TAILS["a"][:15]) == found(store, b"", TAILS["a"]) == []
    begins = beginning(store.namespace("default").secret, full, STATE_ID, np.array(TAILS["a"], np.int32))
    assert store.blocks.beginning(begins, 1) == [b[1].key]
    store.branches.rewind("default", "a", 0)
    assert len(found(store, full, TAILS["a"])) == 2, "turns that are listed count"
    store.pruning.delete("default", "a")
    assert found(store, full, TAILS["a"]) == [b[1].key]


def test_short_blocks_are_not_found_in_part(store: Store) -> None:
    """Nor are they all alike, for beginning with nothing."""
    for name in ("a", "b"):
        add_turn(store, store.create_agent("default", name), [1, 2, 3])
    assert found(store, b"", [1, 2, 3]) == found(store, b"", []) == []


def test_nobody_finds_what_is_private_or_elsewhere(store: Store, agents: list[AgentRow]) -> None:
    a, b, *_ = (store.history(agent.id).timeline() for agent in agents)
    full = a[0].key
    store.set_agent("default", "a", share=Share.PRIVATE)
    assert found(store, full, TAILS["a"]) == [b[1].key]
    assert not store.blocks.shared(a[1].key)
    store.set_agent("default", "b", share=Share.PRIVATE)
    assert found(store, full, TAILS["a"]) == [b[1].key], "c shares the same block"
    assert store.blocks.shared(b[1].key)
    store.set_agent("default", "c", share=Share.PRIVATE)
    assert found(store, full, TAILS["a"]) == []
    assert store.blocks.shared(full), "d shares it"
    assert found(store, b"", list(range(40)), state_id="state-2") == []
    assert found(store, b"", list(range(40)), namespace="other") == []


def test_bytes_by_user(store: Store, folder: Path, agents: list[AgentRow]) -> None:
    add_turn(store, store.create_agent("other", "x"), [1, 2, 3])
    store.create_agent("other", "y")
    block_bytes = {path.stem: path.stat().st_size for path in files_below(folder / "blocks", "")}
    records = {row.name: _size(folder / "turns" / row.id) for row in (*agents, *store.agents("other"))}
    sizes = [[block_bytes[use.key.hex()] for use in store.history(row.id).timeline()] for row in agents]
    (full, a), (_, b), _, (_, d) = sizes
    (use,) = store.history(store.agents("other")[0].id).timeline()
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
        AgentUsage("d", d, full, records["d"]),
    )
    assert other.agents == (AgentUsage("x", block_bytes[use.key.hex()], 0, records["x"]), AgentUsage("y", 0, 0, 0))
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
    store.blocks.quarantine(bytes.fromhex(path.stem), "CORRUPT")
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

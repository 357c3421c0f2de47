"""10,000 agents and 50,000 blocks: everything is complete and correct, and takes a time that is printed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentmem.store.records import BlockUse
from agentmem.store.store import Store
from agentmem.store.verify import verify
from tests.store.samples import FailingFiles, files_below, make_block, make_record

AGENTS, BLOCKS_EACH = 10_000, 5


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    print(f"{what}: {1000 * (time.perf_counter() - began):.0f} ms")


def name(number: int) -> str:
    return f"agent-{number:05d}"


def ids(number: int) -> list[int]:
    return [number, *range(1, 2 * BLOCKS_EACH)]


def fill(folder: Path) -> None:
    """Blocks of two positions: who has many agents has the same number of rows and files with longer ones."""
    store = Store.open(folder, FailingFiles())
    store._core.catalog.read(lambda db: db.execute("PRAGMA synchronous=OFF"))
    secret = store.namespace("default").secret
    for number in range(AGENTS):
        agent = store.create_agent("default", name(number))
        blocks, parent = [], b""
        for place in range(BLOCKS_EACH):
            start = 2 * place
            blocks.append(make_block(ids(number)[start : start + 2], parent=parent, secret=secret, start=start))
            parent = blocks[-1].key
        store.commit(make_record(agent, ids(number), [BlockUse(block.key, 2) for block in blocks]), blocks)
    store.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_agents(folder: Path) -> None:
    with timed("making them"):
        fill(folder)
    for _ in range(2):
        with timed("open, which looks at every file"):
            store = Store.open(folder)
        assert store.count_agents() == AGENTS
        store.close()
    store = Store.open(folder)
    with timed("a page of 100 agents"):
        page = store.agents("default", name(4999), 100)
        standings = store.standings([row.id for row in page])
    assert [row.name for row in page] == [name(number) for number in range(5000, 5100)]
    assert all(standings[row.id].disk_bytes > 0 for row in page)
    found, after = 0, ""
    with timed("all agents, page by page"):
        while page := store.agents("default", after, 1000):
            found, after = found + len(page), page[-1].name
    assert found == AGENTS
    agent = store.agent("default", name(7777))
    assert agent is not None
    with timed("log"):
        (turn,) = store.history(agent.id).page()
    assert turn.ids.tolist() == ids(7777)
    with timed("df"):
        usage = store.disk_usage()
    (space,) = usage.namespaces
    on_disk = [*files_below(folder / "blocks", ""), *files_below(folder / "turns", "")]
    assert len(on_disk) == AGENTS * (BLOCKS_EACH + 1)
    assert sum(one.exclusive_bytes + one.record_bytes for one in space.agents) == sum(p.stat().st_size for p in on_disk)
    assert (len(space.agents), usage.orphaned_bytes) == (AGENTS, 0)
    with timed("verify"):
        report = verify(store)
    assert (report.problems, report.blocks, report.records) == ((), AGENTS * BLOCKS_EACH, AGENTS)
    with timed("rm"):
        store.pruning.delete("default", name(5000))
    orphan = store._core.folder.block(make_block([9]).key)
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"orphan")
    with timed("prune of orphans"):
        assert [item.freed_bytes for item in store.pruning.orphans()] == [6]
    with timed("prune of 9,000 agents"):
        for number in range(9000, AGENTS):
            store.set_agent("default", name(number), pinned=True)
        assert len(store.pruning.agents("default", older_than_s=0)) == 8999
    store.close()
    with timed("open"):
        store = Store.open(folder)
    assert [row.name for row in store.agents("default", limit=AGENTS)] == [name(n) for n in range(9000, AGENTS)]
    assert len(files_below(folder / "blocks", "")) == 1000 * BLOCKS_EACH
    assert len(files_below(folder / "turns", "")) == 1000
    store.close()

"""Verification: whose memory is damaged, where and why; and what can be repaired is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agentmem.errors import Reason
from agentmem.store.blockfile import Block, BlockUnreadable, Unreadable
from agentmem.store.problems import Problem, ProblemKind
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.store.verify import verify
from tests.store.samples import add_turn, expect, files_below, make_block


@pytest.fixture
def agents(store: Store) -> dict[str, tuple[AgentRow, Block]]:
    """Two that share a block, one with three turns, one of another namespace, and one that never did anything."""
    made = {}
    for namespace, name, turns in (
        ("default", "alice", [[1, 2, 3]]),
        ("default", "twin", [[1, 2, 3]]),
        ("default", "bob", [[5], [6], [7]]),
        ("other", "carol", [[1, 2, 3]]),
    ):
        agent = store.create_agent(namespace, name)
        for ids in turns:
            agent, block = add_turn(store, agent, ids)
        made[name] = agent, block
    store.create_agent("default", "empty")
    return made


def block_file(folder: Path, block: Block) -> Path:
    (path,) = files_below(folder / "blocks", f"{block.key.hex()}.safetensors")
    return path


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_sound_memory(store: Store, folder: Path, agents: dict[str, tuple[AgentRow, Block]]) -> None:
    found = verify(store)
    assert (found.blocks, found.records, found.problems, found.repaired) == (3, 6, (), 0)
    assert found.bytes == sum(path.stat().st_size for path in files_below(folder / "blocks", ""))
    assert verify(store, "other").records == 1
    assert verify(store, "nowhere").records == 0
    assert [name for name, *_ in store.namespaces()] == ["default", "other"]


def test_a_damaged_block_is_said_of_all_it_belongs_to_and_set_aside(
    store: Store, folder: Path, agents: dict[str, tuple[AgentRow, Block]]
) -> None:
    block = agents["alice"][1]
    spoil(block_file(folder, block))
    problems = tuple(Problem(ProblemKind.BLOCK, "BLOCK_CORRUPT", "default", name, 1) for name in ("alice", "twin"))
    found = verify(store)
    assert (found.blocks, found.problems, found.repaired) == (2, problems, 0)
    found = verify(store, repair=True)
    assert (found.problems, found.repaired) == (problems, 2)
    with pytest.raises(BlockUnreadable) as caught:
        store.blocks.read("default", block.key)
    assert caught.value.reason is Unreadable.EVICTED
    assert [path.name for path in files_below(folder / "quarantine", "tensors")] == [f"{block.key.hex()}.safetensors"]
    assert verify(store).problems == ()
    store.blocks.replace("default", block)
    assert verify(store).blocks == 3


def test_a_lost_block_is_given_up(store: Store, folder: Path, agents: dict[str, tuple[AgentRow, Block]]) -> None:
    block_file(folder, agents["bob"][1]).unlink()
    found = verify(store, repair=True)
    assert [(problem.reason, problem.agent) for problem in found.problems] == [("BLOCK_MISSING", "bob")]
    assert found.repaired == 1
    assert store.standings([agents["bob"][0].id])[agents["bob"][0].id].lacks_blocks
    assert verify(store).problems == ()


def test_a_block_that_was_mended_meanwhile_is_kept(store: Store, agents: dict[str, tuple[AgentRow, Block]]) -> None:
    store.blocks.give_up("default", agents["bob"][1].key)
    assert not store.standings([agents["bob"][0].id])[agents["bob"][0].id].lacks_blocks
    assert verify(store).blocks == 3


def test_branches(store: Store) -> None:
    """Rewound, pruned and forked agents; a turn that ends inside a block is checked as far as it goes."""
    agent, _ = add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    add_turn(store, agent, [4, 5])
    store.branches.rewind("default", "alice", 1)
    store.branches.rewind("default", "alice", 2)
    store.branches.fork("default", "alice", "fork", at_turn=1)
    store.branches.rewind("default", "alice", 0)
    found = verify(store)
    assert (found.blocks, found.records, found.problems) == (2, 6, ())
    store.pruning.history("default", "fork")
    store.pruning.history("default", "alice")
    assert (verify(store).records, verify(store).problems) == (2, ())


def test_a_timeline_that_names_another_block(
    store: Store, folder: Path, agents: dict[str, tuple[AgentRow, Block]]
) -> None:
    """The block is sound: it is not set aside."""
    (use,) = store.history(agents["twin"][0].id).timeline()
    sets = "UPDATE timeline SET key=? WHERE agent=? AND since=3"
    store._core.catalog.write(lambda db: db.execute(sets, (use.key, agents["bob"][0].id)))
    found = verify(store, repair=True)
    assert found.problems == (Problem(ProblemKind.CATALOG, "CATALOG_CONTRADICTS_RECORD", "default", "bob", 3),)
    assert found.repaired == 0
    assert store.blocks.read("default", use.key)


def test_another_agents_block_in_its_place(
    store: Store, folder: Path, agents: dict[str, tuple[AgentRow, Block]]
) -> None:
    block_file(folder, agents["bob"][1]).write_bytes(block_file(folder, agents["alice"][1]).read_bytes())
    assert [(p.reason, p.agent, p.turn) for p in verify(store).problems] in (
        [("BLOCK_FOREIGN", "bob", 1)],
        [("BLOCK_CORRUPT", "bob", 1)],  # of another size
    )


def test_a_block_that_was_given_up_is_no_problem(store: Store, agents: dict[str, tuple[AgentRow, Block]]) -> None:
    store.pruning.blocks(agents["bob"][0].id)
    found = verify(store)
    assert (found.blocks, found.problems) == (2, ())


def test_a_damaged_record_hides_no_other(store: Store, folder: Path, agents: dict[str, tuple[AgentRow, Block]]) -> None:
    spoil(folder / "turns" / agents["bob"][0].id / "00000002.json")
    found = verify(store, repair=True)
    assert found.problems == (Problem(ProblemKind.RECORD, "RECORD_UNREADABLE", "default", "bob", 2),)
    assert (found.records, found.repaired) == (5, 0)


def test_a_catalog_that_contradicts_the_records(
    store: Store, folder: Path, agents: dict[str, tuple[AgentRow, Block]]
) -> None:
    store.close()
    db = sqlite3.connect(folder / "catalog.sqlite")
    db.execute("UPDATE agents SET state_id='state-2' WHERE name='alice'")
    db.execute("UPDATE timeline SET used=used-1 WHERE agent=? AND since=3", (agents["bob"][0].id,))
    db.commit()
    db.close()
    again = Store.open(folder)
    found = verify(again)
    assert [(problem.kind, problem.agent, problem.turn) for problem in found.problems] == [
        (ProblemKind.CATALOG, "alice", 1),
        (ProblemKind.CATALOG, "bob", 3),
    ]
    again.close()


def test_a_lost_secret(store: Store, folder: Path, agents: dict[str, tuple[AgentRow, Block]]) -> None:
    store.close()
    for path in files_below(folder / "namespaces", "secret"):
        if "other" in path.with_name("name.json").read_text():
            path.write_bytes(b"short")
    again = Store.open(folder)
    assert verify(again).problems == (Problem(ProblemKind.NAMESPACE, "SECRET_UNREADABLE", "other"),)
    again.close()


def test_unused_files_go(store: Store, folder: Path, agents: dict[str, tuple[AgentRow, Block]]) -> None:
    unused = block_file(folder, agents["bob"][1]).with_name(f"{make_block([9]).key.hex()}.safetensors")
    unused.write_bytes(b"x")
    found = verify(store)
    assert found.problems == (Problem(ProblemKind.ORPHAN, "FILES_UNUSED"),)
    assert unused.exists()
    assert verify(store, "default", repair=True).problems == ()
    assert unused.exists(), "nobody can tell whose it is"
    assert verify(store, repair=True).repaired == 1
    assert not unused.exists()
    assert verify(store).problems == ()


def test_a_block_that_the_catalog_lost_is_said_by_all(folder: Path) -> None:
    """Whoever needs it: what goes on from it, forks inside it, or leaves with it."""
    store = Store.open(folder)
    agent, _ = add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    agent, _ = add_turn(store, agent, [4, 5])
    store.close()
    with closing(sqlite3.connect(folder / "catalog.sqlite")) as db:
        db.execute("DELETE FROM blocks")
        db.commit()
    store = Store.open(folder)
    uses: list[Callable[[], object]] = [
        lambda: add_turn(store, agent, [6]),
        lambda: store.branches.fork("default", "alice", "bob", at_turn=1),
        lambda: list(store.transfers.export("default", "alice")),
    ]
    for use in uses:
        with expect(Reason.STORE_UNREADABLE):
            use()
    assert verify(store).problems
    assert store.agent("default", "alice") == agent
    store.close()

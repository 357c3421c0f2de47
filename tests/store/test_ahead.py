"""Blocks that are written before the turn that uses them: claimed, used by its commit, and gone if that never comes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from agentmem.errors import Reason
from agentmem.store.blockfile import Block
from agentmem.store.fairlock import FairLock
from agentmem.store.records import BlockUse
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.store.verify import verify
from tests.store.samples import FailingFiles, add_turn, expect, files_below, make_block, make_record, read_all

IDS = [*range(256), 7]


@pytest.fixture
def files() -> FailingFiles:
    return FailingFiles()


@pytest.fixture
def store(tmp_path: Path, files: FailingFiles) -> Iterator[Store]:
    store = Store.open(tmp_path / "state", files)
    store.create_agent("default", "alice")
    yield store
    store.close()


def blocks_of(store: Store) -> tuple[Block, Block]:
    """The two blocks of a timeline of 257 positions."""
    secret = store.namespace("default").secret
    full = make_block(IDS[:256], secret=secret)
    return full, make_block(IDS[256:], parent=full.key, secret=secret, start=256)


def commit(store: Store, name: str, blocks: list[Block]) -> int:
    full, tail = blocks_of(store)
    agent = agent_of(store, name)
    return store.commit(make_record(agent, IDS, [BlockUse(full.key, 256), BlockUse(tail.key, 1)]), blocks)


def agent_of(store: Store, name: str) -> AgentRow:
    agent = store.agent("default", name)
    assert agent is not None
    return agent


def on_disk(store: Store) -> set[bytes]:
    return {bytes.fromhex(path.stem) for path in files_below(store._core.folder.blocks, "")}


def test_a_commit_uses_what_was_written_ahead(store: Store, tmp_path: Path) -> None:
    full, tail = blocks_of(store)
    written = store.blocks.write_ahead("default", full)
    assert written == store._core.folder.block(full.key).stat().st_size
    assert store.blocks.sizes([full.key]) == {}, "the catalog knows it with its turn only"
    before = store._core.folder.block(full.key).stat().st_ino
    commit(store, "alice", [tail])
    store.blocks.release([full.key])
    assert store._core.folder.block(full.key).stat().st_ino == before
    assert on_disk(store) == {full.key, tail.key}
    assert store.blocks.sizes([full.key]) == {full.key: written}
    assert verify(store).problems == ()
    secret = store.namespace("default").secret
    store.close()
    assert read_all(tmp_path / "state", ["default"], blocks_may_be_missing=False) == {("default", "alice"): IDS}
    assert len(secret) == 32


def test_a_partial_block_gives_way_to_one_that_was_written_ahead(store: Store) -> None:
    agent, part = add_turn(store, agent_of(store, "alice"), IDS[:100])
    full, tail = blocks_of(store)
    store.blocks.write_ahead("default", full)
    uses = [BlockUse(full.key, 256), BlockUse(tail.key, 1)]
    store.commit(make_record(agent, IDS[100:], uses), [tail])
    store.blocks.release([full.key])
    assert on_disk(store) == {full.key, tail.key}
    assert store.history(agent.id).timeline(1) == [BlockUse(full.key, 100)]
    assert part.key not in on_disk(store)


def test_nobody_takes_it_for_a_leftover(store: Store) -> None:
    full, _ = blocks_of(store)
    store.blocks.write_ahead("default", full)
    assert store.disk_usage().orphaned_bytes == 0
    assert store.pruning.orphans() == []
    assert verify(store, repair=True).problems == ()
    assert on_disk(store) == {full.key}
    store.blocks.release([full.key])
    assert on_disk(store) == set()
    assert store.pruning.orphans() == []


def test_what_is_let_go_meanwhile_is_no_leftover(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file comes before the first look, which does not know of it, and goes before the second."""
    full, _ = blocks_of(store)
    real = store._core.in_use

    def look() -> object:
        monkeypatch.setattr(store._core, "in_use", real)
        before = real()
        store.blocks.write_ahead("default", full)
        suspects = list(before.orphans())
        store.blocks.release([full.key])
        assert len(suspects) == 1
        return SimpleNamespace(orphans=lambda: suspects)

    monkeypatch.setattr(store._core, "in_use", look)
    assert store.pruning.orphans(dry_run=True) == []


def test_each_turn_claims_it_for_itself(store: Store) -> None:
    full, _ = blocks_of(store)
    assert store.blocks.write_ahead("default", full) > 0
    assert store.blocks.write_ahead("default", full) == 0
    store.blocks.release([full.key])
    assert on_disk(store) == {full.key}
    store.blocks.release([full.key])
    assert on_disk(store) == set()


def test_it_outlives_the_agent_that_had_it_first(store: Store) -> None:
    full, tail = blocks_of(store)
    commit(store, "alice", [full, tail])
    store.create_agent("default", "bob")
    assert store.blocks.write_ahead("default", full) == 0
    store.pruning.delete("default", "alice")
    assert on_disk(store) == {full.key}
    commit(store, "bob", [tail])
    store.blocks.release([full.key])
    assert on_disk(store) == {full.key, tail.key}
    assert verify(store).problems == ()


def test_it_goes_with_its_claim_if_the_agent_that_had_it_is_gone(store: Store) -> None:
    full, tail = blocks_of(store)
    commit(store, "alice", [full, tail])
    store.blocks.write_ahead("default", full)
    store.pruning.delete("default", "alice")
    store.blocks.release([full.key])
    assert on_disk(store) == set()


def test_an_agent_that_gives_its_blocks_up(store: Store) -> None:
    """The file stays for the turn that claims it, and goes with the claim: the catalog says that there is none."""
    full, tail = blocks_of(store)
    commit(store, "alice", [full, tail])
    store.blocks.write_ahead("default", full)
    store.pruning.blocks(agent_of(store, "alice").id)
    assert on_disk(store) == {full.key}
    store.blocks.release([full.key])
    assert on_disk(store) == set()


def test_a_commit_that_fails_leaves_it_to_its_claim(store: Store, files: FailingFiles) -> None:
    full, tail = blocks_of(store)
    store.blocks.write_ahead("default", full)
    files.error, files.fail_at = OSError(28, "No space left on device"), files.count + 1
    with expect(Reason.STORE_UNWRITABLE):
        commit(store, "alice", [tail])
    assert on_disk(store) == {full.key}
    files.fail_at = None
    store.blocks.release([full.key])
    assert on_disk(store) == set()
    assert agent_of(store, "alice").turn == 0


def test_a_write_that_fails_claims_nothing(store: Store, files: FailingFiles) -> None:
    full, tail = blocks_of(store)
    files.error, files.fail_at = OSError(28, "No space left on device"), files.count + 1
    with expect(Reason.STORE_UNWRITABLE):
        store.blocks.write_ahead("default", full)
    files.fail_at = None
    with pytest.raises(ValueError, match="isn't there"):
        commit(store, "alice", [tail])
    commit(store, "alice", [full, tail])
    assert on_disk(store) == {full.key, tail.key}


def test_a_block_with_a_wrong_key_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="wrong key"):
        store.blocks.write_ahead("default", make_block(IDS[:256]))
    assert on_disk(store) == set()


def test_the_lock_goes_to_who_waits_longest() -> None:
    lock, order = FairLock(), []

    def take(number: int) -> None:
        with lock:
            order.append(number)

    waiting = []
    with lock:
        for number in range(5):
            waiting.append(threading.Thread(target=take, args=(number,)))
            waiting[-1].start()
            while len(lock._waiting) <= number:
                pass
    with lock:  # behind all of them
        order.append(5)
    for thread in waiting:
        thread.join()
    assert order == [0, 1, 2, 3, 4, 5]

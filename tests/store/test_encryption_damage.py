"""Encrypted stores that are damaged, tampered with, rebuilt, or cut short by a crash.

The suites for crashes, power loss and damage run on encrypted stores as well (`sealing` in conftest; `make test-all`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.store.blockfile import BlockUnreadable, Unreadable
from agentmem.store.files import Files
from agentmem.store.rebuild import rebuild
from agentmem.store.records import BlockUse, RecordUnreadable
from agentmem.store.store import Store
from agentmem.store.verify import verify
from tests.store.encrypted import IDS, Seen, agent_of, only_block, refused, reopened, say
from tests.store.samples import (
    MASTER_KEY,
    Crash,
    FailingFiles,
    add_turn,
    dump,
    files_below,
    make_block,
    make_record,
)


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    opened = Store.open(folder, key=MASTER_KEY)
    yield opened
    opened.close()


def unreadable(store: Store, key: bytes) -> Unreadable:
    with pytest.raises(BlockUnreadable) as caught:
        store.blocks.read("default", key)
    assert "marker" not in caught.value.detail
    return caught.value.reason


def test_blocks_of_two_agents_swapped(store: Store, folder: Path) -> None:
    alice, bob = say(store, "alice"), say(store, "bob", [8, 9, 10])
    one, two = (next(folder.glob(f"blocks/*/*/{block.key.hex()}*")) for block in (alice, bob))
    first, second = one.read_bytes(), two.read_bytes()
    assert len(first) == len(second), "its size alone must not give it away"
    one.write_bytes(second)
    two.write_bytes(first)
    assert unreadable(store, alice.key) is Unreadable.CORRUPT
    assert unreadable(store, bob.key) is Unreadable.CORRUPT


def test_a_damaged_block_is_set_aside_and_written_anew(store: Store, folder: Path) -> None:
    block = say(store, "alice")
    (file,) = files_below(folder / "blocks", "")
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    assert unreadable(store, block.key) is Unreadable.CORRUPT
    assert [problem.reason for problem in verify(store).problems] == ["BLOCK_CORRUPT"]
    assert verify(store, repair=True).repaired == 1
    assert (folder / "quarantine" / file.name).read_bytes() == data
    assert store.blocks.replace("default", block) == len(data)
    assert verify(store).problems == ()


@pytest.mark.parametrize("loss", ["damaged", "given up"])
def test_another_agents_commit_brings_a_lost_block_back(store: Store, folder: Path, loss: str) -> None:
    block = say(store, "alice")
    (file,) = files_below(folder / "blocks", "")
    if loss == "damaged":
        file.write_bytes(bytes(file.stat().st_size))
    else:
        store.pruning.blocks(agent_of(store, "alice").id)
    say(store, "bob")
    assert store.blocks.read("default", block.key)[0] == block
    assert verify(store).problems == ()


def test_an_older_file_of_a_block_is_refused(store: Store, folder: Path) -> None:
    block = say(store, "alice")
    (file,) = files_below(folder / "blocks", "")
    older = file.read_bytes()
    store.blocks.quarantine(block.key, "TEST")
    store.blocks.replace("default", replace(block, numerics="REFERENCE"))
    newer = file.read_bytes()
    assert len(older) == len(newer), "its size alone must not give it away"
    assert store.blocks.read("default", block.key)[0].numerics == "REFERENCE"
    file.write_bytes(older)
    assert unreadable(store, block.key) is Unreadable.CORRUPT
    store.close()
    # Without the catalog nobody can tell: a rebuild takes the files that are there.
    assert rebuild(folder, key=MASTER_KEY).problems == ()
    assert reopened(folder, MASTER_KEY) == IDS


def test_a_file_given_up_and_put_back_is_not_served(store: Store, folder: Path) -> None:
    block = say(store, "alice")
    (file,) = files_below(folder / "blocks", "")
    older = file.read_bytes()
    store.pruning.blocks(agent_of(store, "alice").id)
    file.write_bytes(older)
    assert unreadable(store, block.key) is Unreadable.EVICTED
    store.blocks.replace("default", block)
    file.write_bytes(older)
    assert unreadable(store, block.key) is Unreadable.CORRUPT


def test_the_seal_of_a_block_written_ahead_is_that_of_its_newest_file(store: Store) -> None:
    """One turn is about to use the block when another agent's copy of it, given up meanwhile, is written again."""
    block = say(store, "bob")
    assert store.blocks.write_ahead("default", block) == 0
    store.pruning.blocks(agent_of(store, "bob").id)
    assert store.blocks.replace("default", block) > 0
    alice = store.create_agent("default", "alice")
    store.commit(make_record(alice, block.ids.tolist(), [BlockUse(block.key, block.tokens)]), [])
    store.blocks.release([block.key])
    assert store.blocks.read("default", block.key)[0] == block


def test_an_older_record_of_the_same_turn_is_refused(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(store, "alice")
    agent = agent_of(store, "alice")

    def fail(*_: object) -> None:
        raise AgentmemError(Reason.STORE_UNWRITABLE, "The catalog cannot be written to.")

    with monkeypatch.context() as patch:
        patch.setattr(store._core.catalog, "write", fail)
        with pytest.raises(AgentmemError):
            add_turn(store, agent, [8])
    file = folder / "turns" / agent.id / "00000002.json"
    older = file.read_bytes()
    add_turn(store, agent, [9])
    newer = file.read_bytes()
    assert len(older) == len(newer), "its size alone must not give it away"
    assert store.history(agent.id).ids().tolist() == [*IDS, 9]
    file.write_bytes(older)
    with pytest.raises(RecordUnreadable):
        store.history(agent.id).ids()
    file.write_bytes(newer)
    assert store.history(agent.id).ids().tolist() == [*IDS, 9]


def test_no_nonce_is_used_twice(folder: Path) -> None:
    seen = Seen()
    store = Store.open(folder, seen, MASTER_KEY)
    agent = store.create_agent("default", "alice")
    for number in range(60):
        agent, block = add_turn(store, agent, [number])
        store.blocks.replace("default", block)
    store.close()
    nonces = [match[1] for data in seen.contents if (match := re.search(rb'"nonce":"([0-9a-f]{24})"', data))]
    assert len(nonces) == 180
    assert len(set(nonces)) == 180


# Rebuild and crashes


def fill(store: Store) -> None:
    """Two turns of alice over a block's border, a fork, a second namespace."""
    say(store, "alice")
    agent, secret = agent_of(store, "alice"), store.namespace("default").secret
    full = make_block([*IDS, *range(253)], secret=secret)
    tail = make_block([7], parent=full.key, secret=secret, start=256)
    uses = [BlockUse(full.key, 256), BlockUse(tail.key, 1)]
    store.commit(make_record(agent, [*range(253), 7], uses), [full, tail])
    store.branches.fork("default", "alice", "fork", at_turn=1)
    add_turn(store, store.create_agent("another", "carol"), [1])


@pytest.mark.parametrize("damage", ["missing", "garbage", "sound"])
def test_the_same_catalog_comes_back(store: Store, folder: Path, damage: str) -> None:
    fill(store)
    store.close()
    before = dump(folder)
    assert all(len(seal) == 16 for *_, seal in before["blocks"])
    if damage == "missing":
        (folder / "catalog.sqlite").unlink()
    if damage == "garbage":
        (folder / "catalog.sqlite").write_bytes(b"x" * 5000)
    assert rebuild(folder, key=MASTER_KEY).problems == ()
    assert dump(folder) == before
    again = Store.open(folder, key=MASTER_KEY)
    assert verify(again).problems == ()
    again.close()


def test_a_crash_at_any_operation_of_a_rebuild(store: Store, folder: Path, tmp_path: Path) -> None:
    fill(store)
    store.close()
    before = dump(folder)
    counted = FailingFiles()
    rebuild(Path(shutil.copytree(folder, tmp_path / "count")), counted, MASTER_KEY)
    for step in range(1, counted.count + 1):
        copy = Path(shutil.copytree(folder, tmp_path / str(step)))
        files = FailingFiles(Crash())
        files.fail_at = step
        with pytest.raises(Crash):
            rebuild(copy, files, MASTER_KEY)
        rebuild(copy, key=MASTER_KEY)
        assert dump(copy) == before


def test_a_crash_in_setting_up_a_folder_leaves_no_plain_store(tmp_path: Path) -> None:
    files = FailingFiles()
    begin(tmp_path / "count", files)
    for step in range(1, files.count + 1):
        folder, failing = tmp_path / str(step), FailingFiles(Crash())
        failing.fail_at = step
        with pytest.raises(Crash):
            begin(folder, failing)
        if files_below(folder / "namespaces", "secret"):
            refused(folder, None, Reason.ENCRYPTION_KEY_MISSING)
        Store.open(folder, key=MASTER_KEY).close()


def begin(folder: Path, files: Files) -> None:
    with closing(Store.open(folder, files, MASTER_KEY)) as store:
        store.namespace("default")


def grow(store: Store) -> None:
    add_turn(store, agent_of(store, "alice"), [4, 5])


def mend(store: Store) -> None:
    key = only_block(store, "alice")
    block, _ = store.blocks.read("default", key)
    store.blocks.quarantine(key, "TEST")
    store.blocks.replace("default", block)


@pytest.mark.parametrize("change", [grow, mend])
def test_a_crash_at_any_operation(
    store: Store, folder: Path, tmp_path: Path, change: Callable[[Store], object]
) -> None:
    """All that was acknowledged is there; a block may be lost only while it is being put back."""
    say(store, "alice")
    store.close()
    base = Path(shutil.copytree(folder, tmp_path / "base"))
    step = 0
    while True:
        step += 1
        copy = Path(shutil.copytree(base, tmp_path / str(step)))
        files = FailingFiles(Crash())
        again = Store.open(copy, files, MASTER_KEY)
        files.fail_at = files.count + step
        try:
            change(again)
            done = True
        except Crash:
            done = False
        again.close()
        after = Store.open(copy, key=MASTER_KEY)
        ids = after.history(agent_of(after, "alice").id).ids().tolist()
        grown = [*IDS, 4, 5]  # a turn is there before the block is removed that it made needless
        assert ids in (([grown] if done else [IDS, grown]) if change is grow else [IDS])
        problems = [problem.reason for problem in verify(after).problems]
        assert problems == [] or (change is mend and not done and len(problems) == 1)
        after.close()
        if done:
            break
    assert step > 3

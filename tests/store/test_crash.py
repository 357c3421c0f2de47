"""Crashes and full disks at every single file operation: the previous turn, or the new one, and nothing in between."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.store.records import BlockUse
from agentmem.store.store import Store
from agentmem.types import Share
from tests.store.samples import Crash, FailingFiles, PowerLoss, add_turn, files_below, make_block, make_record, read_all

pytestmark = pytest.mark.usefixtures("sealing")

Change = Callable[[Store], object]


def two_blocks(store: Store) -> None:
    """Alice's second turn: her partial block grows into a full one, and another begins."""
    agent = store.agent("default", "alice")
    assert agent is not None
    secret = store.namespace("default").secret
    full = make_block(list(range(256)), secret=secret)
    tail = make_block([7], parent=full.key, secret=secret, start=256)
    ids = [*range(3, 256), 7]
    store.commit(make_record(agent, ids, [BlockUse(full.key, 256), BlockUse(tail.key, 1)]), [full, tail])


def ahead(store: Store) -> None:
    """The same turn, its full block written before it ends, and one of another turn that is discarded."""
    agent = store.agent("default", "alice")
    assert agent is not None
    secret = store.namespace("default").secret
    full, other = make_block(list(range(256)), secret=secret), make_block([9] * 256, secret=secret)
    tail = make_block([7], parent=full.key, secret=secret, start=256)
    for block in (full, other):
        store.blocks.write_ahead("default", block)
    uses = [BlockUse(full.key, 256), BlockUse(tail.key, 1)]
    try:
        store.commit(make_record(agent, [*range(3, 256), 7], uses), [tail])
    except AgentmemError:
        store.blocks.release([full.key, other.key])
        raise
    store.blocks.release([full.key, other.key])


def new_namespace(store: Store) -> None:
    add_turn(store, store.create_agent("another", "carol"), [1, 2])


def delete(store: Store) -> None:
    store.pruning.delete("default", "alice")


def quarantine_and_replace(store: Store) -> None:
    agent = store.agent("default", "alice")
    assert agent is not None
    (use,) = store.history(agent.id).timeline()
    block, _ = store.blocks.read("default", use.key)
    store.blocks.quarantine(use.key, "TEST")
    store.blocks.replace("default", block)


def add_second_turn(store: Store) -> None:
    agent = store.agent("default", "alice")
    assert agent is not None
    if agent.turn == 1:
        add_turn(store, agent, [3])


def fork(store: Store) -> None:
    """At a turn that ends inside a block."""
    add_second_turn(store)
    store.branches.fork("default", "alice", "carol", at_turn=1)


def rewind(store: Store) -> None:
    add_second_turn(store)
    store.branches.rewind("default", "alice", 1)


def prune_history(store: Store) -> None:
    rewind(store)
    store.pruning.history("default", "alice")


def remove_namespace(store: Store) -> None:
    store.pruning.namespace("default", force=True)


def prune(store: Store) -> None:
    store.pruning.agents("default", older_than_s=-1)


def make_private(store: Store) -> None:
    store.set_agent("default", "bob", share=Share.PRIVATE)
    store.branches.fork("default", "bob", "carol")
    store.set_agent("default", "bob", share=Share.NAMESPACE)


BRANCHES = [fork, rewind, prune_history]
GOING = [delete, prune, remove_namespace]
CHANGES = [two_blocks, ahead, new_namespace, *GOING, quarantine_and_replace, make_private, *BRANCHES]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, sealing: None) -> Path:
    """A folder to copy: alice with three tokens, and bob who shares nothing with her."""
    folder = tmp_path_factory.mktemp("base") / "state"
    store = Store.open(folder)
    add_turn(store, store.create_agent("default", "alice"), [0, 1, 2])
    add_turn(store, store.create_agent("default", "bob"), [5, 6])
    store.close()
    return folder


def operations(base: Path, folder: Path, change: Change) -> int:
    """How many file operations the change takes."""
    shutil.copytree(base, folder)
    files = FailingFiles()
    store = Store.open(folder, files)
    before = files.count
    change(store)
    store.close()
    return files.count - before


def crashing(change: Change) -> AbstractContextManager[object]:
    # Its secret is new each time, and so its block may go to a folder that is there: the last operations are not met.
    return suppress(Crash) if change is new_namespace else pytest.raises(Crash)


def check(folder: Path, *, blocks_may_be_missing: bool = False) -> dict[str, list[int]]:
    """Ids by agent name."""
    found = read_all(folder, ("default", "another"), blocks_may_be_missing=blocks_may_be_missing)
    return {name: ids for (_, name), ids in found.items()}


def allowed(change: Change) -> list[dict[str, list[int]]]:
    """What may be there afterwards: the state before, and the one after."""
    before = {"alice": [0, 1, 2], "bob": [5, 6]}
    if change in (two_blocks, ahead):
        return [before, before | {"alice": [*range(256), 7]}]
    if change is new_namespace:
        return [before, before | {"carol": []}, before | {"carol": [1, 2]}]
    if change is delete:
        return [before, {"bob": [5, 6]}]
    if change in (prune, remove_namespace):
        return [before, {}]
    if change is fork:
        grown = before | {"alice": [0, 1, 2, 3]}
        return [before, grown, grown | {"carol": [0, 1, 2]}]
    if change is make_private:
        return [before, before | {"carol": [5, 6]}]
    if change in (rewind, prune_history):
        return [before, before | {"alice": [0, 1, 2, 3]}]
    return [before]


@pytest.mark.parametrize("change", CHANGES)
def test_a_crash_at_any_operation(base: Path, tmp_path: Path, change: Change) -> None:
    count = operations(base, tmp_path / "count", change)
    assert count >= 3
    seen = []
    for step in range(1, count + 1):
        folder = tmp_path / str(step)
        shutil.copytree(base, folder)
        files = FailingFiles(Crash())
        store = Store.open(folder, files)
        files.fail_at = files.count + step
        with crashing(change):
            change(store)
        store.close()
        seen.append(check(folder, blocks_may_be_missing=change is quarantine_and_replace))
        assert seen[-1] in allowed(change)
    assert seen[0] == allowed(change)[0] or change in GOING


@pytest.mark.parametrize("change", CHANGES)
def test_power_loss_at_any_operation(base: Path, tmp_path: Path, change: Change) -> None:
    """What was written but not synced is gone: before the catalog knows of a turn, all of it must be on the drive."""
    count = operations(base, tmp_path / "count", change)
    for step in range(1, count + 2):
        folder, left = tmp_path / str(step), tmp_path / f"{step}-left"
        shutil.copytree(base, folder)
        files = PowerLoss(Crash())
        files.trust(folder)
        store = Store.open(folder, files)
        done = step > count
        files.fail_at = None if done else files.count + step
        with nullcontext() if done else crashing(change):
            change(store)
        files.left(folder, left)
        store.close()
        ids = check(left, blocks_may_be_missing=change is quarantine_and_replace)
        assert ids in allowed(change)
        back = change in (rewind, prune_history)  # what was added is taken back
        assert not done or ids == allowed(change)[0 if back else -1]


def test_power_loss_after_the_first_turn_of_all(tmp_path: Path) -> None:
    files, home = PowerLoss(), tmp_path / "home"
    home.mkdir()
    files.trust(home)
    store = Store.open(home / "new" / "state", files)
    add_turn(store, store.create_agent("default", "alice"), [1, 2])
    files.left(home, tmp_path / "left")
    store.close()
    assert check(tmp_path / "left" / "new" / "state") == {"alice": [1, 2]}


def attempt(change: Change, store: Store) -> AgentmemError | None:
    try:
        change(store)
    except AgentmemError as error:
        return error
    return None


@pytest.mark.parametrize("change", CHANGES)
def test_a_full_disk_at_any_operation(base: Path, tmp_path: Path, change: Change) -> None:
    for step in range(1, operations(base, tmp_path / "count", change) + 1):
        folder = tmp_path / str(step)
        shutil.copytree(base, folder)
        files = FailingFiles(OSError(28, "No space left on device"))
        store = Store.open(folder, files)
        files.fail_at = files.count + step
        failure = attempt(change, store)
        assert failure is None or failure.reason is Reason.STORE_UNWRITABLE
        assert failure is None or "No space left" in failure.message
        files.fail_at = None
        if change is two_blocks:
            agent = store.agent("default", "alice")
            assert agent is not None
            assert agent.turn == (1 if failure else 2), "a commit that failed is not visible"
            if failure:
                change(store)
        store.close()
        ids = check(folder, blocks_may_be_missing=change is quarantine_and_replace)
        assert ids in allowed(change)
        assert change is not two_blocks or ids == allowed(change)[1]


def test_a_commit_that_fails_cleans_up_at_once(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    shutil.copytree(base, folder)
    files = FailingFiles()
    store = Store.open(folder, files)
    before = files_below(folder / "blocks", "") + files_below(folder / "turns", "")
    real = files.sync
    records = []

    def sync(path: Path) -> None:
        if path.suffix == ".tmp" and "turns" in path.parts:
            records.append(path)
            raise OSError(28, "No space left on device")
        real(path)

    files.sync = sync  # type: ignore[method-assign]
    with pytest.raises(AgentmemError):
        two_blocks(store)
    assert len(records) == 1, "blocks had been written when the record failed"
    assert files_below(folder / "blocks", "") + files_below(folder / "turns", "") == before
    store.close()


def test_a_crash_in_setting_up_a_folder(tmp_path: Path) -> None:
    files = FailingFiles()
    Store.open(tmp_path / "count", files).close()
    for step in range(1, files.count + 1):
        folder = tmp_path / str(step)
        failing = FailingFiles(Crash())
        failing.fail_at = step
        with pytest.raises(Crash):
            Store.open(folder, failing)
        assert check(folder) == {}
        assert (folder / "format.json").exists()


@pytest.mark.parametrize(
    ("change", "blocks", "records"),
    [
        (two_blocks, 2, 1),
        (ahead, 3, 1),
        (lambda store: store.branches.fork("default", "bob", "carol", at_turn=1), 1, 1),
        (lambda store: store.branches.rewind("default", "bob", 1), 1, 1),
        (lambda store: store.pruning.history("default", "bob"), 0, 1),
        (delete, 0, 0),
        (prune, 0, 0),
        (remove_namespace, 0, 0),
    ],
    ids=["commit", "ahead", "fork", "rewind", "prune_history", "delete", "prune", "remove_namespace"],
)
def test_a_crash_before_the_catalog_is_told(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, blocks: int, records: int
) -> None:
    """All files of the change are written and none is removed. blocks, records: how many of them are new."""
    folder = tmp_path / "state"
    shutil.copytree(base, folder)
    store = Store.open(folder)
    bob = store.agent("default", "bob")
    assert bob is not None
    add_turn(store, bob, [7])
    before = files_below(folder / "blocks", ""), files_below(folder / "turns", ".json")

    def crash(*_: object) -> None:
        raise Crash

    monkeypatch.setattr(store._core.catalog, "write", crash)
    with pytest.raises(Crash):
        change(store)
    store.close()
    after = files_below(folder / "blocks", ""), files_below(folder / "turns", ".json")
    assert all(set(old) <= set(new) for old, new in zip(before, after, strict=True))
    assert [len(new) - len(old) for old, new in zip(before, after, strict=True)] == [blocks, records]
    assert check(folder) == {"alice": [0, 1, 2], "bob": [5, 6, 7]}
    assert (files_below(folder / "blocks", ""), files_below(folder / "turns", ".json")) == before

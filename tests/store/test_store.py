"""The store's facade: agents, turns, blocks, and what is counted."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agentmem.errors import Reason
from agentmem.store.blockfile import BlockUnreadable, Unreadable
from agentmem.store.records import BlockUse, RecordUnreadable
from agentmem.store.store import Store
from agentmem.types import Exactness, TurnKind
from tests.store.samples import add_turn, expect, files_below, make_block, make_record

UNUSUAL = [
    "Bob",
    "bob",
    "a/b",
    "../../etc/passwd",
    ".",
    "..",
    "con",
    "\U0001f600",
    "é",
    "e\u0301",
    "x" * 256,
    "%s'\";--",
]


def test_agents_are_created_found_and_listed_by_exact_name(store: Store, folder: Path) -> None:
    rows = {name: store.create_agent("default", name) for name in UNUSUAL}
    assert len({row.id for row in rows.values()}) == len(UNUSUAL)
    assert all(store.agent("default", name) == row for name, row in rows.items())
    assert store.agent("default", "BOB") is None
    assert store.agent("other", "Bob") is None
    by_name = sorted(UNUSUAL, key=str.encode)
    assert [row.name for row in store.agents("default")] == by_name
    assert [row.name for row in store.agents("default", after=by_name[2], limit=3)] == by_name[3:6]
    assert store.count_agents() == len(UNUSUAL)
    for name in UNUSUAL:
        add_turn(store, rows[name], [1, 2])
        assert store.history(rows[name].id).ids().tolist() == [1, 2]
    written = {path.name for path in folder.rglob("*")}
    assert not written & {"Bob", "bob", "passwd", "con"}
    assert not (folder.parent / "etc").exists()


def test_create_is_refused_unless_the_same_request_repeats(store: Store) -> None:
    row = store.create_agent("default", "alice", "request-1")
    assert store.create_agent("default", "alice", "request-1") == row
    for request_id in ("", "request-2"):
        with expect(Reason.AGENT_EXISTS):
            store.create_agent("default", "alice", request_id)
    store.create_agent("default", "bob")
    with expect(Reason.AGENT_EXISTS):
        store.create_agent("default", "bob")


def test_turns_survive_reopening(folder: Path) -> None:
    store = Store.open(folder)
    agent = store.create_agent("default", "alice")
    agent, _ = add_turn(store, agent, [1, 2, 3])
    agent, block = add_turn(store, agent, [4], request_id="r", exactness=Exactness.BLENDED)
    before = store.history(agent.id).page()
    store.close()
    store.close()

    store = Store.open(folder)
    assert store.agent("default", "alice") == agent
    assert (agent.turn, agent.tokens, agent.state_id, agent.exactness) == (2, 4, "state-1", Exactness.BLENDED)
    assert store.history(agent.id).page() == before
    assert [turn.number for turn in store.history(agent.id).page(after=1, limit=5)] == [2]
    assert store.history(agent.id).record(2).ids.tolist() == [4]
    assert store.history(agent.id).record(2).previous == store.history(agent.id).record(1).digest != b""
    assert store.history(agent.id).timeline() == [BlockUse(block.key, 4)]
    assert store.history(agent.id).ids().tolist() == [1, 2, 3, 4]
    assert store.history(agent.id).ids().dtype == np.int32
    found, size = store.blocks.read("default", block.key)
    assert found == block
    assert store.blocks.sizes([block.key, b"?"]) == {block.key: size}
    request = store.find_request("default", "r")
    assert request is not None
    assert (request.operation, request.agent_name, request.turn) == ("GENERATE", "alice", 2)
    store.close()


def test_a_longer_block_supersedes_the_partial_one(store: Store, folder: Path) -> None:
    agent = store.create_agent("default", "alice")
    agent, short = add_turn(store, agent, [1, 2, 3])
    agent, longer = add_turn(store, agent, [4, 5])
    assert len(files_below(folder / "blocks", "")) == 1
    assert store.history(agent.id).timeline(1) == [BlockUse(longer.key, 3)]
    assert store.history(agent.id).timeline(2) == [BlockUse(longer.key, 5)]
    assert store.history(agent.id).record(1).blocks == (BlockUse(short.key, 3),), "records stay as they were written"
    with pytest.raises(BlockUnreadable) as caught:
        store.blocks.read("default", short.key)
    assert caught.value.reason is Unreadable.MISSING


def test_a_partial_block_stays_as_long_as_another_agent_uses_it(store: Store, folder: Path) -> None:
    alice, short = add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    twin, _ = add_turn(store, store.create_agent("default", "twin"), [1, 2, 3])
    assert len(files_below(folder / "blocks", "")) == 1, "equal blocks are one file"
    alice, longer = add_turn(store, alice, [4, 5])
    assert store.history(alice.id).timeline(1) == [BlockUse(longer.key, 3)]
    assert store.history(twin.id).timeline() == [BlockUse(short.key, 3)]
    assert store.blocks.read("default", short.key)[0] == short
    store.pruning.delete("default", "alice")
    assert [path.stem for path in files_below(folder / "blocks", "")] == [short.key.hex()], "nothing of alice is left"
    twin, other = add_turn(store, twin, [6])
    assert [path.stem for path in files_below(folder / "blocks", "")] == [other.key.hex()]


def test_a_partial_block_that_is_not_contained_stays(store: Store, folder: Path) -> None:
    agent = store.create_agent("default", "alice")
    agent, first = add_turn(store, agent, [1, 2, 3])
    secret = store.namespace("default").secret
    other = make_block([1, 2, 9, 9], secret=secret)
    record = make_record(agent, [9, 9], [BlockUse(other.key, 4)], start=2, end=4)
    store.commit(record, [other])
    assert store.history(agent.id).timeline(1) == [BlockUse(first.key, 3)]
    assert store.history(agent.id).timeline(2) == [BlockUse(other.key, 4)]
    assert store.history(agent.id).ids().tolist() == [1, 2, 9, 9]
    assert len(files_below(folder / "blocks", "")) == 2


def test_full_blocks_stay_and_later_turns_build_on_them(store: Store) -> None:
    secret = store.namespace("default").secret
    agent = store.create_agent("default", "alice")
    full = make_block(list(range(256)), secret=secret)
    tail = make_block([1, 2], parent=full.key, secret=secret, start=256)
    store.commit(
        make_record(agent, [*range(256), 1, 2], [BlockUse(full.key, 256), BlockUse(tail.key, 2)]), [full, tail]
    )
    agent = store.agent("default", "alice") or agent
    longer = make_block([1, 2, 3], parent=full.key, secret=secret, start=256)
    written = store.commit(make_record(agent, [3], [BlockUse(longer.key, 3)], base_blocks=1), [longer])
    assert store.history(agent.id).timeline(1) == [BlockUse(full.key, 256), BlockUse(longer.key, 2)]
    assert store.history(agent.id).timeline(2) == [BlockUse(full.key, 256), BlockUse(longer.key, 3)]
    assert store.history(agent.id).ids().tolist() == [*range(256), 1, 2, 3]
    assert store.blocks.sizes([longer.key])[longer.key] < written < store.standings([agent.id])[agent.id].disk_bytes


def test_rebuild_replaces_everything_and_keeps_the_old_timeline(store: Store) -> None:
    agent = store.create_agent("default", "alice")
    agent, _ = add_turn(store, agent, [1, 2])
    agent, old = add_turn(store, agent, [3])
    secret = store.namespace("default").secret
    fresh = make_block([1, 2, 3], secret=secret, state_id="state-2")
    changes = {"kind": TurnKind.REBUILD, "start": 0, "end": 3, "state_id": "state-2", "request_id": "r"}
    store.commit(make_record(agent, [1, 2, 3], [BlockUse(fresh.key, 3)], **changes), [fresh])
    assert store.history(agent.id).timeline() == [BlockUse(fresh.key, 3)]
    assert store.history(agent.id).timeline(2) == [BlockUse(old.key, 3)]
    assert store.history(agent.id).ids().tolist() == [1, 2, 3]
    assert store.blocks.read("default", old.key)[0] == old
    assert store.find_request("default", "r") is None, "the request itself is still to be done"


def test_delete_frees_what_nobody_else_uses(store: Store, folder: Path) -> None:
    alice, shared = add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    add_turn(store, store.create_agent("default", "bob"), [1, 2, 3])
    secret = store.namespace("default").secret
    own = make_block([7, 8], parent=shared.key, secret=secret, start=3)
    store.commit(make_record(alice, [7, 8], [BlockUse(own.key, 2)], base_blocks=1), [own])
    on_disk = {path: path.stat().st_size for path in files_below(folder, ".safetensors", ".json")}
    total = store.total_bytes()
    assert total == sum(size for path, size in on_disk.items() if path.parts[-3:-2] != ("namespaces",)) - sum(
        path.stat().st_size for path in [folder / "format.json"]
    )

    freed = store.pruning.delete("default", "alice", "delete-1")
    assert store.total_bytes() == total - freed
    assert sum(path.stat().st_size for path in on_disk if path.exists()) == sum(on_disk.values()) - freed
    assert store.blocks.read("default", shared.key)[0] == shared
    assert store.agent("default", "alice") is None
    assert not (folder / "turns" / alice.id).exists()
    assert store.pruning.delete("default", "alice", "delete-1") == freed, "a repeat returns the first result"
    for request_id in ("", "delete-2"):
        with expect(Reason.AGENT_NOT_FOUND):
            store.pruning.delete("default", "alice", request_id)
    with expect(Reason.REQUEST_ID_REUSED):
        store.pruning.delete("default", "bob", "delete-1")
    assert store.pruning.delete("default", "bob") > 0
    assert files_below(folder / "blocks", "") == files_below(folder / "turns", "") == []
    assert store.total_bytes() == 0
    assert store.create_agent("default", "alice").id != alice.id


def test_commits_that_do_not_fit_are_refused_and_leave_nothing(store: Store, folder: Path) -> None:
    agent, block = add_turn(store, store.create_agent("default", "alice"), [1, 2], request_id="r1")
    secret = store.namespace("default").secret
    new = make_block([1, 2, 3], secret=secret)
    longer = make_block([1, 2, 3, 4], secret=secret)
    good = make_record(agent, [3], [BlockUse(new.key, 3)])
    before = files_below(folder / "blocks", "") + files_below(folder / "turns", "")
    for number in (1, 3):
        with expect(Reason.TURN_MISMATCH):
            store.commit(replace(good, number=number), [new])
    with expect(Reason.REQUEST_ID_REUSED):
        store.commit(replace(good, request_id="r1"), [new])
    with expect(Reason.AGENT_NOT_FOUND):
        store.commit(replace(good, agent_id="0" * 32), [new])
    foreign = make_block([1, 2, 3], secret=b"\xff" * 32)
    for record, blocks in (
        (replace(good, end=4), [new]),
        (replace(good, start=1), [new]),
        (replace(good, base_blocks=1), [new]),
        (replace(good, base_blocks=2), [new]),
        (replace(good, blocks=(BlockUse(new.key, 4),)), [new]),
        (replace(good, blocks=(BlockUse(longer.key, 3),)), [longer]),
        (replace(good, kind=TurnKind.FORK), [new]),
        (replace(good, blocks=(BlockUse(b"\x01" * 32, 3),)), []),
        (replace(good, agent_name="bob"), [new]),
        (replace(good, blocks=(BlockUse(foreign.key, 3),)), [foreign]),
        (good, [new, block]),
        (good, []),
    ):
        with pytest.raises(ValueError, match=r"record|turn|block"):
            store.commit(record, blocks)
    assert files_below(folder / "blocks", "") + files_below(folder / "turns", "") == before
    store.commit(good, [new])


def test_requests_are_forgotten_after_a_day(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, _ = add_turn(store, store.create_agent("default", "alice"), [1], request_id="r1")
    assert store.find_request("default", "r1") is not None
    assert store.find_request("other", "r1") is None
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 24 * 3600 + 1)
    assert store.find_request("default", "r1") is None
    add_turn(store, agent, [2], request_id="r1")
    request = store.find_request("default", "r1")
    assert request is not None
    assert request.turn == 2


def test_unsound_blocks_are_refused_set_aside_and_replaced(store: Store, folder: Path) -> None:
    _, block = add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    _, other = add_turn(store, store.create_agent("default", "bob"), [4, 5, 6])
    (path,) = files_below(folder / "blocks", f"{block.key.hex()}.safetensors")
    (other_path,) = files_below(folder / "blocks", f"{other.key.hex()}.safetensors")
    sound = path.read_bytes()

    def reason() -> Unreadable:
        with pytest.raises(BlockUnreadable) as caught:
            store.blocks.read("default", block.key)
        return caught.value.reason

    path.write_bytes(other_path.read_bytes())
    assert reason() is Unreadable.FOREIGN
    for size in (0, 7, len(sound) - 1):
        path.write_bytes(sound[:size])
        assert reason() is Unreadable.CORRUPT
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: must be refused unread
    assert reason() is Unreadable.CORRUPT
    path.unlink()
    assert reason() is Unreadable.MISSING
    os.mkfifo(path)
    assert reason() is Unreadable.CORRUPT
    path.unlink()
    path.symlink_to(other_path)
    assert reason() is Unreadable.CORRUPT

    store.blocks.quarantine(block.key, Unreadable.CORRUPT)
    assert reason() is Unreadable.MISSING
    note = json.loads((folder / "quarantine" / f"{block.key.hex()}.reason.json").read_text())
    assert (note["key"], note["reason"]) == (block.key.hex(), "CORRUPT")
    assert (folder / "quarantine" / f"{block.key.hex()}.safetensors").is_symlink()
    store.blocks.quarantine(block.key, "CORRUPT")

    size = store.blocks.replace("default", block)
    assert store.blocks.read("default", block.key) == (block, size)
    assert path.read_bytes() == sound
    with pytest.raises(ValueError, match="key"):
        store.blocks.replace("default", replace(block, key=b"\x01" * 32))
    store.pruning.delete("default", "alice")
    assert files_below(folder / "quarantine", "") == []
    assert store.blocks.replace("default", block) == 0, "nobody uses it any more"
    assert not path.exists()


def test_a_commit_replaces_an_unsound_file_of_a_block_it_uses(store: Store, folder: Path) -> None:
    _, block = add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    (path,) = files_below(folder / "blocks", "")
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + b"?")
    add_turn(store, store.create_agent("default", "bob"), [1, 2, 3])
    assert path.read_bytes() == sound
    stamp = path.stat().st_mtime_ns, path.stat().st_ino
    add_turn(store, store.create_agent("default", "carol"), [1, 2, 3])
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == stamp, "a sound file is kept"
    assert store.blocks.read("default", block.key)[0] == block


def test_a_broken_chain_of_records_is_refused(store: Store, folder: Path) -> None:
    agent = store.create_agent("default", "alice")
    for token in (1, 2, 3):
        agent, _ = add_turn(store, agent, [token])
    twin = store.create_agent("default", "twin")
    twin, _ = add_turn(store, twin, [1])
    first, second, third = files_below(folder / "turns" / agent.id, ".json")
    sound = second.read_bytes()

    def refused() -> None:
        with pytest.raises(RecordUnreadable):
            store.history(agent.id).record(2)
        with pytest.raises(RecordUnreadable):
            store.history(agent.id).ids()
        with pytest.raises(RecordUnreadable):
            store.history(agent.id).page()

    for wrong in (first.read_bytes(), third.read_bytes(), sound[:-1], sound + b" ", b""):
        second.write_bytes(wrong)
        refused()
    second.unlink()
    refused()
    second.write_bytes(sound)
    first.write_bytes((folder / "turns" / twin.id / "00000001.json").read_bytes())
    with pytest.raises(RecordUnreadable):
        store.history(agent.id).record(1)
    assert store.history(agent.id).record(3).ids.tolist() == [3], "turns that are sound stay readable"
    for number in (0, 4):
        with expect(Reason.TURN_NOT_FOUND):
            store.history(agent.id).record(number)


def test_namespaces_share_nothing(store: Store, folder: Path) -> None:
    _, one = add_turn(store, store.create_agent("one", "alice"), [1, 2, 3])
    _, two = add_turn(store, store.create_agent("two/..", "alice"), [1, 2, 3])
    assert one.key != two.key
    assert len(files_below(folder / "blocks", "")) == 2
    assert store.namespace("one") == store.namespace("one")
    assert store.namespace("one").secret != store.namespace("two/..").secret
    assert repr(store.namespace("one")) == "Namespace(name='one')"
    with pytest.raises(BlockUnreadable) as caught:
        store.blocks.read("one", two.key)
    assert caught.value.reason is Unreadable.FOREIGN


def test_files_are_private(store: Store, folder: Path) -> None:
    agent = store.create_agent("default", "alice")
    _, block = add_turn(store, agent, [1, 2, 3])
    store.blocks.quarantine(block.key, "CORRUPT")
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_touch_notes_the_last_use(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = store.create_agent("default", "alice")
    monkeypatch.setattr(time, "time", lambda: 9e9)
    store.touch(agent.id)
    assert store.agent("default", "alice") == replace(agent, last_used=9e9)


def test_many_threads_use_one_store(store: Store) -> None:
    start = threading.Barrier(4)

    def work(number: int) -> list[int]:
        agent = store.create_agent("default", f"agent-{number}")
        start.wait()
        for token in range(5):
            agent, block = add_turn(store, agent, [10 * number + token])
            assert store.blocks.read("default", block.key)[0] == block
        ids = store.history(agent.id).ids().tolist()
        if number % 2:
            store.pruning.delete("default", agent.name)
        return ids

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [list(range(10 * n, 10 * n + 5)) for n in range(4)]
    assert store.count_agents() == 2

"""Window parts and snapshots: files beside the blocks that come and go with the ends of turns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agentmem.store.blockfile import Block, BlockUnreadable, Unreadable
from agentmem.store.keys import block_key
from agentmem.store.latents import id_bytes
from agentmem.store.layout import RawTensor
from agentmem.store.problems import ProblemKind
from agentmem.store.rebuild import rebuild
from agentmem.store.records import BlockUse, CompanionUse
from agentmem.store.rows import AgentRow, BlockRow
from agentmem.store.store import Store
from agentmem.store.verify import verify
from agentmem.types import BLOCK_TOKENS, BlockKind
from tests.store.samples import STATE_ID, dump, files_below, make_block, make_record


def companion(kind: BlockKind, block: Block, secret: bytes) -> Block:
    """The companion of a block. A snapshot's arrays are not by position."""
    key = block_key(secret, block.parent, STATE_ID, kind, id_bytes(block.ids))
    if kind is BlockKind.WINDOW:
        tensors = {"window.k.weight": block.tensors["attn.k.weight"]}
    else:
        rows = np.full((1, 3), int(block.ids.sum()), np.float32)
        tensors = {"recurrent.0": RawTensor("F32", rows.shape, rows)}
    return replace(block, key=key, kind=kind, tensors=tensors)


def add(store: Store, agent: AgentRow, *new: int) -> AgentRow:
    """A turn whose end needs the window parts of its last two blocks, and a snapshot."""
    secret = store.namespace(agent.namespace).secret
    ids, blocks = [*store.history(agent.id).ids().tolist(), *new], []
    base = agent.tokens // BLOCK_TOKENS
    for start in range(0, len(ids), BLOCK_TOKENS):
        parent = blocks[-1].key if blocks else b""
        blocks.append(make_block(ids[start : start + BLOCK_TOKENS], parent=parent, secret=secret, start=start))
    parts = [(n, companion(BlockKind.WINDOW, blocks[n], secret)) for n in range(max(0, len(blocks) - 2), len(blocks))]
    snapshot = companion(BlockKind.SNAPSHOT, blocks[-1], secret)
    uses = tuple(
        CompanionUse(one.key, one.tokens, one.kind, place) for place, one in [(len(blocks) - 1, snapshot), *parts]
    )
    record = make_record(agent, list(new), [BlockUse(b.key, b.tokens) for b in blocks[base:]])
    before = store.history(agent.id).companions()
    fresh = [one for one, use in zip([snapshot, *(p for _, p in parts)], uses, strict=True) if use not in before]
    store.commit(replace(record, base_blocks=base, companions=uses), [*blocks[base:], *fresh])
    row = store.agent(agent.namespace, agent.name)
    assert row is not None
    return row


@pytest.fixture
def agent(store: Store) -> AgentRow:
    """Turns that end at 100, 300, 330 and 600."""
    row = store.create_agent("default", "alice")
    for low, high in ((0, 100), (100, 300), (300, 330), (330, 600)):
        row = add(store, row, *range(low, high))
    return row


def places(store: Store, agent: AgentRow, turn: int) -> list[tuple[str, int, int]]:
    return [(one.kind.value, one.place, one.used) for one in store.history(agent.id).companions(turn)]


def readable(store: Store, agent: AgentRow, turn: int) -> bool:
    """Whether all that the turn's end needs is there, and is what it should be."""
    history = store.history(agent.id)
    ids = history.ids(turn)
    for one in history.companions(turn):
        block, _ = store.blocks.read(agent.namespace, one.key)
        begin = one.place * BLOCK_TOKENS
        assert (block.kind, block.start) == (one.kind, begin)
        assert block.ids[: one.used].tolist() == ids[begin : begin + one.used].tolist()
    return bool(history.companions(turn))


def test_each_turns_end_has_its_own(store: Store, agent: AgentRow) -> None:
    assert places(store, agent, 1) == [("SNAPSHOT", 0, 100), ("WINDOW", 0, 100)]
    assert places(store, agent, 2) == [("SNAPSHOT", 1, 44), ("WINDOW", 0, 256), ("WINDOW", 1, 44)]
    assert places(store, agent, 3) == [("SNAPSHOT", 1, 74), ("WINDOW", 0, 256), ("WINDOW", 1, 74)]
    assert places(store, agent, 4) == [("SNAPSHOT", 2, 88), ("WINDOW", 1, 256), ("WINDOW", 2, 88)]
    assert all(readable(store, agent, turn) for turn in range(1, 5))
    assert store.history(agent.id).timeline(2)[1].used == 44, "companions are not blocks of the timeline"


def test_a_longer_window_part_takes_the_place_of_those_it_contains(store: Store, agent: AgentRow, folder: Path) -> None:
    keys = {one.key for turn in range(1, 5) for one in store.history(agent.id).companions(turn)}
    assert len(keys) == 4 + 3  # four snapshots; window parts of three blocks
    blocks = {use.key for turn in range(1, 5) for use in store.history(agent.id).timeline(turn)}
    assert {bytes.fromhex(path.stem) for path in files_below(folder / "blocks", "")} == keys | blocks


def test_pruning_history_leaves_those_of_the_last_end(store: Store, agent: AgentRow, folder: Path) -> None:
    would = store.pruning.history("default", "alice", dry_run=True)
    assert store.pruning.history("default", "alice") == would
    row = store.agent("default", "alice")
    assert places(store, row, row.turn) == [("SNAPSHOT", 2, 88), ("WINDOW", 1, 256), ("WINDOW", 2, 88)]
    assert readable(store, row, row.turn)
    assert len(files_below(folder / "blocks", "")) == 3 + 3


@pytest.mark.parametrize("turn", [1, 2, 3, 4])
def test_forks_and_rewinds_have_those_of_the_turn(store: Store, agent: AgentRow, turn: int) -> None:
    fork = store.branches.fork("default", "alice", "bob", turn)
    rewound = store.branches.rewind("default", "alice", turn)
    assert places(store, fork, 1) == places(store, rewound, 5) == places(store, rewound, turn)
    assert readable(store, fork, 1)
    assert readable(store, rewound, 5)
    store.pruning.delete("default", "alice")
    assert readable(store, fork, 1)


def test_nothing_of_a_deleted_agent_is_left(store: Store, agent: AgentRow, folder: Path) -> None:
    size = sum(path.stat().st_size for path in files_below(folder / "blocks", "") + files_below(folder / "turns", ""))
    assert store.total_bytes() == size
    assert store.pruning.delete("default", "alice") == size
    assert files_below(folder / "blocks", "") == []


def test_a_rebuilt_catalog_says_the_same(store: Store, agent: AgentRow, folder: Path) -> None:
    store.branches.rewind("default", "alice", 2)
    store.branches.fork("default", "alice", "bob", 3)
    add(store, store.agent("default", "bob"), 7, 8)
    store.close()
    before = dump(folder)
    assert rebuild(folder).problems == ()
    assert dump(folder) == before
    again = Store.open(folder)
    assert readable(again, agent, 1)
    again.close()


def test_a_damaged_companion_is_found_and_given_up(store: Store, agent: AgentRow, folder: Path) -> None:
    assert verify(store).problems == ()
    one = store.history(agent.id).companions()[0]
    path = store._core.folder.block(one.key)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert [problem.kind for problem in verify(store).problems] == [ProblemKind.BLOCK]
    assert verify(store, repair=True).repaired == 1
    assert verify(store).problems == ()
    with pytest.raises(BlockUnreadable) as caught:
        store.blocks.read("default", one.key)
    assert caught.value.reason is Unreadable.EVICTED
    assert store.standings([agent.id])[agent.id].lacks_blocks


def test_a_companion_in_anothers_place_is_foreign(store: Store, agent: AgentRow) -> None:
    """Even that of the same block, the other kind of it, or the block itself."""
    snapshot, part, _ = store.history(agent.id).companions()
    block = store.history(agent.id).timeline()[2]
    paths = {one.key: store._core.folder.block(one.key) for one in (snapshot, part, block)}
    data = {key: path.read_bytes() for key, path in paths.items()}
    secret = store.namespace("default").secret
    for key in paths:
        for other in data:
            if other != key:
                paths[key].write_bytes(data[other])
                with pytest.raises(BlockUnreadable) as caught:
                    store._core.blocks.read(key, BlockRow(len(data[other]), 0, b"", b""), secret)
                assert caught.value.reason is Unreadable.FOREIGN


def test_exports_hold_them(store: Store, agent: AgentRow, folder: Path) -> None:
    data = b"".join(store.transfers.export("default", "alice"))
    new = store.transfers.take_in(iter([data]), "other", "copy", "", lambda record: None)
    assert places(store, new, 1) == places(store, agent, 4)
    assert readable(store, new, 1)
    text = store.transfers.take_in(iter([data]), "other", "text", "", lambda record: "another-model")
    assert store.history(text.id).companions() == []


def test_records_without_companions_are_written_as_before(store: Store, folder: Path) -> None:
    agent = store.create_agent("default", "plain")
    block = make_block([1, 2], secret=store.namespace("default").secret)
    store.commit(make_record(agent, [1, 2], [BlockUse(block.key, 2)]), [block])
    (path,) = files_below(folder / "turns", ".json")
    assert b"companions" not in path.read_bytes()


def test_a_companion_that_belongs_to_no_block_is_refused(store: Store) -> None:
    agent = store.create_agent("default", "alice")
    secret = store.namespace("default").secret
    block = make_block([1, 2], secret=secret)
    part = companion(BlockKind.WINDOW, block, secret)
    record = make_record(agent, [1, 2], [BlockUse(block.key, 2)])
    use = CompanionUse(part.key, 2, BlockKind.WINDOW, 1)
    with pytest.raises(ValueError, match="companion"):
        store.commit(replace(record, companions=(use,)), [block, part])
    with pytest.raises(ValueError, match="uses a block"):
        store.commit(replace(record, companions=(replace(use, place=0),)), [block])

"""Fork, rewind, and what the timelines of earlier turns hold."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentmem.errors import Reason
from agentmem.store.records import BlockUse, RecordUnreadable
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.types import Exactness, Message, Share, TurnKind, TurnMessage
from tests.store.samples import add_turn, expect, files_below, make_block, make_record


def said(text: str, start: int, end: int) -> TurnMessage:
    return TurnMessage(Message("user", (text,)), start, end)


@pytest.fixture
def alice(store: Store) -> AgentRow:
    """Three turns: one, two, three, of which the second is open; all in one growing block."""
    agent = store.create_agent("default", "alice")
    agent, _ = add_turn(store, agent, [1, 2, 3], messages=(said("one", 0, 3),))
    agent, _ = add_turn(
        store, agent, [4, 5], messages=(said("two", 3, 5),), open=True, exactness=Exactness.BLENDED, request_id="r2"
    )
    agent, _ = add_turn(store, agent, [6], messages=(said("three", 5, 6),))
    return agent


def texts(store: Store, agent: AgentRow, number: int | None = None) -> list[str]:
    return [message.message.text for message in store.history(agent.id).messages(number)]


def test_every_turn_keeps_its_ids_and_messages(store: Store, alice: AgentRow) -> None:
    assert [store.history(alice.id).ids(number).tolist() for number in range(4)] == [
        [], [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6],
    ]  # fmt: skip
    assert texts(store, alice) == ["one", "two", "three"]
    assert texts(store, alice, 2) == ["one", "two"]
    assert store.history(alice.id).messages(0) == ()
    assert store.history(alice.id).messages()[1] == said("two", 3, 5)
    for number in (-1, 4):
        history = store.history(alice.id)
        for ask in (history.ids, history.messages, history.timeline, history.record):
            with expect(Reason.TURN_NOT_FOUND):
                ask(number)


def test_a_fork_holds_what_its_source_held_and_nothing_later(store: Store, folder: Path, alice: AgentRow) -> None:
    before = store.total_bytes()
    fork = store.branches.fork("default", "alice", "bob", at_turn=2)
    assert (fork.name, fork.turn, fork.tokens, fork.state_id) == ("bob", 1, 5, "state-1")
    assert (fork.exactness, fork.share, fork.pinned, fork.expires) == (Exactness.BLENDED, Share.NAMESPACE, False, None)
    record = store.history(fork.id).record(1)
    assert (record.kind, record.start, record.end, record.base_blocks, record.previous) == (TurnKind.FORK, 0, 5, 0, b"")
    assert (record.open, record.tokenizer_id, record.finish_reason) == (True, "tokenizer-1", None)
    assert record.ids.tolist() == store.history(fork.id).ids().tolist() == [1, 2, 3, 4, 5]
    assert record.messages == store.history(fork.id).messages() == store.history(alice.id).messages(2)
    (use,) = store.history(fork.id).timeline()
    secret = store.namespace("default").secret
    block, size = store.blocks.read("default", use.key)
    assert block == make_block([1, 2, 3, 4, 5], secret=secret), "the longer block's first positions, bit for bit"
    grown = store.standings([fork.id])[fork.id].disk_bytes
    assert store.total_bytes() == before + grown == before + size + record_bytes(folder, fork)
    assert store.agent("default", "alice") == alice, "the source is as it was"

    store.pruning.delete("default", "alice")
    assert store.blocks.read("default", use.key)[0] == block
    assert texts(store, fork) == ["one", "two"]
    assert len(files_below(folder / "blocks", "")) == 1


def record_bytes(folder: Path, agent: AgentRow) -> int:
    return sum(path.stat().st_size for path in files_below(folder / "turns" / agent.id, ""))


def test_a_fork_of_the_last_turn_writes_no_block(store: Store, folder: Path, alice: AgentRow) -> None:
    blocks = {path: path.stat().st_mtime_ns for path in files_below(folder / "blocks", "")}
    fork = store.branches.fork("default", "alice", "bob")
    assert {path: path.stat().st_mtime_ns for path in files_below(folder / "blocks", "")} == blocks
    assert store.history(fork.id).timeline() == store.history(alice.id).timeline()
    fork, _ = add_turn(store, fork, [7])
    alice, _ = add_turn(store, alice, [8])
    assert store.history(fork.id).ids().tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert store.history(alice.id).ids().tolist() == [1, 2, 3, 4, 5, 6, 8]
    assert store.history(fork.id).ids(1).tolist() == store.history(alice.id).ids(3).tolist()


def test_forks_of_empty_timelines(store: Store, alice: AgentRow) -> None:
    store.create_agent("default", "nobody")
    for fork in (
        store.branches.fork("default", "nobody", "a"),
        store.branches.fork("default", "alice", "b", at_turn=0),
    ):
        assert (fork.turn, fork.tokens) == (1, 0)
        assert (store.history(fork.id).timeline(), store.history(fork.id).messages()) == ([], ())
        assert add_turn(store, fork, [1])[0].tokens == 1


def test_forks_that_cannot_be_made(store: Store, folder: Path, alice: AgentRow) -> None:
    before = files_below(folder / "blocks", "") + files_below(folder / "turns", "")
    store.create_agent("default", "bob")
    with expect(Reason.AGENT_EXISTS):
        store.branches.fork("default", "alice", "bob", at_turn=1)
    with expect(Reason.AGENT_EXISTS):
        store.branches.fork("default", "alice", "alice")
    with expect(Reason.AGENT_NOT_FOUND):
        store.branches.fork("default", "nobody", "carol")
    with expect(Reason.TURN_NOT_FOUND):
        store.branches.fork("default", "alice", "carol", at_turn=4)
    with expect(Reason.TURN_MISMATCH):
        store.branches.fork("default", "alice", "carol", expect_turn=2)
    with expect(Reason.REQUEST_ID_REUSED):
        store.branches.fork("default", "alice", "carol", request_id="r2")
    files_below(folder / "turns" / alice.id, "2.json")[0].unlink()
    with pytest.raises(RecordUnreadable):
        store.branches.fork("default", "alice", "carol")
    assert store.agent("default", "carol") is None
    assert len(files_below(folder / "blocks", "") + files_below(folder / "turns", "")) == len(before) - 1


@pytest.mark.parametrize("gone", ["damaged", "given up"])
def test_what_cannot_be_cut_out_of_a_block_is_to_be_computed(
    store: Store, folder: Path, alice: AgentRow, gone: str
) -> None:
    (path,) = files_below(folder / "blocks", "")
    if gone == "damaged":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        store.pruning.blocks(alice.id)
    fork = store.branches.fork("default", "alice", "carol", at_turn=1)
    (use,) = store.history(fork.id).timeline()
    block = make_block(store.history(fork.id).ids().tolist(), secret=store.namespace("default").secret)
    assert (use.key, store.blocks.sizes([use.key])) == (block.key, {block.key: 0})
    assert store.standings([fork.id])[fork.id].lacks_blocks
    assert store.blocks.replace("default", block) > 0
    assert store.blocks.read("default", use.key)[0] == block
    rewound = store.branches.rewind("default", "alice", 1)
    assert store.history(rewound.id).timeline() == [use]


def test_a_fork_is_as_private_as_its_source(store: Store, alice: AgentRow) -> None:
    store.set_agent("default", "alice", share=Share.PRIVATE, pinned=True, expires=5.0)
    fork = store.branches.fork("default", "alice", "bob")
    assert (fork.share, fork.pinned, fork.expires) == (Share.PRIVATE, False, None)


def test_rewind_steps_back_and_the_agent_goes_on_from_there(store: Store, alice: AgentRow) -> None:
    row = store.branches.rewind("default", "alice", 1, expect_turn=3)
    assert (row.turn, row.tokens, row.exactness) == (4, 3, Exactness.EXACT)
    record = store.history(alice.id).record(4)
    assert (record.kind, record.start, record.end, record.base_blocks) == (TurnKind.REWIND, 3, 3, 0)
    assert (record.ids.tolist(), record.messages, record.open) == ([], (), False)
    assert record.previous == store.history(alice.id).record(3).digest
    (use,) = store.history(alice.id).timeline()
    secret = store.namespace("default").secret
    assert store.blocks.read("default", use.key)[0] == make_block([1, 2, 3], secret=secret), "no block is used in part"
    row, _ = add_turn(store, row, [9], messages=(said("nine", 3, 4),))
    assert store.history(alice.id).ids().tolist() == [1, 2, 3, 9]
    assert texts(store, alice) == ["one", "nine"]
    assert store.history(alice.id).ids(3).tolist() == [1, 2, 3, 4, 5, 6], "turns stay listed"
    assert texts(store, alice, 3) == ["one", "two", "three"]
    assert [turn.kind.value for turn in store.history(alice.id).page()][3:] == ["REWIND", "GENERATE"]


def test_rewinding_to_a_later_turn_undoes_a_rewind(store: Store, alice: AgentRow) -> None:
    row = store.branches.rewind("default", "alice", 1)
    row, _ = add_turn(store, row, [4, 9], messages=(said("nine", 3, 5),))
    row = store.branches.rewind("default", "alice", 3)
    record = store.history(alice.id).record(6)
    assert (record.start, record.end, record.base_blocks) == (3, 6, 0), "up to where the messages differ"
    assert record.ids.tolist() == [4, 5, 6]
    assert store.history(alice.id).ids().tolist() == [1, 2, 3, 4, 5, 6]
    assert texts(store, row) == ["one", "two", "three"]
    assert store.history(alice.id).timeline() == store.history(alice.id).timeline(3)
    row = store.branches.rewind("default", "alice", 2)
    record = store.history(alice.id).record(7)
    assert (record.start, record.end, row.exactness) == (5, 5, Exactness.BLENDED)
    assert record.open
    assert texts(store, row) == ["one", "two"]


def test_the_same_ids_with_other_messages_are_another_timeline(store: Store) -> None:
    agent = store.create_agent("default", "alice")
    agent, _ = add_turn(store, agent, [1, 2, 3], messages=(said("one", 0, 1), said("two", 1, 3)))
    agent = store.branches.rewind("default", "alice", 0)
    agent, _ = add_turn(store, agent, [1, 2, 3], messages=(said("one", 0, 1), said("too", 1, 3)))
    assert store.history(agent.id).timeline(1) == store.history(agent.id).timeline()
    store.branches.rewind("default", "alice", 1)
    record = store.history(agent.id).record(4)
    assert (record.start, record.base_blocks, len(record.blocks)) == (1, 0, 1), "the block reaches beyond the start"
    assert texts(store, agent) == ["one", "two"]


def test_rewind_to_nothing_and_back(store: Store, alice: AgentRow) -> None:
    row = store.branches.rewind("default", "alice", 0)
    assert (row.turn, row.tokens, row.state_id) == (4, 0, "")
    assert (
        store.history(alice.id).timeline(),
        store.history(alice.id).messages(),
        len(store.history(alice.id).ids()),
    ) == ([], (), 0)
    row = store.branches.rewind("default", "alice", 3)
    assert (row.turn, row.tokens, row.state_id) == (5, 6, "state-1")
    assert (store.history(alice.id).record(5).start, texts(store, row)) == (0, ["one", "two", "three"])
    assert store.branches.rewind("default", "alice", 5).turn == 6, "to where it is: a turn that changes nothing"
    assert store.history(alice.id).ids().tolist() == [1, 2, 3, 4, 5, 6]


def test_rewind_keeps_the_blocks_that_the_timelines_share(store: Store, folder: Path) -> None:
    secret = store.namespace("default").secret
    agent = store.create_agent("default", "alice")
    full = make_block(list(range(256)), secret=secret)
    one = make_block([1, 2], parent=full.key, secret=secret, start=256)
    store.commit(make_record(agent, [*range(256), 1, 2], [BlockUse(full.key, 256), BlockUse(one.key, 2)]), [full, one])
    agent = store.agent("default", "alice") or agent
    two = make_block([1, 2, 3], parent=full.key, secret=secret, start=256)
    store.commit(make_record(agent, [3], [BlockUse(two.key, 3)], base_blocks=1), [two])
    (path,) = files_below(folder / "blocks", f"{full.key.hex()}.safetensors")
    path.unlink()
    store.branches.rewind("default", "alice", 1)
    record = store.history(agent.id).record(3)
    assert (record.start, record.base_blocks, record.blocks) == (258, 1, (BlockUse(one.key, 2),))
    assert store.history(agent.id).timeline() == [BlockUse(full.key, 256), BlockUse(one.key, 2)]
    assert not path.exists(), "a block that stays is not looked at"


def test_rewind_over_a_rebuild_brings_the_old_blocks_back(store: Store, alice: AgentRow) -> None:
    secret = store.namespace("default").secret
    fresh = make_block([1, 2, 3, 4, 5, 6], secret=secret, state_id="state-2")
    changes = {"kind": TurnKind.REBUILD, "start": 0, "end": 6, "state_id": "state-2", "messages": ()}
    store.commit(make_record(alice, [1, 2, 3, 4, 5, 6], [BlockUse(fresh.key, 6)], **changes), [fresh])
    assert texts(store, alice) == ["one", "two", "three"], "a REBUILD does not repeat the messages"
    row = store.branches.rewind("default", "alice", 3)
    record = store.history(alice.id).record(5)
    assert (record.start, record.end, record.base_blocks, len(record.blocks)) == (6, 6, 0, 1)
    assert (row.state_id, store.history(alice.id).timeline()) == ("state-1", store.history(alice.id).timeline(3))
    assert texts(store, alice) == ["one", "two", "three"]
    fork = store.branches.fork("default", "alice", "bob", at_turn=4)
    assert (fork.state_id, texts(store, fork)) == ("state-2", ["one", "two", "three"])


def test_messages_without_positions_are_kept(store: Store) -> None:
    agent = store.create_agent("default", "alice")
    agent, _ = add_turn(store, agent, [1, 2], messages=(said("", 0, 0), said("one", 0, 2), said("", 2, 2)))
    agent, _ = add_turn(store, agent, [3], messages=(said("", 2, 2), said("two", 2, 3)))
    first, second = store.history(agent.id).messages(1), store.history(agent.id).messages(2)
    assert (len(first), len(second)) == (3, 5)
    for number in (1, 2, 0, 2):
        store.branches.rewind("default", "alice", number)
        assert store.history(agent.id).messages() == {0: (), 1: first, 2: second}[number]
    assert store.history(store.branches.fork("default", "alice", "bob").id).messages() == second


def test_rewinds_that_cannot_be_made(store: Store, alice: AgentRow) -> None:
    with expect(Reason.AGENT_NOT_FOUND):
        store.branches.rewind("default", "nobody", 0)
    for number in (-1, 4):
        with expect(Reason.TURN_NOT_FOUND):
            store.branches.rewind("default", "alice", number)
    with expect(Reason.TURN_MISMATCH):
        store.branches.rewind("default", "alice", 1, expect_turn=2)
    with expect(Reason.REQUEST_ID_REUSED):
        store.branches.rewind("default", "alice", 1, request_id="r2")
    assert store.agent("default", "alice") == alice


def test_repeats_return_what_was_made(store: Store, alice: AgentRow) -> None:
    fork = store.branches.fork("default", "alice", "bob", at_turn=1, request_id="f", expect_turn=3)
    row = store.branches.rewind("default", "alice", 1, request_id="w", expect_turn=3)
    for _ in range(2):
        assert store.branches.fork("default", "alice", "bob", at_turn=1, request_id="f", expect_turn=3) == fork
        assert store.branches.rewind("default", "alice", 1, request_id="w", expect_turn=3) == row
    for name in ("carol", "alice"):
        with expect(Reason.REQUEST_ID_REUSED):
            store.branches.fork("default", "alice", name, request_id="f")
    with expect(Reason.REQUEST_ID_REUSED):
        store.branches.rewind("default", "bob", 0, request_id="w")
    store.pruning.delete("default", "bob")
    assert store.branches.fork("default", "alice", "bob", request_id="f").id != fork.id, (
        "a forgotten agent's requests are too"
    )


def test_forks_beside_commits(store: Store, alice: AgentRow) -> None:
    start = threading.Barrier(3)

    def fork(number: int) -> list[int]:
        start.wait()
        return [
            store.branches.fork("default", "alice", f"fork-{number}-{n}", at_turn=n % 3 + 1).tokens for n in range(6)
        ]

    def grow() -> None:
        agent = alice
        start.wait()
        for token in range(6):
            agent, _ = add_turn(store, agent, [token])

    with ThreadPoolExecutor(3) as pool:
        grown = pool.submit(grow)
        assert [job.result() for job in [pool.submit(fork, n) for n in range(2)]] == [[3, 5, 6] * 2] * 2
        grown.result()
    for agent in store.agents("default"):
        for use in store.history(agent.id).timeline():
            assert store.blocks.read("default", use.key)[0].tokens == use.used

"""The disk budget: when blocks are given up, whose, how many, and that the count of bytes stays that of the files."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.store.blockfile import BlockUnreadable, Unreadable
from agentmem.store.catalog import blocks, usage
from agentmem.store.quota import LOW_WATER, default_budget
from agentmem.store.records import BlockUse
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.types import AgentRef
from tests.store.samples import Crash, FailingFiles, expect, files_below, make_block, make_record, read_all

DEFAULT = "default"


def ref(name: str) -> AgentRef:
    return AgentRef(DEFAULT, name)


def fill(store: Store, name: str, first: int) -> AgentRow:
    """An agent with one full block of its own, of always the same size."""
    agent = store.create_agent(DEFAULT, name)
    ids = list(range(first, first + 256))
    block = make_block(ids, secret=store.namespace(DEFAULT).secret)
    store.commit(make_record(agent, ids, [BlockUse(block.key, 256)]), [block])
    row = store.agent(DEFAULT, name)
    assert row is not None
    return row


@pytest.fixture
def agents(store: Store) -> list[AgentRow]:
    """Five agents of equal size; "a" rests longest."""
    return [fill(store, name, 1000 * n) for n, name in enumerate("abcde", 1)]


def bytes_on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in files_below(folder / "blocks", "") + files_below(folder / "turns", ""))


def block_bytes(store: Store, agent: AgentRow) -> int:
    return sum(store.blocks.sizes(use.key for use in store.history(agent.id).timeline()).values())


def cold(store: Store) -> str:
    """Names of the agents that lack blocks."""
    rows = store.agents(DEFAULT)
    standings = store.standings([row.id for row in rows])
    return "".join(row.name for row in rows if standings[row.id].lacks_blocks)


def test_nothing_goes_below_the_high_water_mark(store: Store, folder: Path, agents: list[AgentRow]) -> None:
    taken = store.total_bytes()
    assert store.quota.make_room(taken + 10, 10) == []
    assert (cold(store), bytes_on_disk(folder)) == ("", taken)


def test_those_that_rest_longest_go_until_the_low_water_mark(
    store: Store, folder: Path, agents: list[AgentRow]
) -> None:
    for n in range(10):
        fill(store, f"younger-{n}", 6000 + 256 * n)
    budget, each = store.total_bytes(), block_bytes(store, agents[0])
    given_up = store.quota.make_room(budget, 1)
    assert [(one.agent, one.agent_id, one.freed_bytes) for one in given_up] == [
        (ref(agent.name), agent.id, each) for agent in agents[: len(given_up)]
    ]
    left = store.total_bytes()
    assert left == bytes_on_disk(folder) == budget - each * len(given_up)
    assert left + 1 <= budget * LOW_WATER < left + 1 + each, "as few as reach the mark"
    assert len(given_up) == 2
    assert store.quota.make_room(budget, int(budget * LOW_WATER) - left) == [], "there is room again"
    assert cold(store) == "abcde"[: len(given_up)]
    for agent in agents:
        assert store.history(agent.id).ids().tolist() == list(store.history(agent.id).record(1).ids)
    with pytest.raises(BlockUnreadable) as caught:
        store.blocks.read(DEFAULT, store.history(agents[0].id).timeline()[0].key)
    assert caught.value.reason is Unreadable.EVICTED


def test_recency_is_that_of_the_last_turn(store: Store, agents: list[AgentRow]) -> None:
    add_own_turn(store, agents[0])
    store.set_agent(DEFAULT, "b", expires=9e9)  # not a turn
    given_up = store.quota.make_room(store.total_bytes(), 1)
    assert [one.agent.name for one in given_up] == list("bcdea")[: len(given_up)]


def add_own_turn(store: Store, agent: AgentRow) -> None:
    """A second block behind the full one."""
    (full,) = store.history(agent.id).timeline()
    block = make_block([7], parent=full.key, secret=store.namespace(DEFAULT).secret, start=256)
    store.commit(make_record(agent, [7], [BlockUse(block.key, 1)], base_blocks=1), [block])


def test_the_pinned_and_those_that_must_stay_keep_everything(store: Store, agents: list[AgentRow]) -> None:
    store.set_agent(DEFAULT, "a", pinned=True)
    given_up = store.quota.make_room(store.total_bytes() // 2, 0, staying=lambda: {ref("b"), ref("d")})
    assert [one.agent.name for one in given_up] == ["c", "e"]
    assert cold(store) == "ce"


def test_a_block_that_is_relied_on_stays(store: Store, agents: list[AgentRow]) -> None:
    (mine,) = store.history(agents[0].id).timeline()
    given_up = store.quota.make_room(store.total_bytes(), 1, relied_on={mine.key})
    assert given_up[0].agent == ref("b")
    assert "a" not in cold(store)


def test_a_block_goes_only_with_the_last_agent_that_uses_it(store: Store, folder: Path, agents: list[AgentRow]) -> None:
    store.branches.fork(DEFAULT, "a", "young")
    each, budget = block_bytes(store, agents[1]), store.total_bytes()
    given_up = store.quota.make_room(budget, 1)
    assert [one.agent.name for one in given_up] == ["b"], "giving up a would free nothing: young uses its block"
    assert store.total_bytes() == bytes_on_disk(folder) == budget - each
    assert cold(store) == "b"
    given_up = store.quota.make_room(1, 0)
    assert {one.agent.name: one.freed_bytes for one in given_up} == {
        "a": 0, "c": each, "d": each, "e": each, "young": each,
    }  # fmt: skip
    assert (cold(store), files_below(folder / "blocks", "")) == ("abcdeyoung", [])
    assert store.total_bytes() == bytes_on_disk(folder)


def test_what_cannot_fit_is_refused_and_nothing_goes(store: Store, folder: Path, agents: list[AgentRow]) -> None:
    store.set_agent(DEFAULT, "a", pinned=True)
    budget, before = store.total_bytes(), bytes_on_disk(folder)
    freeable = 4 * block_bytes(store, agents[0])
    with pytest.raises(AgentmemError) as caught:
        store.quota.make_room(budget, freeable + 1)
    assert caught.value.reason is Reason.DISK_BUDGET_EXCEEDED
    assert caught.value.metadata == {
        "needed_bytes": str(freeable + 1), "free_bytes": str(freeable), "budget_bytes": str(budget),
    }  # fmt: skip
    assert (cold(store), bytes_on_disk(folder)) == ("", before)
    assert len(store.quota.make_room(budget, freeable)) == 4


def test_what_others_were_promised_counts(store: Store, agents: list[AgentRow]) -> None:
    taken = store.total_bytes()
    assert store.quota.make_room(taken + 100, 50, promised=50) == []
    assert store.quota.make_room(taken + 100, 50, promised=51) != []


def test_grants_count_though_nobody_counts_bytes(
    store: Store, agents: list[AgentRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the low water mark the bytes are not counted each time; what was granted is remembered."""
    counted: list[object] = []
    total = usage.total
    monkeypatch.setattr(usage, "total", lambda db: counted.append(db) or total(db))
    each = store.total_bytes() // 5 + 100
    budget, counted[:] = 50 * each, []
    for n in range(200):
        assert store.quota.make_room(budget, each) == []  # nothing is written: there is room whenever it is counted
        assert len(counted) <= 1 + n // 36
    assert len(counted) > 1
    given_up = [store.quota.make_room(budget, each) for n in range(60) if fill(store, f"more-{n}", 10_000 + 256 * n)]
    assert sum(map(len, given_up)) >= 15
    assert store.total_bytes() <= budget


def test_over_the_budget_all_that_may_goes_though_the_request_is_refused(store: Store, agents: list[AgentRow]) -> None:
    store.set_agent(DEFAULT, "e", pinned=True)
    budget = block_bytes(store, agents[4])  # the records are over it
    with expect(Reason.DISK_BUDGET_EXCEEDED):
        store.quota.make_room(budget, 1)
    assert cold(store) == "abcd"


def test_cold_agents_do_not_hide_what_they_share(store: Store, folder: Path) -> None:
    """Of two agents that share all, the first to rest went cold alone: the block goes with the second."""
    fill(store, "a", 1000)
    store.branches.fork(DEFAULT, "a", "b")
    assert store.quota.make_room(1, 0, staying=lambda: {ref("b")}) == []
    assert [one.agent.name for one in store.quota.make_room(1, 0)] == ["a", "b"]
    assert files_below(folder / "blocks", "") == []


def test_a_crash_while_giving_up_leaves_no_file_behind(folder: Path) -> None:
    for fail_at in (1, 2, 3):
        shutil.rmtree(folder, ignore_errors=True)
        files = FailingFiles(Crash())
        store = Store.open(folder, files)
        for n, name in enumerate("abc"):
            fill(store, name, 1000 * n)
        files.count, files.fail_at = 0, fail_at
        with pytest.raises(Crash):
            store.quota.make_room(1, 0)
        store.close()
        store = Store.open(folder)
        assert cold(store) == "abc"
        assert store.total_bytes() == bytes_on_disk(folder)
        store.close()
        read_all(folder, [DEFAULT], blocks_may_be_missing=True)


def test_what_was_not_given_up_after_all_is_no_event(
    store: Store, agents: list[AgentRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: object) -> None:
        raise AgentmemError(Reason.STORE_UNWRITABLE, "The disk is full.")

    with monkeypatch.context() as patch, expect(Reason.STORE_UNWRITABLE):
        patch.setattr(blocks, "empty", refused)
        store.quota.make_room(1, 0)
    assert (cold(store), store.events.page()) == ("", [])
    store.quota.make_room(1, 0)
    assert [event.agent for event in store.events.page()] == [ref(name) for name in "abcde"]


def test_a_file_that_cannot_be_removed_is_no_orphan_for_ever(folder: Path) -> None:
    files = FailingFiles(OSError(30, "Read-only file system"))
    store = Store.open(folder, files)
    fill(store, "a", 1000)
    files.count, files.fail_at = 0, 1
    with expect(Reason.STORE_UNWRITABLE):
        store.quota.make_room(1, 0)
    files.fail_at = None
    assert bytes_on_disk(folder) > store.total_bytes()
    assert [one.freed_bytes for one in store.pruning.orphans()] != []
    assert bytes_on_disk(folder) == store.total_bytes()
    store.close()


def test_a_block_in_quarantine_stays_there(store: Store, folder: Path, agents: list[AgentRow]) -> None:
    (use,) = store.history(agents[0].id).timeline()
    (path,) = (path for path in files_below(folder / "blocks", "") if path.stem == use.key.hex())
    path.write_bytes(b"x" * path.stat().st_size)
    store.blocks.give_up(DEFAULT, use.key)
    assert store.pruning.orphans() == []
    assert len(files_below(folder / "quarantine", "")) == 2


@pytest.mark.parametrize("seed", range(5))
def test_the_count_is_exact_whatever_happens(store: Store, folder: Path, seed: int) -> None:
    choose = random.Random(seed)
    for n in range(40):
        names = [agent.name for agent in store.agents(DEFAULT)]
        match choose.randrange(5) if names else 0:
            case 0:
                fill(store, f"agent-{n}", choose.randrange(4) * 1000)
            case 1:
                store.branches.fork(DEFAULT, choose.choice(names), f"agent-{n}") if not cold(store) else None
            case 2:
                store.set_agent(DEFAULT, choose.choice(names), pinned=choose.random() < 0.5)
            case 3:
                store.pruning.delete(DEFAULT, choose.choice(names))
            case 4:
                before = {row.name: row for row in store.agents(DEFAULT)}
                lacking = set(cold(store).split("agent-"))
                given_up = store.quota.make_room(int(store.total_bytes() * choose.random()), 0)
                assert not any(before[one.agent.name].pinned for one in given_up)
                assert lacking <= set(cold(store).split("agent-"))
        assert store.total_bytes() == bytes_on_disk(folder)


def test_the_default_does_not_shrink_with_what_the_store_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert default_budget(tmp_path, 0) == 100
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=600))
    assert default_budget(tmp_path, 400) == 100

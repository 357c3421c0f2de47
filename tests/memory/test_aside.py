"""A running agent that was set aside goes on, bit for bit, as if nothing had happened."""

from __future__ import annotations

import itertools
import shutil
import threading
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agentmem.errors import Reason
from agentmem.kv.state import AgentState
from agentmem.memory.agent import Agent
from agentmem.memory.memory import Memory
from agentmem.memory.needs import Wait
from agentmem.model.forward import last_logits
from agentmem.model.loader import LoadedModel
from agentmem.store.store import Store
from agentmem.store.verify import verify
from agentmem.types import BLOCK_TOKENS, AgentRef, Share
from tests.engine.disks import Disk, block_files
from tests.engine.runs import refused
from tests.memory.conftest import Opened
from tests.memory.turns import A, B, C, Turn, bring_back, drive, prompt, set_aside

pytestmark = pytest.mark.reference
_numbers = itertools.count()


def rows(state: AgentState) -> list[np.ndarray]:
    """All arrays that going on from the state's end needs, and its length."""
    end, found = state.offset, [np.array([state.offset])]
    for start in range(0, end, BLOCK_TOKENS):
        found += state.read(start, min(start + BLOCK_TOKENS, end)).values()
    if state.window is not None:
        assert state.window.offset == end
        for start in range(state.window.layout.reach(end), end, BLOCK_TOKENS):
            found += state.window.read(start, min(start + BLOCK_TOKENS, end)).values()
    if state.recurrent is not None and end:
        assert state.recurrent.offset == end
        found += state.recurrent.read(end // BLOCK_TOKENS * BLOCK_TOKENS, end).values()
    return found


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def bound(model: LoadedModel) -> int:
    """The most that is kept of a state that was set aside."""
    layout = model.layout
    size = BLOCK_TOKENS * layout.full.bytes_per_token
    if layout.window is not None:
        size += (layout.window.window // BLOCK_TOKENS + 2) * BLOCK_TOKENS * layout.window.bytes_per_token
    return size + (layout.recurrent.nbytes if layout.recurrent is not None else 0)


_SAID: dict[tuple, list[int]] = {}


def undisturbed(memory: Memory, model: LoadedModel, *turns: list[int], tokens: int) -> list[int]:
    """What an agent that shares nothing says to the last of these, in one go; computed once for each model."""
    known = model.state_id, *map(tuple, turns), tokens
    if known not in _SAID:
        _SAID[known] = _undisturbed(memory, model, *turns, tokens=tokens)
    return _SAID[known]


def _undisturbed(memory: Memory, model: LoadedModel, *turns: list[int], tokens: int) -> list[int]:
    ref = AgentRef("default", f"cold-{next(_numbers)}")
    memory._store.create_agent(ref.namespace, ref.name, share=Share.PRIVATE)
    for ids in turns[:-1]:
        Turn(memory, model, ref, ids).finish()
    said = Turn(memory, model, ref, turns[-1], tokens).finish()
    memory.evict(memory.find(ref))
    return said


@pytest.fixture
def memory(opened: Opened, each_model: LoadedModel) -> Memory:
    return opened(each_model)


def examples(number: int) -> settings:
    """To make one smaller that fails takes minutes, so nobody tries."""
    return settings(
        max_examples=number,
        deadline=None,
        phases=(Phase.reuse, Phase.generate),
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


@examples(2)
@given(data=st.data())
def test_set_aside_anywhere(opened: Opened, every_model: LoadedModel, data: st.DataObject) -> None:
    """In the prompt and in the reply, again and again, with turns of others between."""
    goes_on_as_if_nothing_had_happened(opened(every_model), every_model, data)


@pytest.mark.slow
@examples(8)
@given(data=st.data())
def test_set_aside_anywhere_and_often(opened: Opened, every_model: LoadedModel, data: st.DataObject) -> None:
    goes_on_as_if_nothing_had_happened(opened(every_model), every_model, data)


def goes_on_as_if_nothing_had_happened(memory: Memory, model: LoadedModel, data: st.DataObject) -> None:
    number = next(_numbers)
    before = prompt(data.draw(st.sampled_from([0, 100, 256, 300, 511])), number)
    ids = prompt(data.draw(st.sampled_from([1, 150, 212, 256, 700, 1100])), number + 100)
    a, b = AgentRef("default", f"a{number}"), AgentRef("default", f"b{number}")
    if before:
        Turn(memory, model, a, before).finish()
    turn = Turn(memory, model, a, ids, tokens=8)
    for _ in turn:
        if turn.computing and data.draw(st.integers(0, 2)) == 0:
            held = rows(turn.agent.state)
            aside = set_aside(memory, turn)
            assert aside is not None
            assert aside.nbytes <= bound(model)
            assert turn.agent.state is None
            if data.draw(st.booleans()):
                Turn(memory, model, b, [*before, *ids[: data.draw(st.integers(0, len(ids)))], 7]).finish()
            bring_back(memory, turn, aside)
            assert same(rows(turn.agent.state), held)
    assert turn.said == undisturbed(memory, model, *([before] if before else []), ids, tokens=8)
    assert turn.draft.usage.recomputed_tokens == 0
    assert turn.draft.usage.reused_hot_tokens + turn.draft.usage.reused_warm_tokens <= len(before) + len(ids)
    assert verify(memory._store, None, repair=False).problems == ()
    memory.evict(turn.agent)
    again = Turn(memory, model, a, [9], tokens=3)
    assert again.finish() == undisturbed(memory, model, [*before, *ids, *turn.said], [9], tokens=3)
    assert (again.draft.usage.recomputed_tokens, again.draft.warnings) == (0, [])


def begun(memory: Memory, model: LoadedModel, steps: int = 4) -> Turn:
    """A turn of 700 tokens behind 300, in the middle of its reply."""
    Turn(memory, model, A, prompt(300)).finish()
    turn = Turn(memory, model, A, prompt(700, 1), tokens=8).until_computing(steps)
    assert 0 < len(turn.said) < 8
    return turn


def test_ram_is_free_meanwhile(memory: Memory, each_model: LoadedModel) -> None:
    def free() -> int:
        return memory._budget._free(B)

    turn = begun(memory, each_model)
    promised = memory._budget._most_bytes(turn.positions)
    assert free() == memory.ram_budget - promised
    aside = set_aside(memory, turn)
    assert aside is not None
    assert memory.pool.nbytes == 0
    assert 0 < aside.nbytes <= bound(each_model)
    assert not memory._budget.others_active(B)
    assert free() == memory.ram_budget  # it waits for who comes, who waits for nobody; unless somebody else runs
    memory.make_room(Agent(C, ""), 300)
    assert free() == memory.ram_budget - aside.nbytes - memory._budget._most_bytes(300)
    memory.done(C)
    bring_back(memory, turn, aside)
    assert memory._budget.others_active(B)
    assert free() == memory.ram_budget - promised
    turn.finish()
    assert not memory._budget.others_active(B)
    assert free() == memory.ram_budget - memory.pool.nbytes


def test_what_is_read_again_is_counted_and_not_as_reuse(memory: Memory, each_model: LoadedModel) -> None:
    turn = begun(memory, each_model)
    usage = turn.draft.usage
    before = usage.reused_hot_tokens, usage.reused_warm_tokens, usage.bytes_read
    aside = set_aside(memory, turn)
    assert aside is not None
    bring_back(memory, turn, aside)
    assert (usage.reused_hot_tokens, usage.reused_warm_tokens, usage.recomputed_tokens) == (*before[:2], 0)
    # Positions 0 to 767 in blocks on disk, and the committed part of a block.
    assert usage.bytes_read > before[2] + 812 * each_model.layout.full.bytes_per_token


def test_cancelled_while_aside(memory: Memory, each_model: LoadedModel, tmp_path: Path) -> None:
    turn = begun(memory, each_model)
    agent, folder = turn.agent, memory._store._core.folder
    committed = [folder.block(key) for key in (*agent.keys, *(use.key for use in agent.companions))]
    assert set_aside(memory, turn) is not None
    assert len(block_files(tmp_path / "state0")) == len(committed) + 2
    turn.cancel()
    memory.unsaved.flush()
    assert {str(path) for path in block_files(tmp_path / "state0")} == {str(path) for path in committed}
    assert (agent.turn, agent.tokens, agent.state) == (1, 300, None)
    assert memory._budget._free(A) == memory.ram_budget
    expected = undisturbed(memory, each_model, prompt(300), [9], tokens=3)
    assert Turn(memory, each_model, A, [9], tokens=3).finish() == expected


@pytest.mark.parametrize("computing", [True, False])
def test_cancelled_after_it_came_back(memory: Memory, each_model: LoadedModel, computing: bool) -> None:
    turn = begun(memory, each_model)
    aside = set_aside(memory, turn)
    assert aside is not None
    memory.make_room(turn.agent, turn.positions)
    steps = memory.bring_back(turn.agent, turn.draft, aside)
    for _ in steps if computing else itertools.islice(steps, 3):
        pass
    turn.cancel()
    expected = undisturbed(memory, each_model, prompt(300), [9], tokens=3)
    again = Turn(memory, each_model, A, [9], tokens=3)
    assert again.finish() == expected
    assert again.draft.usage.recomputed_tokens == 0


def test_a_crash_while_aside_leaves_the_turn_before(memory: Memory, each_model: LoadedModel, tmp_path: Path) -> None:
    assert set_aside(memory, begun(memory, each_model)) is not None
    shutil.copytree(tmp_path / "state0", tmp_path / "crashed")
    (tmp_path / "crashed" / "lock").unlink(missing_ok=True)
    store = Store.open(tmp_path / "crashed")
    assert verify(store, None, repair=False).problems == ()
    assert store.agent("default", "a").tokens == 300
    assert store.disk_usage().orphaned_bytes == 0
    store.close()


@pytest.mark.parametrize("when", ["ahead", "turn before"])
def test_a_disk_that_takes_nothing(memory: Memory, each_model: LoadedModel, disk: Disk, when: str) -> None:
    """The agent stays as it was."""
    memory.create(A)
    if when == "ahead":
        Turn(memory, each_model, A, prompt(300)).finish()
        disk.full = True
        turn = Turn(memory, each_model, A, prompt(700, 1), tokens=8).until_computing(4)
    else:
        disk.full = True
        Turn(memory, each_model, A, prompt(300)).finish()
        disk.full = False
        turn = Turn(memory, each_model, A, prompt(700, 1), tokens=8).until_computing(4)
        assert memory.unsaved.counts().turns == 1
    held = rows(turn.agent.state)
    assert set_aside(memory, turn) is None
    assert same(rows(turn.agent.state), held)
    disk.full = False
    assert turn.finish() == undisturbed(memory, each_model, prompt(300), prompt(700, 1), tokens=8)
    assert memory.unsaved.counts().turns == 0
    assert verify(memory._store, None, repair=False).problems == ()


def test_a_block_that_is_lost_while_aside_is_computed_again(
    memory: Memory, each_model: LoadedModel, tmp_path: Path
) -> None:
    turn = begun(memory, each_model)
    held = rows(turn.agent.state)
    aside = set_aside(memory, turn)
    assert aside is not None
    lost = memory._store._core.folder.block(list(turn.draft.ahead)[1])
    data = bytearray(lost.read_bytes())
    data[-1] ^= 1
    lost.write_bytes(data)
    bring_back(memory, turn, aside)
    assert same(rows(turn.agent.state), held)
    start = 300 if each_model.layout.has_companions else 512
    assert turn.draft.usage.recomputed_tokens == aside.offset - start
    assert [w.reason for w in turn.draft.warnings] == ["BLOCK_CORRUPT"]
    assert memory.quarantined == 1
    turn.finish()
    assert verify(memory._store, None, repair=False).problems == ()
    memory.evict(turn.agent)
    again = Turn(memory, each_model, A, [9])
    again.finish()
    assert again.draft.usage.recomputed_tokens == 0


def test_a_block_of_an_agent_that_goes_meanwhile_is_computed_again(memory: Memory, each_model: LoadedModel) -> None:
    """What was taken over is another's, until the turn is committed."""
    Turn(memory, each_model, B, prompt(600)).finish()
    turn = Turn(memory, each_model, A, [*prompt(600), *prompt(100, 1)], tokens=8).until_computing(2)
    assert turn.draft.usage.prefill_tokens == 0
    assert turn.draft.taken
    held = rows(turn.agent.state)
    aside = set_aside(memory, turn)
    assert aside is not None
    memory._store.pruning.delete("default", "b")
    memory.forget_gone(B)
    bring_back(memory, turn, aside)
    assert same(rows(turn.agent.state), held)
    assert turn.draft.usage.recomputed_tokens == aside.offset
    turn.finish()
    assert verify(memory._store, None, repair=False).problems == ()
    memory.evict(turn.agent)
    again = Turn(memory, each_model, A, [9])
    again.finish()
    assert again.draft.usage.recomputed_tokens == 0


def test_no_more_copies_than_there_is_room_for(opened: Opened, full_model: LoadedModel, disk: Disk) -> None:
    """RAM is short when an agent is set aside: its blocks are copied one by one."""
    block = BLOCK_TOKENS * full_model.layout.full.bytes_per_token
    memory = opened(full_model, ram=8 * block)
    Turn(memory, full_model, A, prompt(1)).finish()
    disk.slow = True
    turn = Turn(memory, full_model, A, prompt(1000, 1), tokens=8).until_computing(4)
    assert memory._writer.nbytes == 0
    steps = memory.set_aside(turn.agent, turn.draft)
    for _ in itertools.islice(steps, 3):
        assert memory._writer.nbytes <= block
    disk.slow = False
    aside = drive(steps)
    assert aside is not None
    assert memory.pool.nbytes == 0
    bring_back(memory, turn, aside)
    assert len(turn.finish()) == 8


def test_a_pinned_agent_stays(memory: Memory, each_model: LoadedModel) -> None:
    turn = begun(memory, each_model)
    turn.agent.pinned = True
    assert set_aside(memory, turn) is None
    assert turn.agent.state is not None
    turn.finish()


def test_a_turn_behind_one_that_is_still_being_written(memory: Memory, each_model: LoadedModel, disk: Disk) -> None:
    memory.create(A)
    disk.slow = True
    Turn(memory, each_model, A, prompt(300), behind=True).finish()
    turn = Turn(memory, each_model, A, prompt(700, 1), tokens=8).until_computing(4)
    steps = memory.set_aside(turn.agent, turn.draft)
    for _ in itertools.islice(steps, 3):
        assert turn.agent.state is not None
    disk.slow = False
    aside = drive(steps)
    assert aside is not None
    assert memory._store.agent("default", "a").turn == 1
    bring_back(memory, turn, aside)
    assert turn.finish() == undisturbed(memory, each_model, prompt(300), prompt(700, 1), tokens=8)


@pytest.mark.parametrize("lost", [False, True])
def test_a_token_that_was_fed_before_it_is_known(memory: Memory, each_model: LoadedModel, lost: bool) -> None:
    """The last block is full, and cannot have its key yet."""
    turn = Turn(memory, each_model, A, prompt(767)).until_computing(2)
    last_logits(each_model, turn.agent.state, [11])
    memory.write_ahead(turn.agent, turn.draft, 1000)
    assert len(turn.draft.ahead) == 2
    held = rows(turn.agent.state)
    aside = set_aside(memory, turn)
    assert aside is not None
    assert aside.nbytes <= bound(each_model)
    if lost:
        memory._store._core.folder.block(next(iter(turn.draft.ahead))).unlink()
        with refused(Reason.BLOCK_UNRECOVERABLE):
            bring_back(memory, turn, aside)
        turn.cancel()
        assert turn.agent.tokens == 0
        assert turn.agent.state is None or turn.agent.state.offset == 0
    else:
        bring_back(memory, turn, aside)
        assert same(rows(turn.agent.state), held)
        turn.draft.ids.append(11)
        memory.write_ahead(turn.agent, turn.draft, 1000)
        assert len(turn.draft.ahead) == 3


def test_the_thread_does_not_wait_while_the_turn_comes_back_from_a_slow_disk(
    memory: Memory, each_model: LoadedModel, disk: Disk
) -> None:
    turn = begun(memory, each_model)
    aside = set_aside(memory, turn)
    assert aside is not None
    ahead, opened = {key.hex() for key in turn.draft.ahead}, threading.Event()
    disk.before_read = lambda path: opened.wait(60) if path.stem in ahead else None
    memory.make_room(turn.agent, turn.positions)
    waits = 0
    for need in memory.bring_back(turn.agent, turn.draft, aside):
        if isinstance(need, Wait):
            waits += 1
            if waits == 20:
                opened.set()
            wait(need.futures, 0.01)
    assert waits >= 20
    assert turn.finish() == undisturbed(memory, each_model, prompt(300), prompt(700, 1), tokens=8)

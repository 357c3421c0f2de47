"""Several agents in the middle of turns at once: what one does between two steps of another leaves that one alone."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentmem.engine.context import Context
from agentmem.engine.maintenance import Maintenance
from agentmem.engine.scheduler import Job, Scheduler
from agentmem.errors import Reason
from agentmem.memory.agent import TurnDraft
from agentmem.memory.memory import Memory
from agentmem.model import loader
from agentmem.model.digests import FileDigests
from agentmem.model.loader import LoadedModel
from agentmem.store.files import Files
from agentmem.store.verify import verify
from agentmem.types import BLOCK_TOKENS, AgentRef, Residency, Share, TurnKind
from tests.engine.disks import Disk
from tests.engine.runs import refused
from tests.helpers.checkpoints import KINDS, with_other_weights
from tests.memory.conftest import Opened
from tests.memory.turns import A, B, C, Turn, drive, prompt

_numbers = itertools.count()
HOW = ("evict", "prune", "rewind")


class AtOnce(Scheduler):
    """Does calls at once, on this thread, whoever is in the middle of a turn."""

    def add(self, job: Job) -> int:
        try:
            drive(job.steps())
        except Exception as error:
            job.future.set_exception(error)  # type: ignore[attr-defined]
        return 0


def calls(memory: Memory, model: LoadedModel) -> Maintenance:
    return Maintenance(Context(model, memory._store, memory), AtOnce(10, 1))


def segments(model: LoadedModel, count: int) -> int:
    """Bytes of RAM."""
    return count * BLOCK_TOKENS * model.layout.full.bytes_per_token


def events(memory: Memory) -> list[str]:
    return [event.kind for event in memory._store.events.page()]


def alone(memory: Memory, model: LoadedModel, ids: list[int], tokens: int) -> list[int]:
    """What an agent says to this that shares nothing."""
    ref = AgentRef("default", f"alone-{next(_numbers)}")
    memory._store.create_agent(ref.namespace, ref.name, share=Share.PRIVATE)
    return Turn(memory, model, ref, ids, tokens).finish()


def goes_on(memory: Memory, model: LoadedModel, ref: AgentRef, ids: list[int]) -> None:
    """The agent, read from the disk, is what computing all of its ids anew would give."""
    agent = memory.find(ref)
    memory.evict(agent)
    assert agent.ids.tolist() == ids
    again = Turn(memory, model, ref, [9], tokens=3)
    said = again.finish()
    assert again.draft.usage.recomputed_tokens == 0
    assert said == alone(memory, model, [*ids, 9], tokens=3)
    assert verify(memory._store, None, repair=False).problems == ()


# RAM


def test_what_is_promised_is_nobody_elses(opened: Opened, full_model: LoadedModel) -> None:
    memory = opened(full_model, ram=segments(full_model, 8))
    a = Turn(memory, full_model, A, prompt(600)).until_computing()  # up to 3 segments, and a tail that has doubled
    assert a.agent.state.nbytes == 0
    with refused(Reason.RAM_BUDGET_EXCEEDED):
        Turn(memory, full_model, B, prompt(300, 1)).finish()
    assert memory._budget.others_active(B)
    assert not memory._budget.others_active(A)
    assert "RAM_REFUSED" not in events(memory), "it may fit in a moment"
    Turn(memory, full_model, C, prompt(250, 2)).finish()
    a.finish()
    assert not memory._budget.others_active(B)
    memory.evict(a.agent)
    assert len(Turn(memory, full_model, B, prompt(300, 1), tokens=3).finish()) == 3


def test_who_runs_does_not_leave_to_make_room(opened: Opened, full_model: LoadedModel) -> None:
    memory = opened(full_model, ram=segments(full_model, 6))
    for n, ref in enumerate((A, B)):
        Turn(memory, full_model, ref, prompt(250, n)).finish()
    a = Turn(memory, full_model, A, [7, 8], tokens=2).until_computing()
    b = memory.find(B)
    Turn(memory, full_model, C, prompt(250, 2)).finish()
    assert a.agent.state is not None
    assert b.state is not None, "there was room for three"
    with refused(Reason.RAM_BUDGET_EXCEEDED):
        Turn(memory, full_model, C, prompt(500, 3)).finish()
    assert a.agent.state is not None
    assert b.state is None
    a.finish()
    goes_on(memory, full_model, A, [*prompt(250), 7, 8, *a.said])


def test_what_leaves_was_to_be_shared(opened: Opened, full_model: LoadedModel) -> None:
    """B counts on a block that only A holds: once that leaves, B needs room for it."""
    memory = opened(full_model, ram=segments(full_model, 4))
    Turn(memory, full_model, A, prompt(256)).finish()
    memory._store.branches.fork("default", "a", "b", None)
    b = memory.find(B)
    memory.make_room(b, 300)
    assert memory._budget._free(C) == segments(full_model, 0)
    memory.evict(memory.find(A))
    assert memory._budget._free(C) == segments(full_model, 0), "what A had is still promised"
    memory.done(B)
    assert memory._budget._free(C) == segments(full_model, 4)


def test_a_state_that_is_being_rebuilt_is_promised_and_not_held(
    opened: Opened, full_model: LoadedModel, tmp_path: Path
) -> None:
    folder = Path(full_model.name)
    other = with_other_weights(folder, tmp_path / "other", KINDS[0])
    model = loader.load(str(other), FileDigests(tmp_path / "weights.json"))
    memory = opened(model, ram=segments(model, 8))
    agent = memory.create(A)
    agent.ids, agent.state_id = np.asarray(prompt(300), np.int32), "of another model"
    memory.make_room(agent, 512)
    drive(memory.rebuild(agent, TurnDraft(TurnKind.APPEND, "")))
    assert memory._budget._free(B) == segments(model, 8 - 4)
    memory.rollback(agent)
    memory.done(A)


def test_copies_for_the_disk_leave_others_what_was_promised_to_them(
    opened: Opened, full_model: LoadedModel, disk: Disk
) -> None:
    memory = opened(full_model, ram=segments(full_model, 12))
    b = Turn(memory, full_model, B, prompt(500, 1)).until_computing()
    memory.create(A)
    disk.slow = True
    a = Turn(memory, full_model, A, prompt(900)).until_computing(2)
    assert a.agent.state.offset == 900
    assert memory._writer.nbytes == 0
    disk.slow = False
    b.finish()
    a.finish()


# Agents


def test_an_agent_that_is_being_restored_is_not_forgotten(
    opened: Opened, full_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = opened(full_model)
    for ref in (A, B, C):
        Turn(memory, full_model, ref, prompt(600)).finish()
    for ref in (A, B, C):
        memory.evict(memory.find(ref))
    monkeypatch.setattr("agentmem.memory.lookup.WARM_KEPT", 0)
    real, read = Files.read, threading.Event()

    def slow(self: Files, path: Path, size: int) -> bytes:
        assert read.wait(60)
        return real(self, path, size)

    monkeypatch.setattr(Files, "read", slow)
    a = Turn(memory, full_model, A, [9])
    next(iter(a))
    agent = a.agent
    assert agent.state is None
    for ref in (B, C):
        memory._agents.pop(ref, None)
        memory.find(ref)
    assert a.agent is agent
    read.set()
    a.finish()
    assert memory.find(A).turn == 2


def test_agents_that_run_are_not_pruned(opened: Opened, full_model: LoadedModel) -> None:
    memory = opened(full_model)
    Turn(memory, full_model, B, prompt(300, 1)).finish()
    a = Turn(memory, full_model, A, prompt(600)).until_computing()  # it has no turn yet
    pruned = calls(memory, full_model).prune("default", older_than_s=-1000)
    assert [one.agent for one in pruned] == [B]
    a.finish()
    goes_on(memory, full_model, A, prompt(600))


@pytest.mark.parametrize("how", ["delete", *(pytest.param(x, marks=pytest.mark.slow) for x in HOW)])
def test_what_a_turn_took_over_goes_with_its_owner(opened: Opened, full_model: LoadedModel, how: str) -> None:
    memory = opened(full_model)
    Turn(memory, full_model, B, prompt(600)).finish()
    Turn(memory, full_model, B, [3] * 300).finish()
    a = Turn(memory, full_model, A, [*prompt(600), 7, 8], tokens=4).until_computing()
    assert a.draft.taken
    engine: Any = calls(memory, full_model)
    if how == "delete":
        engine.delete_agent(B)
    elif how == "evict":
        engine.evict_agent(B, Residency.COLD)
    elif how == "prune":
        engine.prune("default", agent="b")
    else:
        engine.rewind_agent(B, 0)
        engine.prune("default", agent="b")
    assert a.finish() == alone(memory, full_model, [*prompt(600), 7, 8], tokens=4)
    goes_on(memory, full_model, A, [*prompt(600), 7, 8, *a.said])


@pytest.mark.parametrize("cancelled", [True, False])
def test_nothing_of_it_stays_in_ram_either(opened: Opened, full_model: LoadedModel, cancelled: bool) -> None:
    """What a turn took over in RAM goes with it, though its owner went before."""
    memory = opened(full_model)
    Turn(memory, full_model, B, prompt(600)).finish()
    a = Turn(memory, full_model, A, [*prompt(600), 7, 8], tokens=4).until_computing()
    assert a.draft.usage.reused_hot_tokens == 512
    memory.evict(memory.find(B))
    if cancelled:
        a.cancel()
    else:
        a.finish()
        memory.evict(a.agent)
    assert memory.pool.nbytes == 0
    assert (memory.pool._spans, memory.pool._tails) == ({}, {})


def test_what_is_about_to_be_taken_over_leaves_ram(opened: Opened, full_model: LoadedModel) -> None:
    """Two blocks are in RAM as B's, a third one, C's, is read from the disk; meanwhile B leaves."""
    memory = opened(full_model)
    Turn(memory, full_model, B, prompt(512)).finish()
    Turn(memory, full_model, C, prompt(800)).finish()
    memory.evict(memory.find(C))
    a = Turn(memory, full_model, A, [*prompt(780), 7, 8], tokens=4)
    for _ in a:
        memory.evict(memory.find(B))
        if a.computing:
            break
    usage = a.draft.usage
    assert (usage.reused_hot_tokens, usage.reused_warm_tokens) == (512, 256)
    assert a.finish() == alone(memory, full_model, [*prompt(780), 7, 8], tokens=4)
    goes_on(memory, full_model, A, [*prompt(780), 7, 8, *a.said])


def test_a_running_agents_blocks_are_taken_over(
    opened: Opened, full_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tail has become a span in the midst of its turn."""
    monkeypatch.setattr("agentmem.kv.full.TAIL_SEGMENTS", 2)
    memory = opened(full_model)
    Turn(memory, full_model, A, prompt(512)).finish()
    a = Turn(memory, full_model, A, [*[3] * 300, 9], tokens=4).until_computing(2)
    b = Turn(memory, full_model, B, [*prompt(512), 7, 8], tokens=4)
    assert b.finish() == alone(memory, full_model, [*prompt(512), 7, 8], tokens=4)
    assert b.draft.usage.reused_hot_tokens == 512
    a.finish()
    goes_on(memory, full_model, A, [*prompt(512), *[3] * 300, 9, *a.said])
    goes_on(memory, full_model, B, [*prompt(512), 7, 8, *b.said])


def test_a_turn_that_waits_for_the_writer_is_not_stuck(opened: Opened, full_model: LoadedModel, disk: Disk) -> None:
    """Others that look meanwhile do not say, or act, as if the disk did not take it."""
    memory = opened(full_model, lag_bytes=1)
    for ref in (A, B):
        memory.create(ref)
    Turn(memory, full_model, C, [5]).finish()
    disk.slow = True
    Turn(memory, full_model, B, prompt(100, 1), behind=True).finish()
    a = Turn(memory, full_model, A, prompt(100))
    for _ in a:
        if memory.find(A).unsaved:
            break
    memory.unsaved.collect()
    memory.unsaved._save_stuck()
    assert not memory.find(A).stuck
    assert memory.find(A).waiting
    disk.slow = False
    a.finish()
    assert a.draft.durable
    assert "NOT_DURABLE" not in events(memory)
    goes_on(memory, full_model, A, prompt(100))


# Disk


def room_on_disk(opened: Opened, model: LoadedModel, *refs: AgentRef, left: int = 0) -> tuple[Memory, int]:
    """A memory with agents of 512 tokens whose disk has room for so many tokens more; bytes that these may take."""
    memory = opened(model)
    for n, ref in enumerate(refs):
        Turn(memory, model, ref, prompt(512, n)).finish()
        memory.evict(memory.find(ref))
    more = memory.disk.bytes_of(left, left) if left else 0
    memory.disk.limit = memory._store.total_bytes() + more
    memory._store.quota._at_most = None
    return memory, more


def test_who_runs_does_not_go_cold(opened: Opened, full_model: LoadedModel) -> None:
    memory, _ = room_on_disk(opened, full_model, A, B, left=20)
    a = Turn(memory, full_model, A, [7, 8], tokens=2).until_computing()
    memory.disk.make_room(memory.create(C), prompt(300, 5))
    assert a.agent.state is not None
    held = memory._store.standings([a.agent.id, memory.find(B).id])
    assert [held[ref.id].lacks_blocks for ref in (a.agent, memory.find(B))] == [False, True]
    memory.done(C)
    a.finish()
    goes_on(memory, full_model, A, [*prompt(512), 7, 8, *a.said])


def test_what_a_turn_relies_on_does_not_go(opened: Opened, full_model: LoadedModel) -> None:
    """A was promised room for what B's blocks lack of its turn: so they stay."""
    memory, _ = room_on_disk(opened, full_model, B, AgentRef("default", "d"), left=100)
    a = Turn(memory, full_model, A, [*prompt(512), 7, 8], tokens=2)
    next(iter(a))
    memory.disk.make_room(memory.create(C), prompt(300, 5))
    sizes = memory._store.blocks.sizes(memory.find(B).keys)
    assert all(sizes.values())
    memory.done(C)
    a.finish()
    assert a.draft.usage.prefill_tokens == 0
    goes_on(memory, full_model, A, [*prompt(512), 7, 8, *a.said])


def test_what_a_cold_agent_puts_back_is_promised_to_it(opened: Opened, full_model: LoadedModel) -> None:
    memory, more = room_on_disk(opened, full_model, A, left=600)
    a = memory.find(A)
    memory._store.pruning.blocks(a.id)
    memory.disk.limit = memory._store.total_bytes() + more
    memory.disk.make_room_to_restore(a)
    with refused(Reason.DISK_BUDGET_EXCEEDED):
        memory.disk.make_room(memory.create(B), prompt(300, 5))
    memory.done(A)
    memory.disk.make_room(memory.find(B), prompt(300, 5))
    memory.done(B)

"""Several requests want more RAM than there is: who waits, who steps aside, and that all of them end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from agentmem.engine import scheduler as scheduler_module
from agentmem.engine import turn as turn_module
from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Event, Failed, Finished, OnCancel, Phase, Request, Sampling
from agentmem.errors import AgentmemError, Reason
from agentmem.memory.agent import Agent
from agentmem.memory.budget import RamBudget
from agentmem.types import AgentRef, FinishReason, Priority
from tests.engine.disks import soon
from tests.engine.runs import A, B, C, finished, recorded, refused, request, run, said
from tests.helpers.checkpoints import KINDS, Spec, write

CONTEXT = 264
FIRST = tuple(5 + (i * 7 + i // 3) % 400 for i in range(230))
SECOND = tuple(5 + (i * 11 + i // 5) % 400 for i in range(230))
OPEN = Sampling()
FIRST_KIND_FAST = [KINDS[0], *(pytest.param(spec, marks=pytest.mark.slow) for spec in KINDS[1:])]


@pytest.fixture
def spec() -> Spec:
    return KINDS[0]


@pytest.fixture
def context() -> int:
    return CONTEXT


@pytest.fixture
def checkpoint(spec: Spec, context: int, tmp_path: Path) -> Path:
    return write(tmp_path / "ck", replace(spec, heads=2, kv_heads=2, width=128, context=context))


@pytest.fixture
def engine(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(turn_module, "RESERVE", 16)
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint)))
    yield engine
    engine.close(deadline_s=0)


def budget(engine: Engine) -> RamBudget:
    return engine._context.memory._budget


class Asked:
    """A request that was submitted. events: so far. ended: how many that were asked for had ended before it."""

    count = 0

    def __init__(self, engine: Engine, what: Request, after: dict[int, Callable[[], None]] | None = None) -> None:
        """after: what is done with the sink's event of a number, from 1 on."""
        self.events: list[Event] = []
        self.ended = -1
        self._end, after = threading.Event(), after or {}

        def sink(event: Event) -> None:
            self.events.append(event)
            after.get(len(self.events), lambda: None)()
            if isinstance(event, Finished | Failed):
                self.ended, Asked.count = Asked.count, Asked.count + 1
                self._end.set()

        self.ticket = engine.submit(what, sink)

    @property
    def phase(self) -> Phase:
        return self.ticket._run.phase

    def end(self, patience_s: float = 60) -> list[Event]:
        assert self._end.wait(patience_s), f"it has not ended: {self.phase}"
        return self.events


@pytest.fixture
def solo(checkpoint: Path, tmp_path: Path) -> Iterator[Callable[..., list[int]]]:
    """What an agent says that has an engine for itself."""
    engine = Engine.open(EngineSettings(tmp_path / "solo", str(checkpoint)))

    def reply(*prompt: int, sampling: Sampling = OPEN) -> list[int]:
        ids = said(run(engine, request(*prompt, sampling=sampling)))
        engine.delete_agent(A)
        return ids

    yield reply
    engine.close()


def give(engine: Engine, positions: int) -> None:
    """As much RAM as one agent with so many positions may need."""
    budget(engine).limit = budget(engine)._most_bytes(positions)


@pytest.mark.reference
@pytest.mark.parametrize("spec", FIRST_KIND_FAST, ids=[spec.kind for spec in KINDS])
def test_two_open_replies_that_both_need_all_room_both_end(engine: Engine, solo: Callable[..., list[int]]) -> None:
    budget(engine).limit = max(budget(engine)._most_bytes(CONTEXT), 2 * budget(engine)._most_bytes(250))
    asked = [Asked(engine, request(*ids, agent=ref, sampling=OPEN)) for ref, ids in ((A, FIRST), (B, SECOND))]
    assert [said(one.end()) for one in asked] == [solo(*FIRST), solo(*SECOND)]
    assert engine._context.counters.set_aside
    assert all(finished(one.events).usage.recomputed_tokens == 0 for one in asked)


@pytest.mark.reference
@pytest.mark.parametrize("context", [600])
def test_a_reply_for_which_there_is_no_more_room_at_all_ends_where_it_would_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the other, in vain, since a pinned agent has the rest; what it said is kept."""
    units(engine, 3)
    run(engine, request(5, tokens=None, agent=C))
    engine.update_agent(C, pinned=True)

    def wants_much() -> None:
        monkeypatch.setattr(turn_module, "RESERVE", 300)

    def ask(ref: AgentRef) -> Asked:
        monkeypatch.setattr(turn_module, "RESERVE", 16)
        return Asked(engine, request(*FIRST, agent=ref, sampling=OPEN), {6: wants_much})

    alone = said(ask(A).end())
    engine.delete_agent(A)
    others: list[Asked] = []
    other = Asked(engine, request(*SECOND, agent=B, tokens=26), {2: lambda: others.append(ask(A))})
    assert len(said(other.end())) == 26
    assert (said(others[0].end()), len(alone)) == (alone, 16)
    assert finished(others[0].events).finish_reason is FinishReason.LENGTH
    assert engine._context.counters.set_aside == 1
    assert recorded(engine, A) == [*FIRST, *alone]


def test_who_fits_alone_waits_and_who_does_not_is_refused(engine: Engine) -> None:
    """Also where there would be room beside what the first has taken so far."""
    budget(engine).limit = 3 * budget(engine)._most_bytes(1) // 2
    waited: list[bool] = []
    running = Asked(
        engine, request(*FIRST, tokens=20), {20: lambda: waited.append(fits.phase is Phase.WAITING_FOR_ROOM)}
    )
    fits = Asked(engine, request(*SECOND, agent=B, tokens=20))
    too_large = Asked(engine, request(*FIRST, *FIRST[:30], agent=C, tokens=None))
    failed = too_large.end()[-1]
    assert isinstance(failed, Failed)
    assert failed.error.reason is Reason.RAM_BUDGET_EXCEEDED
    assert int(failed.error.metadata["fitting_tokens"]) < 260
    assert len(said(running.end())) == len(said(fits.end())) == 20
    assert waited == [True]
    with refused(Reason.AGENT_NOT_FOUND):
        engine.get_agent(C)


@pytest.mark.reference
@pytest.mark.parametrize("spec", FIRST_KIND_FAST, ids=[spec.kind for spec in KINDS])
def test_the_more_urgent_gets_the_room_of_one_that_runs(engine: Engine, solo: Callable[..., list[int]]) -> None:
    give(engine, 250)
    first, second = Sampling(max_tokens=20), Sampling(max_tokens=20, temperature=1.0, seed=3)
    asked: list[Asked] = []

    def come() -> None:
        asked.append(Asked(engine, request(*SECOND, agent=B, sampling=second, priority=Priority.HIGH)))

    low = Asked(engine, request(*FIRST, sampling=first, priority=Priority.LOW), {6: come})
    assert said(low.end()) == solo(*FIRST, sampling=first)
    assert said(asked[0].end()) == solo(*SECOND, sampling=second)
    assert asked[0].ended < low.ended
    assert engine._context.counters.set_aside == 1


def test_what_is_discarded_while_it_is_set_aside_ends_at_once(engine: Engine) -> None:
    give(engine, 250)
    high: list[Asked] = []

    def come() -> None:
        high.append(Asked(engine, request(*SECOND, agent=B, tokens=20, priority=Priority.HIGH), {10: cancel}))

    def cancel() -> None:
        assert low.phase is Phase.SET_ASIDE
        low.ticket.cancel()

    low = Asked(engine, request(*FIRST, tokens=20, priority=Priority.LOW, on_cancel=OnCancel.DISCARD), {6: come})
    assert isinstance(low.end()[-1], Failed)
    assert len(said(high[0].end())) == 20
    assert low.ended < high[0].ended
    assert engine.get_agent(A).turn == 0
    assert soon(lambda: engine.verify().problems == () and engine.disk_usage().orphaned_bytes == 0)


@pytest.mark.parametrize("batch", [1, 2])
def test_nothing_starves(checkpoint: Path, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Urgent requests come as fast as they end, and one that is not urgent ends before they stop coming."""
    monkeypatch.setattr(scheduler_module, "AGEING_S", 0.1)
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint), max_batch=batch))
    over, lock, left = threading.Event(), threading.Lock(), [500]

    def stream(ref: AgentRef) -> None:
        def sink(event: Event) -> None:
            if isinstance(event, Finished | Failed) and not over.is_set():
                with lock:
                    left[0] -= 1
                if left[0] > 0:
                    stream(AgentRef("default", f"{ref.name}{left[0] % 7}"[-3:]))

        engine.submit(request(5, 6, agent=ref, tokens=1, priority=Priority.HIGH), sink)

    try:
        for n in range(4):
            stream(AgentRef("default", f"s{n}"))
        low = Asked(engine, request(7, 8, tokens=3, priority=Priority.LOW))
        assert len(said(low.end())) == 3
        assert left[0] > 0, "it ended only once nothing else came"
    finally:
        over.set()
        engine.close(deadline_s=0)


def test_positions_in_the_queue_and_its_end(checkpoint: Path, tmp_path: Path) -> None:
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint), max_batch=1, max_queue=3))
    others: list[Asked] = []
    caught: list[AgentmemError] = []

    def come() -> None:
        try:
            for ref in (B, A, C, AgentRef("default", "d")):
                others.append(Asked(engine, request(5, 6, agent=ref)))
        except AgentmemError as error:
            caught.append(error)

    try:
        first = Asked(engine, request(5, 6), {2: come})
        first.end()
        for one in others:
            one.end()
        assert [one.events[0].queue_position for one in others] == [1, 2, 3]  # type: ignore[union-attr]
        assert [one.ended - first.ended for one in others] == [1, 2, 3]
        assert (caught[0].reason, caught[0].metadata["retry_after_s"]) == (Reason.QUEUE_FULL, "1")
        assert [one.events[1].queue_position for one in others] == [0, 0, 0]  # type: ignore[union-attr]
    finally:
        engine.close(deadline_s=0)


def units(engine: Engine, count: int) -> None:
    """RAM for so many agents with up to 256 positions."""
    budget(engine).limit = count * budget(engine)._most_bytes(1)


def test_trying_to_get_room_keeps_nobody_from_the_executor(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes to find out that there is none: it is left at that for a moment, which begins then."""
    monkeypatch.setattr("agentmem.engine.executor.MOMENT_S", 0.2)
    units(engine, 1)
    tries: list[tuple[float, float]] = []
    real, times, batch = budget(engine).make_room, engine._executor.times, engine._executor.batch
    assert batch is not None
    step = batch.step

    def slow(agent: Agent, positions: int, latent: int, evict: Callable[[Agent], int]) -> None:
        began = time.monotonic()
        if agent.ref == B:
            time.sleep(0.06)
        try:
            real(agent, positions, latent, evict)
        finally:
            if agent.ref == B and 3 < times.steps < 35:
                tries.append((began, time.monotonic()))

    monkeypatch.setattr(budget(engine), "make_room", slow)
    monkeypatch.setattr(batch, "step", lambda lanes: time.sleep(0.03) or step(lanes))
    waits: list[Asked] = []
    first = Asked(engine, request(*FIRST[:200], tokens=40), {3: lambda: waits.append(Asked(engine, second))})
    second = request(*SECOND[:200], agent=B, tokens=2)
    assert len(said(first.end(20))) == 40
    assert len(said(waits[0].end())) == 2
    assert len(tries) > 2
    assert min(after[0] - before[1] for before, after in pairwise(tries)) > 0.19


def test_what_cannot_fit_even_alone_is_refused_at_once(engine: Engine) -> None:
    units(engine, 1)
    others: list[Asked] = []

    def come() -> None:
        others.append(Asked(engine, request(*FIRST, *FIRST[:30], agent=C, tokens=None)))
        others.append(Asked(engine, request(9, 9, agent=B, tokens=None)))

    running = Asked(engine, request(*FIRST[:200], tokens=40), {3: come})
    running.end()
    refused_one, small = others
    failed = refused_one.end()[-1]
    assert isinstance(failed, Failed)
    assert refused_one.ended < running.ended
    assert isinstance(small.end()[-1], Finished)


def test_one_that_cannot_leave_is_passed_over(engine: Engine) -> None:
    units(engine, 2)
    run(engine, request(5, tokens=None))
    engine.update_agent(A, pinned=True)
    urgent: list[Asked] = []

    def come() -> None:
        urgent.append(Asked(engine, request(*SECOND[:200], agent=C, tokens=3, priority=Priority.HIGH)))

    pinned = Asked(engine, request(*FIRST[:200], tokens=50, priority=Priority.LOW))
    other = Asked(engine, request(*FIRST[:199], agent=B, tokens=50, priority=Priority.LOW), {3: come})
    assert len(said(pinned.end())) == len(said(other.end())) == 50
    assert len(said(urgent[0].end())) == 3
    assert urgent[0].ended < other.ended
    assert engine._context.counters.set_aside == 1


@pytest.mark.parametrize("context", [600])
def test_nobody_steps_aside_if_that_does_not_help(engine: Engine) -> None:
    units(engine, 3)
    urgent: list[Asked] = []

    def come() -> None:
        urgent.append(Asked(engine, request(*SECOND, *SECOND[:70], agent=C, tokens=3, priority=Priority.HIGH)))

    large = Asked(engine, request(*FIRST, *FIRST[:70], tokens=25, priority=Priority.HIGH))
    low = Asked(engine, request(*FIRST[:200], agent=B, tokens=50, priority=Priority.LOW), {3: come})
    assert [len(said(one.end())) for one in (large, low)] == [25, 50]
    assert len(said(urgent[0].end())) == 3
    assert engine._context.counters.set_aside == 0

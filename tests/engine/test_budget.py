"""The RAM budget: real bytes, enforced before work starts, whoever works; and what it takes to keep it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Event, Failed, Finished, Request, Sampling, Started
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef, FinishReason, Residency
from tests.engine.runs import PROMPT, A, B, C, cold, feed, finished, refused, request, run

D = AgentRef("default", "d")
SEGMENTS = 6
"""Of 256 positions, that the budget has room for: three small agents, each with a tail that has just doubled."""

Budgeted = Callable[[int], Engine]


@pytest.fixture
def budgeted(checkpoint: Path, tmp_path: Path) -> Iterator[Budgeted]:
    """An engine whose RAM holds so many segments."""
    engines: list[Engine] = []

    def open_(segments: int) -> Engine:
        if not engines:
            engines.append(Engine.open(EngineSettings(tmp_path / "probe", str(checkpoint))))
        size = segments * 256 * engines[0].model_info().bytes_per_token
        engines.append(Engine.open(EngineSettings(tmp_path / f"state{len(engines)}", str(checkpoint), ram_budget=size)))
        return engines[-1]

    yield open_
    for engine in engines:
        engine.close()


def prompt(n: int, length: int = 250) -> tuple[int, ...]:
    """No two of them begin alike."""
    return tuple(5 + (i * (n + 3)) % 400 for i in range(n, n + length))


def residencies(engine: Engine, *refs: AgentRef) -> list[Residency]:
    return [engine.get_agent(ref).residency for ref in refs]


def watched(engine: Engine, asked: Request) -> tuple[Event, int]:
    """A request's last event, and the most bytes of state that were in RAM while it ran."""
    last: list[Event] = []
    sizes: list[int] = []
    done = threading.Event()

    def sink(event: Event) -> None:
        sizes.append(engine.stats().hot_bytes)
        if isinstance(event, Finished | Failed):
            last.append(event)
            done.set()

    engine.submit(asked, sink)
    assert done.wait(60)
    return last[0], max(*sizes, engine.stats().hot_bytes)


def test_agents_that_waited_longest_leave_first(budgeted: Budgeted) -> None:
    engine = budgeted(SEGMENTS)
    budget = SEGMENTS * 256 * engine.model_info().bytes_per_token
    for n, ref in enumerate((A, B, C)):
        _, most = watched(engine, request(*prompt(n), tokens=2, agent=ref))
        assert most <= budget
    hot, warm = Residency.HOT, Residency.WARM
    assert residencies(engine, A, B, C) == [hot, hot, hot]
    feed(engine, A, 5, tokens=None)  # B is the one that waited longest now
    feed(engine, D, *prompt(3), *prompt(4), tokens=None)
    assert residencies(engine, A, B, C, D) == [hot, warm, hot, hot]
    assert engine.stats().hot_bytes <= budget


def test_what_left_ram_is_not_forgotten(budgeted: Budgeted) -> None:
    engine = budgeted(2)
    feed(engine, A, *prompt(0), tokens=None)
    feed(engine, B, *prompt(1), tokens=None)
    assert residencies(engine, A, B) == [Residency.WARM, Residency.HOT]
    got, usage = feed(engine, A, 9, tokens=2)
    assert (usage.reused_warm_tokens, usage.recomputed_tokens, usage.prefill_tokens) == (250, 0, 1)
    engine.evict_agent(A)
    assert got == cold(engine, prompt(0), (9,), tokens=2)


def test_a_pinned_agent_stays_and_its_room_is_nobodys(budgeted: Budgeted) -> None:
    engine = budgeted(4)
    feed(engine, A, *prompt(0), tokens=None)
    engine.update_agent(A, pinned=True)
    for n, ref in enumerate((B, C, D), 1):
        feed(engine, ref, *prompt(n), tokens=None)
    assert residencies(engine, A, B, C, D) == [Residency.HOT, Residency.WARM, Residency.HOT, Residency.HOT]
    with refused(Reason.RAM_BUDGET_EXCEEDED):
        feed(engine, B, *prompt(6, 600), tokens=None)
    assert engine.get_agent(A).residency is Residency.HOT
    engine.update_agent(A, pinned=False)
    feed(engine, B, *prompt(6, 250), tokens=None)
    assert engine.get_agent(A).residency is Residency.WARM


def test_too_much_is_refused_before_anything_is_computed(budgeted: Budgeted) -> None:
    engine = budgeted(4)
    feed(engine, A, *prompt(0), tokens=None)
    passed = engine.stats().prefill_tokens_total
    with pytest.raises(AgentmemError) as caught:
        feed(engine, B, *PROMPT, tokens=None)
    assert caught.value.reason is Reason.RAM_BUDGET_EXCEEDED
    with refused(Reason.AGENT_NOT_FOUND):
        engine.get_agent(B)  # it was not made either
    assert engine.stats().prefill_tokens_total == passed
    fits = int(caught.value.metadata["fitting_tokens"])
    assert fits == 512
    with refused(Reason.RAM_BUDGET_EXCEEDED):
        feed(engine, B, *PROMPT[: fits + 1], tokens=None)
    feed(engine, B, *PROMPT[:fits], tokens=None)


def test_the_reply_counts_before_it_begins(budgeted: Budgeted) -> None:
    engine = budgeted(2)
    with refused(Reason.RAM_BUDGET_EXCEEDED):
        feed(engine, A, *prompt(0, 200), tokens=57)
    feed(engine, A, *prompt(0, 200), tokens=56)


def test_an_open_reply_ends_where_the_room_ends(budgeted: Budgeted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmem.engine.turn.RESERVE", 56)
    engine = budgeted(2)
    last, most = watched(engine, request(*prompt(0, 200), sampling=Sampling()))
    assert isinstance(last, Finished)
    assert last.finish_reason is FinishReason.LENGTH
    assert engine.get_agent(A).tokens in (256, 257)  # the last token is fed, come what may
    assert most <= 4 * 256 * engine.model_info().bytes_per_token


def test_an_open_reply_makes_others_leave_as_it_grows(budgeted: Budgeted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmem.engine.turn.RESERVE", 32)
    engine = budgeted(4)
    feed(engine, B, *prompt(1), tokens=None)
    assert isinstance(run(engine, request(*prompt(0, 200), sampling=Sampling()))[0], Started)
    assert engine.get_agent(A).tokens > 256
    assert engine.get_agent(B).residency is Residency.WARM


def test_shared_blocks_count_once(budgeted: Budgeted) -> None:
    engine = budgeted(10)
    feed(engine, A, *PROMPT[:512], tokens=None)
    for n, ref in enumerate((B, C, D)):
        feed(engine, ref, *PROMPT[:512], 7 + n, tokens=None)
    assert residencies(engine, A, B, C, D) == [Residency.HOT] * 4


def test_prefetching_keeps_the_budget(budgeted: Budgeted) -> None:
    engine = budgeted(2)
    feed(engine, A, *prompt(0), tokens=None)
    feed(engine, B, *prompt(1), tokens=None)
    assert engine.prefetch_agent(A).warm_tokens == 250
    assert residencies(engine, A, B) == [Residency.HOT, Residency.WARM]
    engine.update_agent(A, pinned=True)
    with refused(Reason.RAM_BUDGET_EXCEEDED):
        engine.prefetch_agent(B)


def test_a_turn_that_ram_alone_has_stays_there(budgeted: Budgeted, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = budgeted(2)

    def full(*_: object) -> int:
        raise AgentmemError(Reason.STORE_UNWRITABLE, "The disk takes nothing.")

    feed(engine, B, 5, tokens=None)
    with monkeypatch.context() as patch:
        patch.setattr(engine._context.store, "commit", full)
        assert not finished(run(engine, request(*prompt(0), tokens=None))).durable
        with refused(Reason.RAM_BUDGET_EXCEEDED):
            feed(engine, B, *prompt(1), tokens=None)
    engine.evict_agent(A)  # saves it
    assert engine.get_agent(A).tokens == 250


def test_agents_without_a_budget_of_their_own_share_what_the_machine_has(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentmem.model.numerics.working_set", lambda: 0)
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint)))
    try:
        with refused(Reason.RAM_BUDGET_EXCEEDED):
            feed(engine, A, 5, tokens=None)
    finally:
        engine.close()

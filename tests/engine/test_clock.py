"""The clock goes back, between turns and between runs: order, request ids, ages and times to live keep their sense."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Finished, Request, TokenInput
from agentmem.types import AgentRef, Residency
from tests.engine.runs import finished, run

A, B, C = (AgentRef("default", name) for name in "abc")
NOON = 1_800_000_000.0
HOUR, DAY = 3600.0, 86400.0


class Clock:
    now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


def feed(engine: Engine, ref: AgentRef, *ids: int, request_id: str = "") -> Finished:
    return finished(run(engine, Request(ref, TokenInput(ids), None, create=True, request_id=request_id)))


def test_turns_keep_their_order_and_requests_their_results(settings: EngineSettings, clock: Clock) -> None:
    engine = Engine.open(settings)
    feed(engine, A, 5, request_id="first")
    clock.now -= HOUR
    feed(engine, A, 6)
    engine.close()
    clock.now -= DAY
    engine = Engine.open(settings)
    feed(engine, A, 7)
    assert feed(engine, A, 5, request_id="first").repeated_result
    turns = engine.list_turns(A)
    assert [turn.number for turn in turns] == [1, 2, 3]
    assert [turn.created for turn in turns] == [NOON, NOON - HOUR, NOON - HOUR - DAY]
    assert engine._context.store.history(engine.get_agent(A).id).ids().tolist() == [5, 6, 7]
    clock.now = NOON + DAY - 1
    assert feed(engine, A, 5, request_id="first").repeated_result
    clock.now = NOON + DAY + 1
    assert not feed(engine, A, 5, request_id="first").repeated_result
    engine.close()


def test_an_agent_used_meanwhile_does_not_look_old(engine: Engine, clock: Clock) -> None:
    feed(engine, A, 5)
    feed(engine, B, 5)
    clock.now -= 30 * DAY
    feed(engine, A, 6)
    assert engine.get_agent(A).last_used == NOON
    assert engine.prune("default", older_than_s=HOUR) == []
    clock.now = NOON + HOUR / 2
    assert engine.prune("default", older_than_s=HOUR) == []
    feed(engine, A, 7)
    clock.now = NOON + HOUR + 1
    assert [gone.agent for gone in engine.prune("default", older_than_s=HOUR)] == [B]


def test_nothing_expires_early(engine: Engine, clock: Clock) -> None:
    engine.create_agent(A, ttl_s=HOUR)
    clock.now -= DAY
    assert engine.prune("default", expired=True) == []
    engine.create_agent(B, ttl_s=HOUR)
    clock.now = NOON + HOUR - 1
    assert [gone.agent for gone in engine.prune("default", expired=True)] == [B]
    clock.now = NOON + HOUR + 1
    assert [gone.agent for gone in engine.prune("default", expired=True)] == [A]


def test_who_leaves_ram_is_a_matter_of_order(checkpoint: Path, tmp_path: Path, clock: Clock) -> None:
    probe = Engine.open(EngineSettings(tmp_path / "probe", str(checkpoint)))
    budget = 3 * 256 * probe.model_info().bytes_per_token
    probe.close()
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint), ram_budget=budget))
    try:
        for i, ref in enumerate((A, B, C)):
            feed(engine, ref, *range(5 + i, 205 + i))
            clock.now -= DAY
        assert engine.get_agent(A).residency is Residency.WARM
        assert engine.get_agent(C).residency is Residency.HOT
    finally:
        engine.close()

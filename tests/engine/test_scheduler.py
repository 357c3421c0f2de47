from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import pytest

from agentmem.engine import scheduler as scheduler_module
from agentmem.engine.scheduler import AGEING_S, Scheduler
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef, Priority


class _Job:
    def __init__(self, agent: str, priority: Priority = Priority.NORMAL, takes_slot: bool = True) -> None:
        self.ref, self.priority, self.takes_slot = AgentRef("default", agent), priority, takes_slot

    def steps(self) -> Generator[Any, None, None]:
        yield from ()

    def step_aside(self) -> None: ...

    def fail(self, error: AgentmemError) -> None: ...


def _one_by_one(scheduler: Scheduler, count: int) -> str:
    """Whose jobs come, if each ends before the next begins."""
    names = ""
    for _ in range(count):
        job = scheduler.take()
        assert job is not None
        names += job.ref.name
        scheduler.done(job)
    return names


def test_agents_take_turns_and_each_keeps_its_order() -> None:
    scheduler = Scheduler(100, 1)
    jobs = [_Job(name) for name in "aaabbc"]
    for job in jobs:
        scheduler.add(job)
    assert [job.ref.name for job in scheduler.waiting] == list("abcaba")
    assert _one_by_one(scheduler, 6) == "abcaba"


def test_an_agent_has_one_active_job_and_others_go_before_its_next() -> None:
    scheduler = Scheduler(100, 8)
    first, second, other = _Job("a"), _Job("a"), _Job("b")
    for job in (first, second, other):
        scheduler.add(job)
    assert (scheduler.take(), scheduler.take(), scheduler.take()) == (first, other, None)
    scheduler.done(first)
    assert scheduler.take() is second


def test_so_many_are_active_and_what_is_brief_needs_no_slot() -> None:
    scheduler = Scheduler(100, 2)
    a, b, c, brief = _Job("a"), _Job("b"), _Job("c"), _Job("d", takes_slot=False)
    for job in (a, b, c, brief):
        scheduler.add(job)
    assert (scheduler.take(), scheduler.take(), scheduler.take(), scheduler.take()) == (a, b, brief, None)
    scheduler.done(b)
    assert scheduler.take() is c


@pytest.mark.parametrize(("waited", "order"), [(0.0, "highlow"), (1.5, "highlow"), (3.0, "lowhigh")])
def test_the_more_urgent_goes_first_but_waiting_counts(
    waited: float, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(scheduler_module.time, "monotonic", lambda: now)
    scheduler = Scheduler(100, 1)
    scheduler.add(_Job("low", Priority.LOW))
    now += waited * AGEING_S
    scheduler.add(_Job("high", Priority.HIGH))
    assert _one_by_one(scheduler, 2) == order


def test_a_level_below_the_least_does_not_begin() -> None:
    scheduler = Scheduler(100, 8)
    normal, high, brief = _Job("a"), _Job("b", Priority.HIGH), _Job("c", takes_slot=False)
    for job in (normal, high, brief):
        scheduler.add(job)
    assert (scheduler.take(2), scheduler.take(2), scheduler.take(2)) == (high, brief, None)
    assert scheduler.take() is normal


@pytest.mark.parametrize("queued", ["a", "aab", "aabbcc", "abcabca"])
def test_position_is_how_many_end_first(queued: str) -> None:
    scheduler = Scheduler(100, 1)
    for name in queued:
        scheduler.add(_Job(name))
    running = scheduler.take()
    assert running is not None
    mine = _Job("b")
    position = scheduler.add(mine)
    scheduler.done(running)
    for _ in range(position - 1):
        job = scheduler.take()
        assert job not in (mine, None)
        scheduler.done(job)  # type: ignore[arg-type]
    assert scheduler.take() is mine


def test_what_begins_at_once_has_position_0() -> None:
    scheduler = Scheduler(100, 2)
    assert scheduler.add(_Job("a")) == 0
    scheduler.take()
    assert scheduler.add(_Job("b")) == 0
    assert scheduler.add(_Job("a")) > 0


def test_full_queue_says_when_to_try_again() -> None:
    scheduler = Scheduler(1, 1)
    scheduler.add(_Job("a"))
    with pytest.raises(AgentmemError) as caught:
        scheduler.add(_Job("b"))
    assert caught.value.reason is Reason.QUEUE_FULL
    assert caught.value.metadata["retry_after_s"] == "1"


def test_removed_job_does_not_run() -> None:
    scheduler = Scheduler(10, 1)
    first, second = _Job("a"), _Job("a")
    scheduler.add(first)
    scheduler.add(second)
    assert scheduler.remove(first)
    assert not scheduler.remove(first)
    assert scheduler.take() is second


def test_close_returns_what_waits_and_refuses_more() -> None:
    scheduler = Scheduler(10, 1)
    job = _Job("a")
    scheduler.add(job)
    assert scheduler.close() == [job]
    assert scheduler.take() is None
    assert not scheduler.wait(None)
    with pytest.raises(AgentmemError) as caught:
        scheduler.add(_Job("b"))
    assert caught.value.reason is Reason.SHUTTING_DOWN


def test_the_end_of_a_job_wakes_who_waits_for_the_next() -> None:
    scheduler = Scheduler(10, 1)
    first, second = _Job("a"), _Job("a")
    scheduler.add(first)
    scheduler.add(second)
    scheduler.wait(None)
    assert scheduler.take() is first
    began = time.monotonic()
    scheduler.done(first)
    scheduler.wait(30)
    assert time.monotonic() - began < 20
    assert scheduler.take() is second

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentmem.engine.scheduler import Scheduler
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef


class _Job:
    def __init__(self, agent: str) -> None:
        self.ref = AgentRef("default", agent)

    def steps(self) -> Iterator[None]:
        return iter(())

    def fail(self, error: AgentmemError) -> None: ...


def _take_all(scheduler: Scheduler, count: int) -> str:
    return "".join(job.ref.name for _ in range(count) if (job := scheduler.take()) is not None)


def test_agents_take_turns_and_each_keeps_its_order() -> None:
    scheduler = Scheduler(100)
    jobs = [_Job(name) for name in "aaabbc"]
    for job in jobs:
        scheduler.add(job)
    assert _take_all(scheduler, 6) == "abcaba"


@pytest.mark.parametrize("queued", ["", "a", "aab", "aabbcc", "abcabca"])
def test_position_is_what_really_runs_first(queued: str) -> None:
    scheduler = Scheduler(100)
    for name in queued:
        scheduler.add(_Job(name))
    mine = _Job("b")
    position = scheduler.add(mine)
    for _ in range(position):
        assert scheduler.take() is not mine
    assert scheduler.take() is mine


def test_full_queue_says_when_to_try_again() -> None:
    scheduler = Scheduler(1)
    scheduler.add(_Job("a"))
    with pytest.raises(AgentmemError) as caught:
        scheduler.add(_Job("b"))
    assert caught.value.reason is Reason.QUEUE_FULL
    assert caught.value.metadata["retry_after_s"] == "1"


def test_removed_job_does_not_run() -> None:
    scheduler = Scheduler(10)
    first, second = _Job("a"), _Job("a")
    scheduler.add(first)
    scheduler.add(second)
    assert scheduler.remove(first)
    assert not scheduler.remove(first)
    assert scheduler.take() is second


def test_close_returns_what_waits_and_refuses_more() -> None:
    scheduler = Scheduler(10)
    job = _Job("a")
    scheduler.add(job)
    assert scheduler.close() == [job]
    assert scheduler.take() is None
    with pytest.raises(AgentmemError) as caught:
        scheduler.add(_Job("b"))
    assert caught.value.reason is Reason.SHUTTING_DOWN

"""Turns that are answered before they are on disk: in order, visible, within bounds, and settled where it matters."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Delta, Durability, Event, Failed, Finished, OnCancel, Request, Sampling, TokenInput
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef, Residency
from tests.engine.disks import Disk, block_files, soon
from tests.engine.runs import finished, run, said
from tests.store.samples import read_all

A, B = AgentRef("default", "a"), AgentRef("default", "b")
C = AgentRef("default", "c")
LAG_S = 0.3


@pytest.fixture(scope="module")
def unbroken(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[int]]:
    """What an agent says in turns 1, 2, … that are durable one by one."""
    engine = Engine.open(EngineSettings(tmp_path_factory.mktemp("unbroken"), str(checkpoint)))
    replies = [said(run(engine, turn(i))) for i in range(1, 6)]
    engine.close()
    return replies


@pytest.fixture
def lag_s() -> float:
    """Longer than any test; those about lag use LAG_S."""
    return 60.0


@pytest.fixture
def settings(checkpoint: Path, state: Path, lag_s: float) -> EngineSettings:
    return EngineSettings(state, str(checkpoint), lag_s=lag_s)


def turn(number: int, ref: AgentRef = A, **options: object) -> Request:
    """An agent's turn of that number: 304 tokens."""
    ids = tuple(range(5 + number, 305 + number))
    return Request(ref, TokenInput(ids), Sampling(max_tokens=4), create=True, **options)  # type: ignore[arg-type]


def behind(number: int, ref: AgentRef = A, **options: object) -> Request:
    return turn(number, ref, durability=Durability.WRITE_BEHIND, **options)


def start(engine: Engine, request: Request) -> list[Event]:
    """The events of a request, which grow."""
    events: list[Event] = []
    engine.submit(request, events.append)
    return events


def ended(events: list[Event]) -> bool:
    return bool(events) and isinstance(events[-1], Finished | Failed)


def test_it_is_answered_before_it_is_on_disk(
    engine: Engine, disk: Disk, state: Path, unbroken: list[list[int]]
) -> None:
    run(engine, turn(1))
    disk.slow = True
    second = run(engine, behind(2, request_id="second"))
    assert not finished(second).durable
    assert finished(second).warnings == ()
    third = run(engine, behind(3))
    assert [said(second), said(third)] == unbroken[1:3]
    view, stats = engine.get_agent(A), engine.stats()
    assert (view.turn, view.unsaved_turns) == (1, 2)
    assert stats.unsaved_turns == 2
    assert stats.unsaved_bytes > 0
    assert 0 < stats.oldest_unsaved_s < 30
    again = run(engine, behind(2, request_id="second"))
    assert (said(again), finished(again).durable, finished(again).warnings) == (said(second), False, ())
    assert finished(again).repeated_result
    with pytest.raises(AgentmemError) as caught:
        run(engine, behind(2, B, request_id="second"))
    assert caught.value.reason is Reason.REQUEST_ID_REUSED
    disk.slow = False
    assert soon(lambda: engine.stats().unsaved_turns == engine.stats().unsaved_bytes == 0)
    assert (engine.get_agent(A).turn, engine.get_agent(A).unsaved_turns) == (3, 0)
    again = run(engine, behind(2, request_id="second"))
    assert (said(again), finished(again).durable) == (said(second), True)
    assert finished(again).usage == finished(second).usage
    assert said(run(engine, turn(4))) == unbroken[3]
    assert [one.number for one in engine.list_turns(A)] == [1, 2, 3, 4]
    engine.evict_agent(A)
    usage = finished(run(engine, turn(5))).usage
    assert (usage.recomputed_tokens, usage.reused_warm_tokens) == (0, 4 * 304)
    assert engine.prune("default") == []


def test_a_durable_turn_waits_for_those_before_it(engine: Engine, disk: Disk) -> None:
    run(engine, turn(1))
    disk.slow = True
    run(engine, behind(2))
    events = start(engine, turn(3))
    assert soon(lambda: sum(isinstance(event, Delta) for event in events) == 4)
    time.sleep(0.1)
    assert not ended(events)
    disk.slow = False
    assert soon(lambda: ended(events))
    assert finished(events).durable
    assert engine.get_agent(A).turn == 3


@pytest.mark.parametrize("lag_s", [LAG_S])
def test_old_turns_make_the_next_one_wait(engine: Engine, disk: Disk) -> None:
    for ref in (A, B):
        run(engine, turn(1, ref))
    disk.slow = True
    run(engine, behind(2))
    run(engine, behind(2, B))
    time.sleep(LAG_S)
    events = start(engine, behind(3, B))
    time.sleep(0.2)
    assert events == []
    disk.slow = False
    assert soon(lambda: ended(events))
    assert not finished(events).durable
    assert engine.get_agent(A).turn == 2


@pytest.mark.parametrize("lag_s", [LAG_S])
def test_a_wait_can_be_cancelled(engine: Engine, disk: Disk) -> None:
    run(engine, turn(1))
    disk.slow = True
    run(engine, behind(2))
    time.sleep(LAG_S)
    events: list[Event] = []
    ticket = engine.submit(behind(3), events.append)
    assert soon(lambda: engine.stats().running == 1)
    ticket.cancel()
    assert soon(lambda: ended(events))
    assert isinstance(events[-1], Failed)
    assert events[-1].error.reason is Reason.REQUEST_CANCELLED
    assert engine.get_agent(A).unsaved_turns == 1


def test_many_bytes_make_a_turn_wait(checkpoint: Path, state: Path, disk: Disk) -> None:
    probe = Engine.open(EngineSettings(state.with_name("other"), str(checkpoint)))
    limit = 400 * probe.model_info().bytes_per_token
    probe.close()
    engine = Engine.open(EngineSettings(state, str(checkpoint), lag_s=60, lag_bytes=limit), files=disk)
    run(engine, turn(1))
    disk.slow = True
    assert not finished(run(engine, behind(2))).durable  # 360 tokens of two blocks
    events = start(engine, behind(3))
    assert soon(lambda: sum(isinstance(event, Delta) for event in events) == 4)
    time.sleep(0.2)
    assert not ended(events)
    assert engine.stats().unsaved_bytes <= limit
    disk.slow = False
    assert soon(lambda: ended(events))
    engine.close()


def exported(engine: Engine) -> None:
    assert b"".join(engine.export_agent(A))


SETTLING: dict[str, Callable[[Engine], object]] = {
    "fork": lambda engine: engine.fork_agent(A, "c"),
    "rewind": lambda engine: engine.rewind_agent(A, 2),
    "evict": lambda engine: engine.evict_agent(A),
    "evict to cold": lambda engine: engine.evict_agent(A, Residency.COLD),
    "export": exported,
    "prune history": lambda engine: engine.prune("default", agent="a"),
    "prune agents": lambda engine: engine.prune("default", older_than_s=3600),
    "delete": lambda engine: engine.delete_agent(A, expect_turn=2),
    "close": lambda engine: engine.close(),
}


QUICK = ("rewind", "evict", "delete", "close")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SETTLING])
def test_it_is_settled_first(
    engine: Engine, disk: Disk, state: Path, checkpoint: Path, name: str, unbroken: list[list[int]]
) -> None:
    run(engine, turn(1))
    disk.slow = True
    run(engine, behind(2))
    done = threading.Thread(target=lambda: SETTLING[name](engine))
    done.start()
    time.sleep(0.1)
    assert done.is_alive()
    assert not list(state.glob("turns/*/00000002.json"))
    disk.slow = False
    done.join(20)
    assert not done.is_alive()
    if name == "delete":
        assert (block_files(state), list(state.glob("turns/*/*"))) == ([], [])
        return
    engine.close()
    again = Engine.open(EngineSettings(state, str(checkpoint)))
    try:
        assert again.get_agent(A).tokens == 2 * 304
        assert said(run(again, turn(3))) == unbroken[2]
    finally:
        again.close()


def test_dry_and_real_evictions_agree(engine: Engine, disk: Disk) -> None:
    run(engine, turn(1))
    disk.slow = True
    run(engine, behind(2))
    threading.Timer(0.2, lambda: setattr(disk, "slow", False)).start()
    would = engine.evict_agent(A, Residency.COLD, dry_run=True)
    assert would == engine.evict_agent(A, Residency.COLD)
    assert would.disk_bytes > 0


def test_a_full_disk_later(
    engine: Engine, disk: Disk, unbroken: list[list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    """What was written behind and cannot be saved is in RAM, as with any other turn: it is said, and saved later."""
    run(engine, turn(1))
    disk.slow = True
    for number in (2, 3):
        assert finished(run(engine, behind(number, request_id=str(number)))).warnings == ()
    disk.full, disk.slow = True, False
    assert soon(lambda: engine.stats().unsaved_bytes == 0)  # nothing waits any more: it has failed
    assert engine.stats().unsaved_turns == 2
    again = finished(run(engine, behind(3, request_id="3")))
    assert (again.durable, [w.reason for w in again.warnings]) == (False, ["NOT_DURABLE"])
    assert any("agent 'a' is not saved" in record.getMessage() for record in caplog.records)
    fourth = run(engine, behind(4))
    assert [w.reason for w in finished(fourth).warnings] == ["NOT_DURABLE"]
    assert said(fourth) == unbroken[3]
    assert (engine.get_agent(A).turn, engine.get_agent(A).unsaved_turns) == (1, 3)
    assert engine.stats().unsaved_bytes > 0
    with pytest.raises(AgentmemError) as caught:
        engine.fork_agent(A, "c")
    assert caught.value.reason is Reason.STORE_UNWRITABLE
    disk.full = False
    assert said(run(engine, turn(5))) == unbroken[4]
    assert [one.number for one in engine.list_turns(A)] == [1, 2, 3, 4, 5]
    assert engine.prune("default") == []


def test_a_crash_loses_what_was_outstanding_and_nothing_else(
    engine: Engine, disk: Disk, state: Path, tmp_path: Path, checkpoint: Path, unbroken: list[list[int]]
) -> None:
    run(engine, turn(1))
    assert finished(run(engine, turn(2))).durable
    disk.slow = True
    run(engine, behind(3))
    run(engine, behind(4))
    shutil.copytree(state, tmp_path / "left", ignore=shutil.ignore_patterns("lock"))  # all that a SIGKILL leaves
    again = Engine.open(EngineSettings(tmp_path / "left", str(checkpoint)))
    try:
        assert again.get_agent(A).turn == 2
        events = [run(again, turn(number)) for number in (3, 4)]
        assert [said(one) for one in events] == unbroken[2:4]
        assert finished(events[0]).usage.recomputed_tokens == 0
        assert again.prune("default") == []
    finally:
        again.close()


def test_others_find_what_is_on_its_way(engine: Engine, disk: Disk) -> None:
    for ref in (B, C):
        engine.create_agent(ref)
    disk.slow = True
    run(engine, behind(1, B))
    threading.Timer(0.1, lambda: setattr(disk, "slow", False)).start()
    usage = finished(run(engine, behind(1, C))).usage
    assert usage.reused_hot_tokens >= 256


@pytest.mark.parametrize("lag_s", [LAG_S])
def test_others_do_not_wait_for_ever(engine: Engine, disk: Disk) -> None:
    for ref in (B, C):
        engine.create_agent(ref)
    disk.slow = True
    run(engine, behind(1, B))
    assert finished(run(engine, behind(1, C))).usage.prefill_tokens == 300


def test_a_discarded_turn_on_top_takes_the_state_along(engine: Engine, disk: Disk, unbroken: list[list[int]]) -> None:
    """What it took over of others cannot be trimmed. The state comes back from the disk, once that has all of it."""
    for number in (1, 2):
        run(engine, turn(number, B))
    engine.create_agent(A)
    disk.slow = True
    run(engine, behind(1))
    events: list[Event] = []

    def sink(event: Event) -> None:
        events.append(event)
        if isinstance(event, Delta):
            raise RuntimeError  # nobody listens any more

    engine.submit(turn(2, on_cancel=OnCancel.DISCARD), sink)
    assert soon(lambda: ended(events))
    assert engine.get_agent(A).ram_bytes == 0
    assert engine.get_agent(A).unsaved_turns == 1
    threading.Timer(0.2, lambda: setattr(disk, "slow", False)).start()
    again = run(engine, turn(2))
    assert said(again) == unbroken[1]
    assert (finished(again).usage.recomputed_tokens, finished(again).warnings) == (0, ())
    assert engine.get_agent(A).turn == 2


def test_a_turn_on_top_that_fails_loses_nothing(
    engine: Engine, disk: Disk, monkeypatch: pytest.MonkeyPatch, unbroken: list[list[int]]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    run(engine, turn(1))
    disk.slow = True
    run(engine, behind(2))
    monkeypatch.setattr("agentmem.engine.turn.last_logits", fail)
    threading.Timer(0.2, lambda: setattr(disk, "slow", False)).start()
    with pytest.raises(AgentmemError) as caught:
        run(engine, turn(3))
    assert caught.value.reason is Reason.INTERNAL
    monkeypatch.undo()
    again = run(engine, turn(3))
    assert said(again) == unbroken[2]
    assert finished(again).usage.recomputed_tokens == 0
    assert [one.number for one in engine.list_turns(A)] == [1, 2, 3]


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_no_crash_loses_a_durable_turn(checkpoint: Path, tmp_path: Path, every: int) -> None:
    """Whatever file operation is the last: the turns that were answered as durable are there, and no other history."""
    disk, state, copies = Disk(), tmp_path / "state", []
    durable = [0]  # positions of the timeline

    def copying(operation: str) -> Callable[..., None]:
        real, count = getattr(disk, operation), itertools.count()

        def work(*args: object) -> None:
            if len(durable) > 1 and next(count) % every == 0:
                copies.append((tmp_path / str(len(copies)), durable[-1]))
                shutil.copytree(state, copies[-1][0], ignore=shutil.ignore_patterns("lock"))
            real(*args)

        return work

    engine = Engine.open(EngineSettings(state, str(checkpoint)), files=disk)
    for operation in ("create", "sync", "rename", "unlink"):
        setattr(disk, operation, copying(operation))
    for number in range(1, 7):
        done = finished(run(engine, turn(number) if number in (1, 4, 6) else behind(number)))
        if done.durable:
            durable.append(304 * done.turn)
    ids = engine._context.store.history(engine.get_agent(A).id).ids().tolist()
    engine.close()
    assert len(ids) == durable[-1] == 6 * 304
    assert len(copies) > 3
    for left, at_least in copies:
        found = read_all(left, ["default"])[("default", "a")]
        assert len(found) >= at_least
        assert found == ids[: len(found)]
        assert len(found) % 304 == 0


def test_an_id_on_its_way_to_the_disk_is_not_free(engine: Engine, disk: Disk) -> None:
    """Or the call that took it would win, and the turn that was answered could not be saved."""
    run(engine, turn(1))
    run(engine, turn(1, B))
    disk.slow = True
    run(engine, behind(2, request_id="r"))
    for call in (
        lambda: engine.update_agent(B, "r", pinned=True),
        lambda: engine.fork_agent(B, "c", request_id="r"),
    ):
        with pytest.raises(AgentmemError) as caught:
            call()
        assert caught.value.reason is Reason.REQUEST_ID_REUSED
    disk.slow = False
    engine.evict_agent(A)
    assert engine.get_agent(A).turn == 2

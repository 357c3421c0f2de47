"""Full blocks are written while their turn runs: its end writes the tail and the record. Nothing stays of others."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings, Ticket
from agentmem.engine.request import Delta, Durability, Event, Failed, Finished, OnCancel, Request, Sampling, TokenInput
from agentmem.errors import Reason
from agentmem.types import AgentRef, Share
from tests.engine.disks import Disk, block_files, soon
from tests.engine.runs import finished, run, said

A, B = AgentRef("default", "a"), AgentRef("default", "b")
PROMPT = tuple(range(5, 505)) * 2 + tuple(range(7, 107))
"""1,100 tokens: four full blocks, and a part of the fifth."""


def at_first_delta(engine: Engine, request: Request, look: Callable[[Ticket], None]) -> list[Event]:
    """All events of a request; `look` is called on the executor thread once the prompt is computed."""
    events: list[Event] = []
    ticket: list[Ticket] = []
    failed: list[BaseException] = []

    def sink(event: Event) -> None:
        if isinstance(event, Delta) and not any(isinstance(e, Delta) for e in events):
            assert soon(lambda: bool(ticket))
            try:
                look(ticket[0])
            except BaseException as error:
                failed.append(error)
        events.append(event)

    ticket.append(engine.submit(request, sink))
    assert soon(lambda: bool(events) and isinstance(events[-1], Finished | Failed))
    if failed:
        raise failed[0]
    return events


def turn(ref: AgentRef = A, ids: tuple[int, ...] = PROMPT, max_tokens: int = 5, **options: object) -> Request:
    return Request(ref, TokenInput(ids), Sampling(max_tokens=max_tokens), create=True, **options)  # type: ignore[arg-type]


def goes_on(engine: Engine, ref: AgentRef = A) -> None:
    """All of the agent can be read from the disk."""
    tokens = engine.get_agent(ref).tokens
    engine.evict_agent(ref)
    usage = finished(run(engine, Request(ref, TokenInput((9,)), None))).usage
    assert (usage.recomputed_tokens, usage.reused_warm_tokens) == (0, tokens)
    assert engine.verify().problems == ()


def test_full_blocks_are_on_disk_before_their_turn_ends(engine: Engine, disk: Disk, state: Path) -> None:
    def look(_: Ticket) -> None:
        assert soon(lambda: len(block_files(state)) == 4)
        assert not list(state.glob("turns/*/*.json"))
        disk.created.clear()
        # Nobody takes them for leftovers, or touches them.
        assert engine.disk_usage().orphaned_bytes == 0
        assert engine.prune("default") == []
        assert engine.verify(repair=True).problems == ()
        assert len(block_files(state)) == 4

    events = at_first_delta(engine, turn(), look)
    assert [path.parent.parent.parent.name for path in disk.created if "blocks" in path.parts] == ["blocks"]
    assert len([path for path in disk.created if "turns" in path.parts]) == 1
    assert finished(events).durable
    on_disk = [*block_files(state), *state.glob("turns/*/*.json")]
    assert finished(events).usage.bytes_written == sum(path.stat().st_size for path in on_disk)
    goes_on(engine)


def test_a_block_that_fills_while_decoding_is_written_then(engine: Engine, disk: Disk, state: Path) -> None:
    seen = []

    def sink(event: Event) -> None:
        if isinstance(event, Delta) and len(seen) == 20:  # position 270
            assert soon(lambda: len(block_files(state)) == 1)
        seen.append(event)

    engine.submit(turn(ids=PROMPT[:250], max_tokens=30), sink)
    assert soon(lambda: bool(seen) and isinstance(seen[-1], Finished))
    assert len(seen) > 21
    goes_on(engine)


@pytest.mark.parametrize("slow", [False, True])
def test_a_discarded_turn_leaves_nothing(engine: Engine, disk: Disk, state: Path, slow: bool) -> None:
    engine.create_agent(A)
    disk.slow = slow

    def look(ticket: Ticket) -> None:
        assert soon(lambda: slow or len(block_files(state)) == 4)
        ticket.cancel()

    events = at_first_delta(engine, turn(on_cancel=OnCancel.DISCARD), look)
    assert isinstance(events[-1], Failed)
    assert events[-1].error.reason is Reason.REQUEST_CANCELLED
    disk.slow = False
    assert soon(lambda: not block_files(state) and engine.stats().unsaved_bytes == 0)
    assert engine.prune("default") == []
    assert finished(run(engine, turn())).durable
    goes_on(engine)


def test_a_discarded_turn_leaves_what_others_use(engine: Engine, state: Path) -> None:
    run(engine, turn(B))
    theirs = block_files(state)
    engine.create_agent(A, share=Share.PRIVATE)  # which computes all by itself
    events = at_first_delta(engine, turn(on_cancel=OnCancel.DISCARD), lambda ticket: ticket.cancel())
    assert isinstance(events[-1], Failed)
    engine.delete_agent(A)  # behind whatever is still to be done
    assert block_files(state) == theirs
    goes_on(engine, B)


def test_nothing_of_a_forgotten_agent_comes_later(
    engine: Engine, disk: Disk, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block of a turn that was discarded is on its way when the agent goes."""

    def unlink(path: Path) -> None:
        time.sleep(0.3 if "blocks" in path.parts else 0)
        Path.unlink(path, missing_ok=True)

    run(engine, turn(ids=(5, 6)))
    monkeypatch.setattr(disk, "unlink", unlink)
    disk.slow = True
    at_first_delta(engine, turn(on_cancel=OnCancel.DISCARD), lambda ticket: ticket.cancel())
    threading.Timer(0.2, lambda: setattr(disk, "slow", False)).start()
    engine.delete_agent(A)
    assert block_files(state) == []


def test_equal_blocks_are_written_once(engine: Engine, disk: Disk) -> None:
    run(engine, turn())
    disk.created.clear()
    events = run(engine, turn(B, (*PROMPT, 9)))
    assert finished(events).usage.prefill_tokens < 256
    assert len([path for path in disk.created if "blocks" in path.parts]) == 1


@pytest.mark.parametrize("durability", Durability)
def test_a_disk_that_is_full_ahead_is_tried_again_at_the_end(
    engine: Engine, disk: Disk, state: Path, durability: Durability
) -> None:
    engine.create_agent(A)
    disk.full = True

    def look(_: Ticket) -> None:
        assert soon(lambda: engine.stats().unsaved_bytes == 0)  # the writes have failed
        assert block_files(state) == []
        disk.full = False

    events = at_first_delta(engine, turn(durability=durability), look)
    assert finished(events).durable is (durability is Durability.DURABLE)
    assert finished(events).warnings == ()
    assert soon(lambda: engine.stats().unsaved_turns == 0)
    goes_on(engine)


def test_a_disk_that_stays_full(engine: Engine, disk: Disk, state: Path) -> None:
    engine.create_agent(A)
    disk.full = True
    events = run(engine, turn())
    assert not finished(events).durable
    assert [w.reason for w in finished(events).warnings] == ["NOT_DURABLE"]
    assert block_files(state) == []
    disk.full = False
    assert finished(run(engine, turn(ids=(7,)))).durable
    assert engine.get_agent(A).turn == 2
    goes_on(engine)


def test_a_disk_that_fills_up_on_the_way(engine: Engine, disk: Disk, state: Path) -> None:
    """What was written ahead goes when the commit fails: the disk is full, and the turn is in RAM."""

    def look(_: Ticket) -> None:
        assert soon(lambda: len(block_files(state)) == 4)
        disk.full = True

    events = at_first_delta(engine, turn(), look)
    assert not finished(events).durable
    assert block_files(state) == []
    disk.full = False
    assert finished(run(engine, turn(ids=(7,)))).durable
    goes_on(engine)


@pytest.mark.parametrize("late", [False, True], ids=["while the turn runs", "while it is committed"])
def test_one_write_that_fails(engine: Engine, disk: Disk, late: bool) -> None:
    engine.create_agent(A)
    disk.slow = late
    real, failures = disk.rename, []

    def rename(source: Path, target: Path) -> None:
        if target.suffix == ".safetensors" and not failures:
            failures.append(target)
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    disk.rename = rename  # type: ignore[method-assign]
    events: list[Event] = []
    engine.submit(turn(), events.append)
    assert soon(lambda: not late or engine.stats().unsaved_turns == 1)
    disk.slow = False
    assert soon(lambda: bool(events) and isinstance(events[-1], Finished))
    assert finished(events).durable
    assert failures
    goes_on(engine)


def test_a_slow_disk_stops_no_decoding_and_takes_little_ram(checkpoint: Path, state: Path, disk: Disk) -> None:
    reference = Engine.open(EngineSettings(state.with_name("other"), str(checkpoint)))
    wanted = said(run(reference, turn()))
    per_token = reference.model_info().bytes_per_token
    reference.close()
    limit = 2 * 256 * per_token
    engine = Engine.open(EngineSettings(state, str(checkpoint), lag_bytes=limit), files=disk)
    engine.create_agent(A)
    disk.slow = True
    events: list[Event] = []
    engine.submit(turn(), events.append)
    assert soon(lambda: sum(isinstance(event, Delta) for event in events) == 5)
    assert 0 < engine.stats().unsaved_bytes <= limit
    assert not isinstance(events[-1], Finished)
    assert block_files(state) == []
    disk.slow = False
    assert soon(lambda: isinstance(events[-1], Finished))
    assert finished(events).durable
    assert said(events) == wanted
    goes_on(engine)
    engine.close()


def test_copies_that_the_ram_budget_has_no_room_for_are_not_made(checkpoint: Path, state: Path, disk: Disk) -> None:
    probe = Engine.open(EngineSettings(state.with_name("other"), str(checkpoint)))
    per_token = probe.model_info().bytes_per_token
    probe.close()
    segments = 5 * 2  # of 1,105 positions, and a tail that may just have doubled
    engine = Engine.open(EngineSettings(state, str(checkpoint), ram_budget=segments * 256 * per_token), files=disk)
    engine.create_agent(A)
    disk.slow = True
    seen = []

    def look(_: Ticket) -> None:
        seen.append(engine.stats().unsaved_bytes)
        disk.slow = False

    events = at_first_delta(engine, turn(), look)
    assert seen == [0]
    assert finished(events).durable
    goes_on(engine)
    engine.close()

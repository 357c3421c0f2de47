"""A disk that takes nothing: agents go on in RAM, say so, lose nothing that was stored, and are saved afterwards."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Request, Sampling, TokenInput
from agentmem.errors import AgentmemError, Reason
from agentmem.store.files import Files
from agentmem.types import AgentRef
from tests.engine.disks import Disk
from tests.engine.runs import A, B, finished, refused, run, said

GREEDY = Sampling(max_tokens=5)


class FullDisk(Disk):
    """Of which it is known how much is free when it is full: what is removed makes room."""

    room = 0
    """Bytes that are free when it is full."""

    def create(self, path: Path, data: bytes) -> None:
        if self.full and self.room <= len(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        Files.create(self, path, data)

    def unlink(self, path: Path) -> None:
        if self.full and path.exists():
            self.room += path.stat().st_size
        super().unlink(path)


@pytest.fixture
def disk() -> FullDisk:
    return FullDisk()


def ask(engine: Engine, ref: AgentRef, *ids: int, request_id: str = "") -> tuple[list[int], bool]:
    events = run(engine, Request(ref, TokenInput(ids), GREEDY, create=True, request_id=request_id))
    return said(events), finished(events).durable


def test_agents_go_on_in_ram_and_are_saved_once_there_is_room(
    engine: Engine, disk: FullDisk, checkpoint: Path, tmp_path: Path
) -> None:
    wanted = [ask(engine, B, *range(5 + i, 305 + i))[0] for i in range(4)]
    engine.delete_agent(B)
    first, durable = ask(engine, A, *range(5, 305))
    assert durable
    disk.full = True
    events = run(engine, Request(A, TokenInput(tuple(range(6, 306))), GREEDY))
    assert not finished(events).durable
    assert [w.reason for w in finished(events).warnings] == ["NOT_DURABLE"]
    third, durable = ask(engine, A, *range(7, 307), request_id="third")
    assert not durable
    assert [first, said(events), third] == wanted[:3]
    assert ask(engine, A, *range(7, 307), request_id="third") == (third, False)  # a repeat, not a turn
    assert engine.get_agent(A).turn == 1  # what the disk has
    for change in (lambda: engine.evict_agent(A), lambda: engine.rewind_agent(A, 1), lambda: engine.fork_agent(A, "c")):
        with refused(Reason.STORE_UNWRITABLE):
            change()
    disk.full = False
    fourth, durable = ask(engine, A, *range(8, 308))
    assert durable
    assert fourth == wanted[3]
    assert [turn.number for turn in engine.list_turns(A)] == [1, 2, 3, 4]
    assert ask(engine, A, *range(7, 307), request_id="third") == (third, True)
    engine.close()

    again = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint)))
    try:
        usage = finished(run(again, Request(A, TokenInput((9,)), GREEDY))).usage
        assert (usage.recomputed_tokens, usage.reused_warm_tokens) == (0, 4 * 305)
    finally:
        again.close()


def test_a_lost_turn_leaves_what_was_durable(engine: Engine, disk: FullDisk, checkpoint: Path, tmp_path: Path) -> None:
    ask(engine, A, *range(5, 305))
    disk.full = True
    assert not ask(engine, A, 7)[1]
    engine.close()  # cannot save either
    again = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint)))
    try:
        assert again.get_agent(A).turn == 1
        assert finished(run(again, Request(A, TokenInput((9,)), GREEDY))).usage.recomputed_tokens == 0
    finally:
        again.close()


def test_room_for_one_saves_what_waits_for_others(engine: Engine, disk: FullDisk) -> None:
    ask(engine, A, 5, 6)
    ask(engine, B, 7, 8)
    disk.full = True
    assert not ask(engine, A, 9)[1]
    disk.full = False
    assert ask(engine, B, 9)[1]
    assert engine.get_agent(A).turn == 2


def test_a_block_that_was_taken_over_and_is_gone_is_written_from_ram(engine: Engine, disk: FullDisk) -> None:
    prompt = range(5, 305)
    ask(engine, B, *prompt)
    engine.create_agent(A)
    disk.full = True
    events = run(engine, Request(A, TokenInput(tuple(prompt)), None))
    assert finished(events).usage.prefill_tokens == 0
    assert not finished(events).durable
    disk.full = False
    engine.delete_agent(B)
    assert ask(engine, AgentRef("default", "c"), 7)[1]  # saves what waits for others
    assert engine.get_agent(A).turn == 1
    engine.evict_agent(A)
    assert finished(run(engine, Request(A, TokenInput((9,)), GREEDY))).usage.recomputed_tokens == 0


def test_a_request_id_that_waits_in_ram_is_not_for_another_call(engine: Engine, disk: FullDisk) -> None:
    ask(engine, A, 5, 6)
    ask(engine, B, 7, 8)
    disk.full = True
    run(engine, Request(A, TokenInput((9,)), None, request_id="once"))
    for request in (
        Request(A, TokenInput((9,)), GREEDY, request_id="once"),
        Request(B, TokenInput((9,)), None, request_id="once"),
    ):
        with refused(Reason.REQUEST_ID_REUSED):
            run(engine, request)
    disk.full = False
    assert ask(engine, B, 4)[1]
    assert engine.get_agent(A).turn == 2


def test_what_could_not_be_deleted_keeps_its_turns(
    engine: Engine, disk: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(engine, A, 5, 6)
    disk.full = True
    ask(engine, A, 7)
    with monkeypatch.context() as patch, refused(Reason.STORE_UNWRITABLE):
        patch.setattr(disk, "unlink", lambda path: None)  # nothing makes room
        engine.delete_agent(A)
    disk.full = False
    assert ask(engine, A, 8)[1]
    assert engine.get_agent(A).turn == 3


def test_an_agent_can_be_deleted_from_a_full_disk_which_does_not_have_its_last_turn(
    engine: Engine, disk: FullDisk
) -> None:
    ask(engine, A, 5, 6)
    ask(engine, B, 7, 8)
    disk.full = True
    assert not ask(engine, A, 7)[1]
    for other in (1, 3):
        with refused(Reason.TURN_MISMATCH):
            engine.delete_agent(A, expect_turn=other)
    assert engine.delete_agent(A, expect_turn=2) > 0
    with refused(Reason.AGENT_NOT_FOUND):
        engine.get_agent(A)
    assert engine.get_agent(B).turn == 1


def test_ram_can_be_freed_while_the_disk_takes_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(engine, A, 5, 6)

    def full(*_: object) -> None:
        raise AgentmemError(Reason.STORE_UNWRITABLE, "The catalog cannot be written to.")

    with monkeypatch.context() as patch:
        patch.setattr(engine._context.store._core.catalog, "write", full)
        assert engine.evict_agent(A, request_id="r").ram_bytes > 0
    assert engine.stats().hot_bytes == 0


def test_pruning_on_a_full_disk_takes_what_is_old_but_none_whose_turns_wait(
    engine: Engine, disk: FullDisk, checkpoint: Path, tmp_path: Path
) -> None:
    """To prune is how room is made: an agent that cannot be saved must not stand in the way, and is used just now."""
    ask(engine, B, *range(7, 307))
    ask(engine, A, 5, 6)
    disk.full, disk.room = True, 1
    assert not ask(engine, A, 7)[1]
    for dry_run in (True, False):
        assert [one.agent for one in engine.prune("default", older_than_s=0, dry_run=dry_run)] == [B]
    disk.full = False
    assert ask(engine, A, 8)[1]
    assert engine.get_agent(A).turn == 3


def test_events_tell_when_turns_are_in_ram_only_and_when_they_are_saved(engine: Engine, disk: FullDisk) -> None:
    ask(engine, A, 5, 6)
    disk.full = True
    for _ in range(3):
        assert not ask(engine, A, 7)[1]
    assert [(event.kind, event.agent) for event in engine.list_events("default", "a", 0)] == [("NOT_DURABLE", A)]
    disk.full = False
    assert ask(engine, B, 9)[1]
    assert [event.kind for event in engine.list_events("default", "a", 0)] == ["NOT_DURABLE", "SAVED"]


def test_turns_that_waited_are_gone_with_their_agent(engine: Engine, disk: FullDisk) -> None:
    ask(engine, A, 5, 6)
    disk.full = True
    assert not ask(engine, A, 7, request_id="r")[1]
    disk.full = False
    engine.delete_agent(A)
    assert engine.stats().unsaved_turns == 0
    with refused(Reason.AGENT_NOT_FOUND):
        run(engine, Request(A, TokenInput((7,)), GREEDY, request_id="r"))
    engine.create_agent(A)
    engine.fork_agent(A, "fork")
    engine.evict_agent(A)

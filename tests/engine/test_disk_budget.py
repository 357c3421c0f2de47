"""The disk budget, with a real model: agents go cold and answer the same; what does not fit is refused beforehand."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Finished, Request, Sampling, TokenInput
from agentmem.errors import AgentmemError, Reason
from agentmem.memory.disk import FILE_BYTES
from agentmem.store.files import Files
from agentmem.types import AgentRef, FinishReason, Residency, Share, Usage
from tests.engine.runs import finished, run, said
from tests.helpers.checkpoints import KINDS, Spec, write
from tests.store.samples import files_below

GREEDY = Sampling(max_tokens=6)
A, B, C, D = (AgentRef("default", name) for name in "abcd")
PROMPTS = {
    ref: tuple(5 + (i * n + i // 3) % 90 for i in range(300))
    for ref, n in zip((A, B, C, D), (7, 11, 13, 17), strict=True)
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ck"), Spec(layers=1))


@pytest.fixture(scope="module")
def turn_bytes(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """What an agent takes on disk that was fed one of the prompts."""
    engine = Engine.open(EngineSettings(tmp_path_factory.mktemp("probe"), str(checkpoint)))
    feed(engine, A)
    size = engine.stats().disk_bytes
    engine.close()
    return size


Opened = Callable[..., Engine]


@pytest.fixture
def opened(checkpoint: Path, tmp_path: Path) -> Iterator[Opened]:
    """Opens engines on one folder, with a budget and, if need be, another way to the disk."""
    engines: list[Engine] = []

    def open_(budget: int | None, files: Files | None = None) -> Engine:
        for engine in engines:
            engine.close()
        engines.append(
            Engine.open(EngineSettings(tmp_path / "state", str(checkpoint), disk_budget=budget), files=files)
        )
        return engines[-1]

    yield open_
    for engine in engines:
        engine.close()


def feed(engine: Engine, ref: AgentRef, ids: tuple[int, ...] = (), sampling: Sampling | None = None) -> Finished:
    return finished(run(engine, Request(ref, TokenInput(ids or PROMPTS[ref]), sampling, create=True)))


def answer(engine: Engine, ref: AgentRef, *ids: int) -> tuple[list[int], Usage]:
    events = run(engine, Request(ref, TokenInput(ids), GREEDY))
    return said(events), finished(events).usage


def residency(engine: Engine) -> dict[str, str]:
    return {view.ref.name: view.residency.value for view in engine.list_agents("default")}


def kinds(engine: Engine, *refs: AgentRef) -> list[tuple[str, str]]:
    events = engine.list_events(None, None, 0)
    return [(event.kind, event.agent.name) for event in events if event.agent in refs]


def on_disk(tmp_path: Path) -> int:
    state = tmp_path / "state"
    return sum(path.stat().st_size for path in files_below(state / "blocks", "") + files_below(state / "turns", ""))


@pytest.mark.reference
def test_an_agent_goes_cold_and_answers_as_if_undisturbed(opened: Opened, turn_bytes: int, tmp_path: Path) -> None:
    engine = opened(None)
    for ref in (A, B):
        feed(engine, ref)
    wanted = {ref: answer(engine, ref, 11, 12)[0] for ref in (A, B)}
    for ref in (A, B):
        engine.delete_agent(ref)
    budget = 4 * turn_bytes
    engine = opened(budget)
    for ref in (A, B, C):
        feed(engine, ref)
        assert on_disk(tmp_path) == engine.stats().disk_bytes <= budget
    assert residency(engine) == dict.fromkeys("abc", "HOT")
    said_before = engine.list_turns(A)
    feed(engine, D)
    assert engine.stats().disk_bytes <= budget
    assert residency(engine) == {"a": "COLD", "b": "HOT", "c": "HOT", "d": "HOT"}
    assert kinds(engine, A, B, C, D) == [("DISK_EVICTED", "a")]
    assert engine.list_turns(A) == said_before, "nothing is forgotten"
    said_, usage = answer(engine, A, 11, 12)
    assert (said_, usage.recomputed_tokens) == (wanted[A], 300)
    assert residency(engine)["a"] == "HOT"
    assert ("BLOCK_RECOMPUTED", "a") in kinds(engine, A)
    assert ("DISK_EVICTED", "b") in kinds(engine, B)
    engine = opened(budget)
    said_, usage = answer(engine, A, 13)
    assert usage.recomputed_tokens == 0, "what was computed again was put back"
    assert answer(engine, B, 11, 12)[0] == wanted[B]
    assert on_disk(tmp_path) == engine.stats().disk_bytes <= budget


def test_what_does_not_fit_is_refused_and_leaves_all_as_it_was(opened: Opened, turn_bytes: int, tmp_path: Path) -> None:
    engine = opened(int(2.5 * turn_bytes))
    feed(engine, A)
    engine.update_agent(A, pinned=True)
    before = on_disk(tmp_path)
    for ref, request in (
        (A, Request(A, TokenInput(PROMPTS[B] * 3))),
        (B, Request(B, TokenInput(PROMPTS[B] * 3), create=True)),
        (B, Request(B, TokenInput(PROMPTS[B]), Sampling(max_tokens=2000), create=True)),
    ):
        with pytest.raises(AgentmemError) as caught:
            run(engine, request)
        assert caught.value.reason is Reason.DISK_BUDGET_EXCEEDED
        metadata = {name: int(value) for name, value in caught.value.metadata.items()}
        assert metadata["budget_bytes"] == int(2.5 * turn_bytes)
        assert metadata["needed_bytes"] > metadata["free_bytes"] == metadata["budget_bytes"] - before
        assert (on_disk(tmp_path), engine.get_agent(A).turn, list(residency(engine))) == (before, 1, ["a"])
        if ref == A:
            assert kinds(engine, A) == [("DISK_REFUSED", "a")]
    assert [event.kind for event in engine.list_events(None, None, 0)] == ["STARTED", *["DISK_REFUSED"] * 2]
    assert feed(engine, A, (5,)).durable, "what fits, fits"


@pytest.mark.reference
def test_a_reply_that_may_go_on_ends_where_the_budget_does(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmem.engine.turn.RESERVE", 32)
    per_token = opened(None).model_info().bytes_per_token
    engine = opened(100 * (per_token + 20) + 3 * FILE_BYTES)
    done = finished(run(engine, Request(A, TokenInput((5,)), Sampling(), create=True)))
    assert (done.finish_reason, done.durable, done.usage.generated_tokens) == (FinishReason.LENGTH, True, 3 * 32)
    assert kinds(engine, A) == [("DISK_REFUSED", "a")]
    assert engine.stats().disk_bytes <= engine.stats().disk_budget_bytes


def test_what_is_there_already_needs_no_room(opened: Opened, turn_bytes: int) -> None:
    """Many agents with one prompt take little more than one."""
    engine = opened(int(2.2 * turn_bytes))
    for ref in (A, B, C, D):
        feed(engine, ref, PROMPTS[A][:256])
    assert kinds(engine, A, B, C, D) == []
    assert set(residency(engine).values()) == {"HOT"}


def test_a_prompt_that_is_about_to_be_shared_is_not_given_up(opened: Opened, turn_bytes: int) -> None:
    engine = opened(int(3.6 * turn_bytes))
    for ref in (A, B, C):
        feed(engine, ref)
    done = feed(engine, D, (*PROMPTS[A][:256], *PROMPTS[D][:200]))
    assert done.usage.prefill_tokens == 200
    assert [name for kind, name in kinds(engine, A, B, C, D) if kind == "DISK_EVICTED"] != []
    assert engine.evict_agent(D).ram_bytes > 0
    assert answer(engine, D, 9)[1].recomputed_tokens == 0


def test_pinned_waiting_and_exported_agents_keep_their_state(opened: Opened, turn_bytes: int) -> None:
    engine = opened(4 * turn_bytes)
    for ref in (A, B, C):
        feed(engine, ref)
    engine.update_agent(A, pinned=True)
    export = engine.export_agent(B)
    first = next(export)
    feed(engine, D)
    assert residency(engine) == {"a": "HOT", "b": "HOT", "c": "COLD", "d": "HOT"}
    assert len(first + b"".join(export)) > turn_bytes // 2
    feed(engine, C, (5, 6))
    assert residency(engine)["b"] == "COLD", "the export is over"


def test_an_agent_whose_request_waits_keeps_its_state(opened: Opened, turn_bytes: int) -> None:
    engine = opened(4 * turn_bytes)
    for ref in (A, B, C):
        feed(engine, ref)
    done = threading.Semaphore(0)
    held = threading.Event()

    def hold(event: object) -> None:
        held.wait(30)

    def finish(event: object) -> None:
        if isinstance(event, Finished):
            done.release()

    engine.submit(Request(B, TokenInput((5,))), hold)
    engine.submit(Request(D, TokenInput(PROMPTS[D]), create=True), finish)
    engine.submit(Request(A, TokenInput((6,))), finish)
    held.set()
    assert all(done.acquire(timeout=30) for _ in "da")
    first, *others = [name for kind, name in kinds(engine, A, B, C, D) if kind == "DISK_EVICTED"]
    assert first == "c"  # not A, which rested longer
    assert "a" not in others


class NoRecords(Files):
    """No turn of one agent can be written."""

    agent_id = "none"

    def create(self, path: Path, data: bytes) -> None:
        if path.parent.name == self.agent_id:
            raise OSError(28, "No space left on device")
        super().create(path, data)


def test_an_agent_with_unsaved_turns_keeps_its_state_and_their_room(opened: Opened, turn_bytes: int) -> None:
    disk, budget = NoRecords(), int(5.2 * turn_bytes)
    engine = opened(budget, disk)
    for ref in (A, B, C):
        feed(engine, ref)
    disk.agent_id = engine.get_agent(A).id
    assert not feed(engine, A, PROMPTS[D]).durable
    feed(engine, D)
    assert [name for kind, name in kinds(engine, A, B, C, D) if kind == "DISK_EVICTED"] == ["b", "c"]
    disk.agent_id = "none"
    assert feed(engine, D, (5,)).durable
    assert engine.get_agent(A).turn == 2
    assert engine.stats().disk_bytes <= budget, "what was to be saved had its room"


@pytest.mark.parametrize("why", ["for room", "on demand"])
def test_blocks_that_unsaved_turns_took_over(opened: Opened, turn_bytes: int, why: str) -> None:
    """For room they are not given up; if a user does, they are written from RAM when the turn is saved."""
    disk = NoRecords()
    engine = opened(5 * turn_bytes, disk)
    feed(engine, B)
    feed(engine, C)
    engine.create_agent(A)
    disk.agent_id = engine.get_agent(A).id
    assert feed(engine, A, PROMPTS[B]).usage.prefill_tokens == 0
    if why == "for room":
        for ref in (D, C):
            feed(engine, ref, PROMPTS[D] + PROMPTS[ref])
        assert ("DISK_EVICTED", "b") in kinds(engine, B)
        assert [block.bytes > 0 for block in engine.get_agent(B).blocks] == [True, False]
    else:
        assert engine.evict_agent(B, Residency.COLD).disk_bytes > 0
    disk.agent_id = "none"
    assert feed(engine, C, (5,)).durable
    assert engine.get_agent(A).turn == 1
    assert engine.stats().disk_bytes <= 5 * turn_bytes
    engine.evict_agent(A)
    assert answer(engine, A, 9)[1].recomputed_tokens == 0


def test_a_prefetch_that_writes_nothing_needs_no_room(opened: Opened) -> None:
    engine = opened(None)
    feed(engine, A)
    feed(engine, B)
    engine = opened(engine.stats().disk_bytes)
    assert engine.prefetch_agent(A).warm_tokens == 300
    assert residency(engine) == {"a": "HOT", "b": "WARM"}


def test_a_smaller_budget_is_kept_from_the_start(opened: Opened, turn_bytes: int, tmp_path: Path) -> None:
    engine = opened(None)
    for ref in (A, B, C):
        feed(engine, ref)
    budget = 2 * turn_bytes
    engine = opened(budget)
    assert engine.stats().disk_bytes == on_disk(tmp_path) <= budget
    assert residency(engine) == {"a": "COLD", "b": "COLD", "c": "WARM"}
    assert engine.stats().disk_budget_bytes == engine.disk_usage().budget_bytes == budget
    engine = opened(1)
    assert set(residency(engine).values()) == {"COLD"}
    with pytest.raises(AgentmemError) as caught:
        feed(engine, A, (5,))
    assert caught.value.reason is Reason.DISK_BUDGET_EXCEEDED


def test_branches_prefetches_and_imports_are_asked_for_too(opened: Opened, turn_bytes: int) -> None:
    engine = opened(None)
    feed(engine, A)
    engine.evict_agent(A, Residency.COLD)
    file = [bytes(chunk) for chunk in engine_export(engine, B)]
    engine.delete_agent(B)
    changes: list[Callable[[Engine], object]] = [
        lambda engine: engine.fork_agent(A, "c"),
        lambda engine: engine.rewind_agent(A, 0),
        lambda engine: engine.prefetch_agent(A),
        lambda engine: engine.import_agent(iter(file), "default"),
    ]
    for change in changes:
        engine = opened(engine.stats().disk_bytes + 2000)
        with pytest.raises(AgentmemError) as caught:
            change(engine)
        assert caught.value.reason is Reason.DISK_BUDGET_EXCEEDED
        assert [view.ref.name for view in engine.list_agents("default")] == ["a"]
        assert engine.get_agent(A).turn == 1


def engine_export(engine: Engine, ref: AgentRef) -> Iterator[bytes]:
    feed(engine, ref)
    yield from engine.export_agent(ref)


def test_the_first_event_says_how_the_last_run_ended(opened: Opened, checkpoint: Path, tmp_path: Path) -> None:
    opened(None)
    engine = opened(None)
    engine.create_namespace("team")  # behind what was noted at the start
    shutil.copytree(tmp_path / "state", tmp_path / "killed" / "state")
    ends = [("STARTED", ""), ("STOPPED", ""), ("STARTED", "")]
    assert [(event.kind, event.reason) for event in engine.list_events(None, None, 0)] == ends
    killed = Engine.open(EngineSettings(tmp_path / "killed" / "state", str(checkpoint)))
    try:
        assert [(e.kind, e.reason) for e in killed.list_events(None, None, 0)] == [*ends, ("STARTED", "UNCLEAN")]
    finally:
        killed.close()


@pytest.mark.parametrize("share", list(Share))
def test_the_disk_never_has_more_than_the_budget(opened: Opened, turn_bytes: int, share: Share, tmp_path: Path) -> None:
    budget, refused = int(3.5 * turn_bytes), 0
    engine = opened(budget)
    engine.create_agent(A, share=share)
    for ids in PROMPTS.values():
        try:
            feed(engine, A, ids)
        except AgentmemError:
            refused += 1
        assert on_disk(tmp_path) == engine.stats().disk_bytes <= budget
    assert (refused, engine.get_agent(A).turn) == (2, 2)


@pytest.mark.reference
@pytest.mark.parametrize("spec", KINDS[1:], ids=lambda spec: spec.kind)
def test_companions_count_and_go_with_their_agent(spec: Spec, tmp_path: Path) -> None:
    """Windowed and recurrent layers: what they have on disk beside the blocks is within the budget, too."""
    model = write(tmp_path / "model", spec)
    engine = Engine.open(EngineSettings(tmp_path / "state", str(model)))
    feed(engine, A)
    each = engine.stats().disk_bytes
    wanted = answer(engine, A, 11, 12)[0]
    engine.delete_agent(A)
    engine.close()
    budget = 4 * each
    engine = Engine.open(EngineSettings(tmp_path / "state", str(model), disk_budget=budget))
    try:
        for ref in (A, B, C, D):
            feed(engine, ref)
            assert on_disk(tmp_path) == engine.stats().disk_bytes <= budget
        assert residency(engine)["a"] == "COLD"
        said_, usage = answer(engine, A, 11, 12)
        assert (said_, usage.recomputed_tokens) == (wanted, 300)
        assert on_disk(tmp_path) == engine.stats().disk_bytes <= budget
    finally:
        engine.close()

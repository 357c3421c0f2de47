"""Splices of agents whose state was given up, or is damaged: it is brought back as for a turn of theirs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Event, Failed, Finished, Phase, Slice, Started
from agentmem.engine.splicing import SpliceTurn
from agentmem.errors import AgentmemError, Reason
from agentmem.memory import restoring
from agentmem.memory.agent import Agent
from agentmem.memory.disk import DiskBudget
from agentmem.memory.needs import Chunk
from agentmem.types import AgentRef, Exactness, Reposition, Residency
from tests.engine.runs import PROMPT, A, B, feed, refused, request
from tests.engine.splices import put, ref, restored, seen
from tests.engine.thoughts import on_executor, think

SOURCE = ref("source")


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """With an agent of three blocks, one that has a splice, and thought, and one that has read a little."""
    feed(engine, SOURCE, *PROMPT[:600], tokens=None)
    feed(engine, ref("mixed"), *PROMPT[3:300], tokens=None)
    put(engine, ref("mixed"), Slice("source", 100, 400))
    feed(engine, ref("mixed"), *PROMPT[7:300], tokens=None)
    think(engine, ref("mixed"), 5, 9)
    feed(engine, A, *PROMPT[:37], tokens=None)
    engine.evict_agent(ref("mixed"))  # it has spans of the other
    return engine


def file_of(state: Path, key: str) -> Path:
    (found,) = (state / "blocks").glob(f"**/{key}.safetensors")
    return found


def news(engine: Engine, agent: AgentRef) -> list[tuple[str, int, int]]:
    """What the events say of an agent's blocks."""
    events = engine.list_events(agent.namespace, agent.name, 0)
    return [(one.kind, one.start, one.end) for one in events if one.kind.startswith("BLOCK")]


def accounted(done: Finished) -> int:
    usage = done.usage
    return usage.reused_hot_tokens + usage.reused_warm_tokens + usage.prefill_tokens


BLEND = {"reposition": Reposition.BLEND, "ratio": 0.1}


def segment_bytes(checkpoint: Path, folder: Path) -> int:
    """Of RAM."""
    probe = Engine.open(EngineSettings(folder / "probe", str(checkpoint)))
    try:
        return 256 * probe.model_info().bytes_per_token
    finally:
        probe.close()


@pytest.mark.parametrize("how", [{}, pytest.param(BLEND, marks=pytest.mark.slow)], ids=["reposition", "blend"])
@pytest.mark.parametrize(
    ("parts", "again", "kept"),
    [
        ((Slice("source"),), 600, 0),
        ((Slice("source", 300, 500),), 512, 0),  # what comes behind is not needed
        ((Slice("source", 3, 50), Slice("source", 5)), 600 + 256, 0),
        ((Slice("mixed", 20, 896),), 297 + 299, 300),  # what was spliced is never given up
    ],
    ids=["whole", "within", "two of one", "with a splice and a thought"],
)
def test_a_cold_agent_is_computed_again(
    filled: Engine, parts: tuple[Slice, ...], again: int, kept: int, how: dict[str, object]
) -> None:
    engine, name = filled, parts[0].agent
    engine.fork_agent(A, "b")
    asked = sum((part.end or 600) - part.start for part in parts)
    put(engine, B, *parts, **how)
    taken = engine.get_agent(B).ram_bytes
    engine.evict_agent(B)
    engine.evict_agent(ref(name), Residency.COLD)
    done = put(engine, A, *parts, **how)
    assert engine.get_agent(A).ram_bytes == taken or len(parts) > 1  # no more of the agent stays
    assert seen(engine, A) == restored(engine, A) == restored(engine, B)
    assert [b.key for b in engine.get_agent(A).blocks] == [b.key for b in engine.get_agent(B).blocks]
    assert not done.warnings
    assert done.usage.prompt_tokens == 37 + asked
    if not how and len(parts) == 1:
        assert done.usage.recomputed_tokens == again
        assert accounted(done) == 37 + kept
    assert engine.verify().problems == ()
    if parts[-1].end in (None, 896):  # all of it is on the disk again
        assert engine.get_agent(ref(name)).residency is Residency.WARM
        assert engine.prefetch_agent(ref(name)).recomputed_tokens == 0


def test_what_was_put_back_need_not_be_computed_for_the_next_part(filled: Engine) -> None:
    engine = filled
    engine.evict_agent(SOURCE, Residency.COLD)
    done = put(engine, A, Slice("source", 3, 50), Slice("source", 5))
    assert done.usage.recomputed_tokens == 600
    assert done.usage.bytes_written > 0
    assert accounted(done) == 37 + 251  # positions 5 to 256 of the second part


def test_a_damaged_agent_is_mended_and_it_is_said_whose_state_was_damaged(filled: Engine, state: Path) -> None:
    engine = filled
    engine.fork_agent(A, "b")
    put(engine, B, Slice("source", 20))
    engine.evict_agent(B)
    engine.evict_agent(SOURCE)
    file = file_of(state, engine.get_agent(SOURCE).blocks[1].key)
    sound = file.read_bytes()
    file.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    done = put(engine, A, Slice("source", 20))
    assert seen(engine, A) == restored(engine, B)
    assert (done.usage.recomputed_tokens, accounted(done)) == (256, 37 + 580 - 256)
    (warning,) = done.warnings
    assert warning.reason == "BLOCK_CORRUPT"
    assert "'source'" in warning.message
    assert file.read_bytes() == sound
    assert engine.stats().quarantined_blocks_total == 1
    assert news(engine, SOURCE) == [("BLOCK_QUARANTINED", 256, 512), ("BLOCK_RECOMPUTED", 256, 512)]


def test_an_agent_with_a_splice_that_is_lost_cannot_be_spliced_and_is_named(filled: Engine, state: Path) -> None:
    engine = filled
    engine.delete_agent(SOURCE)
    before = seen(engine, A)
    engine.evict_agent(ref("mixed"))
    (key, *_) = [b.key for b in engine.get_agent(ref("mixed")).blocks if b.kind == "SPLICE"]
    file_of(state, key).unlink()
    with pytest.raises(AgentmemError) as caught:
        put(engine, A, Slice("mixed", 20, 790))
    assert caught.value.reason is Reason.BLOCK_UNRECOVERABLE
    assert "'mixed'" in caught.value.message
    assert caught.value.metadata["agent"] == "mixed"
    assert seen(engine, A) == before
    assert put(engine, A, Slice("mixed", 20, 290)).usage.recomputed_tokens == 0  # what comes before it


@pytest.mark.parametrize("until", [Started, Finished])
def test_the_agent_itself_may_have_a_turn_meanwhile(
    filled: Engine, monkeypatch: pytest.MonkeyPatch, until: type[Event]
) -> None:
    """Neither notices the other."""
    engine, computed = filled, restoring.computed
    engine.fork_agent(A, "b")
    put(engine, B, Slice("source", 300, 400))
    taken = engine.get_agent(B).ram_bytes
    engine.fork_agent(SOURCE, "like")
    feed(engine, ref("like"), 7, 8, 9)
    before = seen(engine, B), seen(engine, ref("like"))
    engine.delete_agent(ref("like"))
    engine.evict_agent(B)
    engine.evict_agent(SOURCE, Residency.COLD)
    events: list[Event] = []
    ended = threading.Event()

    def sink(event: Event) -> None:
        events.append(event)
        if isinstance(event, Finished | Failed):
            ended.set()

    def once_it_has_begun(*given: Any) -> Iterator[Any]:
        if not events:
            engine.submit(request(7, 8, 9, agent=SOURCE, tokens=6), sink)
            while not any(isinstance(event, until) for event in events):
                yield Chunk(1)
        yield from computed(*given)

    monkeypatch.setattr(restoring, "computed", once_it_has_begun)
    assert put(engine, A, Slice("source", 300, 400)).usage.recomputed_tokens > 0
    assert engine.get_agent(A).ram_bytes == taken
    assert ended.wait(60)
    assert (seen(engine, A), seen(engine, SOURCE)) == before
    assert restored(engine, A) == before[0]
    assert engine.verify().problems == ()


@pytest.mark.parametrize("known", [True, False])
def test_there_must_be_room_in_ram_for_it(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Before work starts, if it is cold by then. A splice of three blocks' last takes more when these are cold."""
    segment = segment_bytes(checkpoint, tmp_path)
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint), ram_budget=7 * segment))
    try:
        feed(engine, SOURCE, *PROMPT[:600], tokens=None)
        feed(engine, A, *PROMPT[:37], tokens=None)
        before = seen(engine, A)
        engine.evict_agent(SOURCE, Residency.COLD)
        if not known:
            monkeypatch.setattr(DiskBudget, "lacking", lambda *_: {})
        computed = engine.stats().recomputed_tokens_total
        with refused(Reason.RAM_BUDGET_EXCEEDED):
            put(engine, A, Slice("source", 590))
        assert engine.stats().recomputed_tokens_total == computed
        assert seen(engine, A) == before
        engine.prefetch_agent(SOURCE)
        put(engine, A, Slice("source", 590))
    finally:
        engine.close()


def meanwhile(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Has work done between the admission of the next splice and what it does."""
    advance = SpliceTurn.advance

    def later(turn: SpliceTurn, agent: Agent, submitted: float) -> Iterator[Any]:
        monkeypatch.setattr(SpliceTurn, "advance", advance)
        with ThreadPoolExecutor(1) as others:
            done = others.submit(work)
            while not done.done():
                yield Chunk(1)
            done.result()
        yield from advance(turn, agent, submitted)

    monkeypatch.setattr(SpliceTurn, "advance", later)


def test_there_must_be_room_on_disk_for_what_is_lost_meanwhile(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Engine.open(EngineSettings(tmp_path / "probe", str(checkpoint)))
    for agent, ids in ((SOURCE, PROMPT), (A, PROMPT[9:46])):
        feed(probe, agent, *ids, tokens=None)
    filled = probe.stats().disk_bytes
    probe.close()
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint), disk_budget=filled + 110_000))
    try:
        for agent, ids in ((SOURCE, PROMPT), (A, PROMPT[9:46])):
            feed(engine, agent, *ids, tokens=None)
        before = seen(engine, A)

        def work() -> None:
            engine.evict_agent(SOURCE, Residency.COLD)
            feed(engine, B, *(id_ + 1 for id_ in PROMPT[:450]), tokens=None)  # takes the room that it has left

        meanwhile(monkeypatch, work)
        with refused(Reason.DISK_BUDGET_EXCEEDED):
            put(engine, A, Slice("source", 600))
        stats = engine.stats()
        assert stats.disk_bytes <= stats.disk_budget_bytes
        assert seen(engine, A) == before == restored(engine, A)
        engine.delete_agent(B)
        engine.prefetch_agent(SOURCE)
        put(engine, A, Slice("source", 600))
        assert seen(engine, A) == restored(engine, A)
        stats = engine.stats()
        assert stats.disk_bytes <= stats.disk_budget_bytes
    finally:
        engine.close()


def test_a_splice_that_finds_its_source_damaged_waits_for_room_that_others_have(
    checkpoint: Path, tmp_path: Path
) -> None:
    """It holds none of its own meanwhile: so two do not wait for each other."""
    segment = segment_bytes(checkpoint, tmp_path)
    state = tmp_path / "state"
    engine = Engine.open(EngineSettings(state, str(checkpoint), ram_budget=16 * segment))
    memory, names = engine._context.memory, ("one", "two")
    try:
        for name, ids in zip(names, (PROMPT[:600], PROMPT[50:650]), strict=True):
            target, like, more = (ref(f"{what} {name}") for what in ("to", "like", "more"))
            feed(engine, ref(name), *ids, tokens=None)
            feed(engine, target, *ids[3:40], tokens=None)
            engine.fork_agent(target, like.name)
            engine.fork_agent(target, more.name)
            feed(engine, more, *ids[:9], tokens=None)
            put(engine, like, Slice(more.name, 37), Slice(name, 590))
            for agent in (ref(name), target, like, more):
                engine.evict_agent(agent)
            for agent, place in ((ref(name), 2), (target, 0)):
                file = file_of(state, engine.get_agent(agent).blocks[place].key)
                file.write_bytes(file.read_bytes()[:-1])
        on_executor(engine, lambda: memory.make_room(memory.create(B), 256))
        with ThreadPoolExecutor(2) as calls:
            asked = [
                calls.submit(put, engine, ref(f"to {name}"), Slice(f"more {name}", 37), Slice(name, 590))
                for name in names
            ]
            while sum(one.phase is Phase.WAITING_FOR_ROOM for one in engine.requests()) < 2 and not asked[0].done():
                time.sleep(0.01)
            assert on_executor(engine, lambda: [memory.promised(ref(f"to {name}")) for name in names]) == [0, 0]
            on_executor(engine, lambda: memory.done(B))
            made = [one.result() for one in asked]
        for name, done in zip(names, made, strict=True):
            assert [warning.reason for warning in done.warnings] == ["BLOCK_CORRUPT"] * 2
            assert done.usage.recomputed_tokens == 37 + 88 + 9  # what was fed is fed again
            assert news(engine, ref(f"to {name}")) == [("BLOCK_QUARANTINED", 0, 37), ("BLOCK_RECOMPUTED", 0, 37)]
            assert accounted(done) == 37 + 9
            assert restored(engine, ref(f"to {name}")) == restored(engine, ref(f"like {name}"))
        assert engine.verify().problems == ()
    finally:
        engine.close()


def test_a_cold_agents_own_positions_take_no_more_room_than_if_it_is_hot(checkpoint: Path, tmp_path: Path) -> None:
    """It is brought back for its turn anyway."""
    segment = segment_bytes(checkpoint, tmp_path)
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint), ram_budget=12 * segment))
    try:
        feed(engine, A, *PROMPT[:600], tokens=None)
        engine.evict_agent(A, Residency.COLD)
        assert put(engine, A, Slice("a", 0, 50)).usage.recomputed_tokens == 600
        assert seen(engine, A) == restored(engine, A)
    finally:
        engine.close()


def test_forks_of_a_cold_agent_and_handoffs_compute_it_again(filled: Engine) -> None:
    engine = filled
    engine.fork_agent(SOURCE, "like")
    feed(engine, ref("like"), *PROMPT[:300], tokens=None)
    like = seen(engine, ref("like"))
    engine.evict_agent(ref("like"), Residency.COLD)
    done = put(engine, SOURCE, Slice("like", 600))  # what follows in its own timeline: it is fed
    assert (done.usage.prefill_tokens, done.usage.exactness) == (300, Exactness.EXACT)
    assert seen(engine, SOURCE) == like
    engine.delete_agent(ref("like"))
    engine.evict_agent(SOURCE, Residency.COLD)
    engine.fork_agent(SOURCE, "c")
    assert feed(engine, ref("c"), 7, tokens=None)[1].recomputed_tokens == 900

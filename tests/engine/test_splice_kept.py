"""Splices wherever an agent's state goes: damaged, given up, exported, pruned, set aside, or waiting for the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import (
    Delta,
    Durability,
    Event,
    Failed,
    Finished,
    OnCancel,
    Sampling,
    Slice,
    SpliceInput,
    Started,
)
from agentmem.errors import AgentmemError, Reason
from agentmem.kv.placed import Placed
from agentmem.memory.memory import Memory
from agentmem.store.problems import ProblemKind
from agentmem.store.rebuild import rebuild
from agentmem.types import Exactness, Reposition, Residency, Share
from tests.engine.disks import Disk
from tests.engine.runs import PROMPT, SPEC, A, B, cut_short, feed, recorded, refused, request, run, said
from tests.engine.splices import put, ref, restored, seen
from tests.engine.test_transfer import changed
from tests.engine.thoughts import think
from tests.helpers.checkpoints import with_other_weights

Seen = tuple[list[bytes], bytes]


@pytest.fixture
def spliced(engine: Engine) -> Engine:
    """A has read a little, then been given two documents, one of them blended, and read on."""
    feed(engine, ref("one"), *PROMPT[:300], tokens=None)
    feed(engine, ref("two"), *PROMPT[100:640], tokens=None)
    feed(engine, A, *PROMPT[:37], tokens=None)
    put(engine, A, Slice("two", 13, 530))
    put(engine, A, ref("one"), reposition=Reposition.BLEND, ratio=0.1)
    feed(engine, A, *PROMPT[5:300], tokens=4)
    return engine


def file_of(state: Path, key: str) -> Path:
    (found,) = (state / "blocks").glob(f"**/{key}.safetensors")
    return found


def block(engine: Engine, kind: str, number: int = 0) -> str:
    return [one.key for one in engine.get_agent(A).blocks if one.kind == kind][number]


@pytest.mark.slow
def test_the_agents_it_came_from_may_go(spliced: Engine) -> None:
    before = seen(spliced, A)
    for name in ("one", "two"):
        spliced.delete_agent(ref(name))
    assert seen(spliced, A) == restored(spliced, A) == before


def test_what_is_computed_behind_a_splice_can_be_again(spliced: Engine, state: Path) -> None:
    """And the part of a block before it. What was spliced is never given up."""
    engine, before = spliced, seen(spliced, A)
    engine.evict_agent(A, Residency.COLD)
    assert {b.kind for b in engine.get_agent(A).blocks if not b.bytes} == {"TEXT"}
    assert engine.get_agent(A).residency is Residency.COLD
    assert engine.prefetch_agent(A).recomputed_tokens == 37 + 299
    assert seen(engine, A) == restored(engine, A) == before
    for number in range(3):
        engine.evict_agent(A)
        file_of(state, block(engine, "TEXT", number)).write_bytes(b"")
        assert engine.prefetch_agent(A).recomputed_tokens > 0
        assert seen(engine, A) == restored(engine, A) == before


def test_a_splice_that_is_lost_is_data_loss_and_says_where(spliced: Engine, state: Path) -> None:
    engine, before = spliced, seen(spliced, A)
    engine.evict_agent(A)
    file = file_of(state, block(engine, "SPLICE", 1))
    sound = file.read_bytes()
    for damage in (sound[:-1] + bytes([sound[-1] ^ 1]), sound[:100]):
        file.write_bytes(damage)
        found = engine.verify(repair=True)
        assert [(p.kind, p.reason, p.turn) for p in found.problems] == [(ProblemKind.BLOCK, "SPLICE_CORRUPT", 2)]
        assert found.repaired == 0
        for _ in range(2):
            with refused(Reason.BLOCK_UNRECOVERABLE):
                engine.prefetch_agent(A)
            assert not file.exists()
            assert (state / "quarantine" / file.name).read_bytes() == damage
    assert engine.stats().quarantined_blocks_total == 2
    assert [p.reason for p in engine.verify().problems] == ["SPLICE_MISSING"]
    engine.fork_agent(A, "b", at_turn=1)
    put(engine, B, Slice("two", 13, 530))
    assert file.read_bytes() == sound
    assert engine.verify().problems == ()
    engine.prefetch_agent(A)
    assert seen(engine, A) == before
    file.unlink()
    engine.evict_agent(A)
    with refused(Reason.BLOCK_UNRECOVERABLE):
        engine.prefetch_agent(A)
    engine.rewind_agent(A, 1)
    feed(engine, A, 7, tokens=2)
    assert engine.get_agent(A).exactness is Exactness.EXACT


def test_a_rebuilt_catalog_knows_splices(spliced: Engine, settings: EngineSettings) -> None:
    before, ids = seen(spliced, A), recorded(spliced)
    blocks = spliced.get_agent(A).blocks
    spliced.fork_agent(A, "b", at_turn=3)
    spliced.close()
    assert rebuild(settings.state_dir).problems == ()
    engine = Engine.open(settings)
    try:
        assert engine.verify().problems == ()
        engine.prefetch_agent(A)
        assert (seen(engine, A), recorded(engine)) == (before, ids)
        assert engine.get_agent(A).blocks == blocks
        feed(engine, B, *PROMPT[5:300], tokens=4)
        assert seen(engine, B) == before
        engine.delete_agent(B)
        engine.evict_agent(A, Residency.COLD)
        assert {b.kind for b in engine.get_agent(A).blocks if not b.bytes} == {"TEXT"}
    finally:
        engine.close()


@pytest.mark.slow
def test_a_pruned_history_keeps_splices(spliced: Engine) -> None:
    before = seen(spliced, A)
    spliced.prune("default", agent="a")
    assert len(spliced.list_turns(A)) == 1
    assert restored(spliced, A) == before
    assert spliced.verify().problems == ()
    feed(spliced, A, *PROMPT[:400], tokens=None)
    put(spliced, A, ref("one"))
    assert seen(spliced, A) == restored(spliced, A)


def test_an_export_has_its_splices(spliced: Engine) -> None:
    engine, before = spliced, seen(spliced, A)
    file = b"".join(engine.export_agent(A))
    made = engine.import_agent([file], "elsewhere", "b")
    there = replace(B, namespace="elsewhere")
    assert (made.share, made.exactness, made.tokens) == (Share.PRIVATE, Exactness.BLENDED, len(recorded(engine)))
    engine.prefetch_agent(there)
    assert seen(engine, there) == before
    assert recorded(engine, there) == recorded(engine)
    assert engine.verify().problems == ()
    again = b"".join(engine.export_agent(there))
    engine.import_agent([again], "default", "again")
    engine.prefetch_agent(ref("again"))
    assert seen(engine, ref("again")) == before
    plain = engine.import_agent([file], "default", "text", text_only=True)
    assert plain.exactness is Exactness.EXACT
    feed(engine, ref("fed"), *recorded(engine), tokens=None)
    engine.prefetch_agent(ref("text"))
    assert seen(engine, ref("text")) == seen(engine, ref("fed"))
    keys = {one.key for name in ("a", "one", "two") for one in engine.get_agent(ref(name)).blocks}
    assert not any(key.encode() in file or bytes.fromhex(key) in file for key in keys)


@pytest.mark.slow
def test_an_export_whose_splices_were_changed_is_refused(spliced: Engine) -> None:
    file = b"".join(spliced.export_agent(A))

    def without(members: dict[str, bytes]) -> None:
        members["splices.json"] = b"{}"

    def moved(members: dict[str, bytes]) -> None:
        members["splices.json"] = members["splices.json"].replace(b'"shift": "24"', b'"shift": "25"')

    def garbled(members: dict[str, bytes]) -> None:
        members["splices.json"] = b'{"1": {"rows": 3}}'

    for change in (without, moved, garbled):
        data = changed(file, change)
        assert data != file
        with refused(Reason.IMPORT_INVALID):
            spliced.import_agent([data], "default", "b")
    assert spliced._context.store.agent("default", "b") is None


def replies(engine: Engine, agent: object, asides: tuple[int, ...]) -> list[int]:
    """What an agent says, if it steps aside while these deltas are sent."""
    events: list[Event] = []
    submitted, done = threading.Event(), threading.Event()

    def sink(event: Event) -> None:
        events.append(event)
        if sum(isinstance(e, Delta) for e in events) in asides:
            submitted.wait(60)
            ticket._run.step_aside()
        if isinstance(event, Finished | Failed):
            done.set()

    ticket = engine.submit(request(*PROMPT[9:30], agent=agent, sampling=Sampling(max_tokens=30)), sink)
    submitted.set()
    assert done.wait(60)
    return said(events)


def test_an_agent_with_a_splice_may_step_aside(spliced: Engine) -> None:
    engine = spliced
    engine.fork_agent(A, "b")
    stayed = replies(engine, A, ())
    assert engine.stats().set_aside_total == 0
    assert replies(engine, B, (3, 20)) == stayed
    assert engine.stats().set_aside_total == 2
    assert seen(engine, A) == seen(engine, B) == restored(engine, B)


@pytest.mark.slow
def test_a_splice_waits_in_ram_for_a_full_disk(engine: Engine, disk: Disk, settings: EngineSettings) -> None:
    feed(engine, ref("one"), *PROMPT[:300], tokens=None)
    feed(engine, A, *PROMPT[:37], tokens=None)
    disk.full = True
    assert not put(engine, A, Slice("one", 5), ref("one")).durable
    assert not put(engine, A, ref("one"), reposition=Reposition.BLEND).durable
    feed(engine, A, *PROMPT[:290], tokens=3)
    before = seen(engine, A)
    disk.full = False
    feed(engine, B, 7, tokens=None)
    assert engine.stats().unsaved_turns == 0
    assert restored(engine, A) == before
    assert engine.verify().problems == ()


@pytest.mark.parametrize("behind", [0, 300])
def test_a_splice_in_ram_only_survives_a_turn_that_fails(
    engine: Engine, disk: Disk, behind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the turn froze what it was fed behind the end that is gone back to, or put a splice there."""
    monkeypatch.setattr("agentmem.kv.full.TAIL_SEGMENTS", 2)
    feed(engine, ref("one"), *PROMPT[:300], tokens=None)
    feed(engine, A, *PROMPT[:37], tokens=None)
    disk.full = True
    assert not put(engine, A, ref("one")).durable
    if behind:
        feed(engine, A, *PROMPT[:behind], tokens=None)
    before, hot = seen(engine, A), engine.stats().hot_bytes
    (*_, failed) = cut_short(engine, request(*PROMPT, *PROMPT, tokens=90, on_cancel=OnCancel.DISCARD), after=2)
    assert isinstance(failed, Failed)
    assert seen(engine, A) == before
    assert engine.stats().hot_bytes <= hot + engine._context.model.layout.full.bytes_per_token * 256
    with monkeypatch.context() as patched, refused(Reason.INPUT_INVALID):
        patched.setattr(Memory, "commit", refuses)
        put(engine, A, Slice("one", 3, 290), ref("one"))
    assert seen(engine, A) == before
    disk.full = False
    feed(engine, A, *PROMPT[:5])
    assert engine.stats().unsaved_turns == 0
    assert seen(engine, A) == restored(engine, A)
    assert engine.verify().problems == ()


def refuses(*_: object) -> Iterator[object]:
    yield from ()
    raise AgentmemError(Reason.INPUT_INVALID, "not this one")


@pytest.mark.slow
def test_a_smaller_disk_budget_takes_no_splice(spliced: Engine, settings: EngineSettings) -> None:
    before = seen(spliced, A)
    for name in ("one", "two"):
        spliced.delete_agent(ref(name))
    spliced.close()
    engine = Engine.open(replace(settings, disk_budget=1))
    try:
        assert {b.kind for b in engine.get_agent(A).blocks if not b.bytes} == {"TEXT"}
    finally:
        engine.close()
    engine = Engine.open(settings)
    try:
        engine.prefetch_agent(A)
        assert seen(engine, A) == before
    finally:
        engine.close()


def test_a_part_that_is_on_its_way_to_the_disk_is_waited_for(engine: Engine, disk: Disk) -> None:
    """If it left RAM meanwhile, as a state does that cannot be trimmed when a turn fails."""
    feed(engine, A, *PROMPT[:37], tokens=None)
    one, memory = ref("one"), engine._context.memory
    disk.slow = True
    run(engine, request(*PROMPT[:300], tokens=None, agent=one, durability=Durability.WRITE_BEHIND))
    engine._briefly(one, lambda: memory._drop(memory._agents[one]))
    timer = threading.Timer(0.5, setattr, (disk, "slow", False))
    timer.start()
    assert put(engine, A, one).usage.bytes_read > 0
    timer.join()


def test_parts_of_few_positions_take_whole_segments_of_ram(
    engine: Engine, settings: EngineSettings, checkpoint: Path
) -> None:
    feed(engine, ref("one"), *PROMPT[:300], tokens=None)
    feed(engine, A, *PROMPT[:37], tokens=None)
    put(engine, A, *(Slice("one", at, at + 3) for at in range(0, 300, 30)))
    each = engine._context.model.layout.full.bytes_per_token * 256
    engine.close()
    engine = Engine.open(replace(settings, ram_budget=6 * each))
    try:
        engine.prefetch_agent(ref("one"))
        with refused(Reason.RAM_BUDGET_EXCEEDED):
            engine.prefetch_agent(A)
    finally:
        engine.close()


def test_parts_of_few_positions_have_rows_of_their_own_only(engine: Engine) -> None:
    """Restored, each is a span by itself, of which others can hold one without the rest."""
    feed(engine, ref("one"), *PROMPT[:300], tokens=None)
    feed(engine, A, *PROMPT[:37], tokens=None)
    put(engine, A, *(Slice("one", at, at + 3) for at in range(0, 240, 10)))
    before = seen(engine, A)
    assert restored(engine, A) == before
    agent = engine._context.memory.find(A)
    assert agent is not None
    assert agent.state is not None
    full = agent.state.full
    assert [span.segments for span in full.spans] == [1] * 25
    assert sum(len(piece.rows) for piece in full.layers[0].spans if isinstance(piece, Placed)) <= 25 * 256
    engine.evict_agent(ref("one"))
    put(engine, B, Slice("a", 37, 40))
    engine.evict_agent(A)
    engine.evict_agent(ref("one"))
    assert engine.stats().hot_bytes <= 2 * engine._context.model.layout.full.bytes_per_token * 256


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "with one that read the same"])
def test_of_a_span_the_segments_of_the_part_stay_and_no_others(engine: Engine, others: int) -> None:
    """Be the same also in RAM by another's hand, and be it behind a splice of the source's own."""
    for name in ("other", "one")[1 - others :]:
        engine.create_agent(ref(name), share=Share.PRIVATE)
        feed(engine, ref(name), *PROMPT[:700], tokens=None)
    put(engine, ref("one"), Slice("one", 3, 10))
    feed(engine, ref("one"), *PROMPT[:600], tokens=None)
    for agent in (A, B):
        engine.create_agent(agent, share=Share.PRIVATE)
        feed(engine, agent, *PROMPT[9:46], tokens=None)
    put(engine, A, Slice("one", 300, 400))
    put(engine, B, Slice("one", 707 + 300, 707 + 400))
    each = engine._context.model.layout.full.bytes_per_token * 256
    assert [engine.get_agent(agent).ram_bytes for agent in (A, B)] == [2 * each] * 2
    assert seen(engine, A) == restored(engine, A)
    assert seen(engine, B) == restored(engine, B)


def test_budgets_count_what_a_splice_takes(checkpoint: Path, tmp_path: Path) -> None:
    settings = EngineSettings(tmp_path / "small", str(checkpoint))
    engine = Engine.open(settings)
    feed(engine, ref("one"), *PROMPT[:300], tokens=None)
    feed(engine, A, *PROMPT[:37], tokens=None)
    each = engine._context.model.layout.full.bytes_per_token * 256
    filled, turn = engine.stats().disk_bytes, 1
    engine.close()
    parts = [Slice("one", at, at + 3) for at in range(0, 300, 30)]
    for budgets, reason in (
        ({"ram_budget": 10 * each}, Reason.RAM_BUDGET_EXCEEDED),
        ({"disk_budget": filled + 90_000}, Reason.DISK_BUDGET_EXCEEDED),
    ):
        engine = Engine.open(replace(settings, **budgets))  # type: ignore[arg-type]
        try:
            with refused(reason):
                put(engine, A, *parts)
            assert engine.get_agent(A).turn == turn
            put(engine, A, *parts[:1])
            taken = engine.stats()
            assert taken.hot_bytes <= taken.ram_budget_bytes
            assert taken.disk_bytes <= taken.disk_budget_bytes
            engine.rewind_agent(A, turn)
            engine.prune("default", agent="a")
            turn += 3
        finally:
            engine.close()


@pytest.mark.parametrize(
    "how",
    [
        Reposition.REPOSITION,
        *(pytest.param(how, marks=pytest.mark.slow) for how in (Reposition.EXACT, Reposition.BLEND)),
    ],
    ids=lambda how: how.value,
)
def test_thoughts_can_be_spliced(engine: Engine, settings: EngineSettings, how: Reposition) -> None:
    feed(engine, A, *PROMPT[:37], tokens=None)
    think(engine, ref("thinker"), 20, *PROMPT[:250])
    feed(engine, ref("thinker"), *PROMPT[9:60], tokens=None)
    put(engine, A, Slice("thinker", 240, 300), reposition=how)
    feed(engine, A, *PROMPT[5:100], tokens=4)
    view, before = engine.get_agent(A), seen(engine, A)
    assert view.exactness is Exactness.LATENT
    kinds = {Reposition.EXACT: {"LATENT"}}.get(how, {"TEXT", "SPLICE"})
    assert {one.kind for one in view.blocks} == kinds
    assert restored(engine, A) == before
    engine.import_agent([b"".join(engine.export_agent(A))], "default", "b")
    think(engine, A, 3, 7)
    engine.rewind_agent(A, 3)
    engine.close()
    assert rebuild(settings.state_dir).problems == ()
    engine = Engine.open(settings)
    try:
        for agent in (A, B):
            engine.prefetch_agent(agent)
            assert seen(engine, agent) == before
        assert engine.verify().problems == ()
    finally:
        engine.close()


@pytest.mark.slow
def test_a_thought_handed_over_is_the_thinkers(engine: Engine) -> None:
    feed(engine, A, *PROMPT[:37], tokens=None)
    engine.fork_agent(A, "thinker")
    think(engine, ref("thinker"), 9, *PROMPT[:250])
    assert put(engine, A, Slice("thinker", 37)).usage.exactness is Exactness.LATENT
    engine.prefetch_agent(ref("thinker"))
    assert seen(engine, A) == seen(engine, ref("thinker")) == restored(engine, A)


@pytest.mark.slow
def test_thinking_right_behind_a_splice_needs_an_input(spliced: Engine) -> None:
    put(spliced, A, ref("one"))
    with refused(Reason.EMPTY_INPUT):
        think(spliced, A, 3)
    think(spliced, A, 3, 7)
    assert seen(spliced, A) == restored(spliced, A)


def test_a_blend_is_cancelled_between_its_steps(spliced: Engine) -> None:
    before, tickets, submitted, done = seen(spliced, A), [], threading.Event(), threading.Event()
    asked = SpliceInput((Slice("one"), Slice("two")), Reposition.BLEND, ratio=1.0)
    events: list[Event] = []

    def sink(event: Event) -> None:
        events.append(event)
        if isinstance(event, Started) and not event.queue_position:
            submitted.wait(60)
            tickets[0].cancel()
        if isinstance(event, Finished | Failed):
            done.set()

    tickets.append(spliced.submit(request(agent=A, input=asked, tokens=None), sink))
    submitted.set()
    assert done.wait(60)
    assert isinstance(events[-1], Failed)
    assert events[-1].error.reason is Reason.REQUEST_CANCELLED
    assert seen(spliced, A) == before
    assert spliced._context.memory.disk.reading == []


@pytest.mark.slow
@pytest.mark.parametrize("durability", list(Durability), ids=lambda how: how.value)
def test_splices_are_encrypted_and_may_be_written_behind(
    settings: EngineSettings, durability: Durability, state: Path
) -> None:
    settings = replace(settings, encryption_key=bytes(range(32)))
    engine = Engine.open(settings)
    feed(engine, ref("one"), *PROMPT[:300], tokens=None)
    feed(engine, A, *PROMPT[:37], tokens=None)
    put(engine, A, Slice("one", 5), durability=durability)
    put(engine, A, ref("one"), reposition=Reposition.BLEND, ratio=0.1, durability=durability)
    before = seen(engine, A)
    assert not any(b"payload.rows" in file.read_bytes() for file in state.glob("blocks/**/*.safetensors"))
    engine.close()
    engine = Engine.open(settings)
    try:
        engine.prefetch_agent(A)
        assert seen(engine, A) == before
        assert engine.verify().problems == ()
    finally:
        engine.close()


@pytest.mark.slow
def test_another_model_rebuilds_a_spliced_agent_as_text(
    spliced: Engine, settings: EngineSettings, tmp_path: Path
) -> None:
    ids = recorded(spliced)
    spliced.close()
    other = with_other_weights(Path(settings.model or ""), tmp_path / "other", SPEC)
    engine = Engine.open(replace(settings, model=str(other)))
    try:
        with refused(Reason.MODEL_MISMATCH):
            put(engine, A, ref("one"))
        with refused(Reason.MODEL_MISMATCH):  # the part's
            put(engine, A, ref("one"), rebuild=True)
        feed(engine, ref("new"), *PROMPT[:60], tokens=None)
        assert put(engine, A, ref("new"), rebuild=True).usage.exactness is Exactness.REPOSITIONED
        assert recorded(engine) == [*ids, *PROMPT[:60]]
        before = seen(engine, A)
        assert before == restored(engine, A)
        feed(engine, ref("fed"), *ids, tokens=None)
        put(engine, ref("fed"), ref("new"))
        assert seen(engine, ref("fed")) == before
        kinds = [one.kind for one in engine.get_agent(A).blocks]
        assert kinds == ["TEXT"] * (len(kinds) - 1) + ["SPLICE"]
        assert engine.verify().problems == ()
    finally:
        engine.close()

"""The RAM budget where agents think: embeddings are promised before work starts, and counted as they are held."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Event, Failed, Finished, Phase, Slice
from agentmem.errors import AgentmemError, Reason
from agentmem.memory.agent import Agent
from agentmem.memory.embeddings import embedding_bytes
from agentmem.memory.needs import Room
from agentmem.memory.writer import WriterThread
from agentmem.store.blockfile import Block
from agentmem.store.layout import RawTensor
from agentmem.store.records import TurnRecord
from agentmem.types import AgentRef, Reposition, Residency
from tests.engine.runs import PROMPT, A, B, C, feed, refused
from tests.engine.splices import put, ref
from tests.engine.thoughts import held, on_executor, think, thinks

STEPS, LONG = 200, 2 * 256 + 100

Budgeted = Callable[..., Engine]


@pytest.fixture
def budgeted(checkpoint: Path, tmp_path: Path) -> Iterator[Budgeted]:
    """An engine whose RAM holds the state of so many segments, and so many embeddings."""
    engines: list[Engine] = []

    def open_(embeddings: int, segments: int = 2) -> Engine:
        if not engines:
            engines.append(Engine.open(EngineSettings(tmp_path / "probe", str(checkpoint))))
        model = engines[0]._context.model
        size = segments * 256 * model.layout.full.bytes_per_token + embeddings * embedding_bytes(model)
        engines.append(Engine.open(EngineSettings(tmp_path / f"state{len(engines)}", str(checkpoint), ram_budget=size)))
        return engines[-1]

    yield open_
    for engine in engines:
        engine.close()


def real_bytes(engine: Engine) -> int:
    """Of the arrays that RAM holds of agents, each once, with all that is kept for their sake."""
    return on_executor(engine, lambda: held_bytes(engine, ()))


def held_bytes(engine: Engine, on_its_way: Iterable[object]) -> int:
    """The same on the executor thread, with what was handed to the writer thread."""
    arrays, rows = {}, [row for given in on_its_way for row in tensors(given)]
    for agent in engine._context.memory._agents.values():
        if agent.state is not None:
            layers = agent.state.full.layers
            pieces = [p for layer in layers for p in (*layer.spans, layer.tail) if p is not None]
            arrays |= {id(array): array.nbytes for piece in pieces for array in piece.arrays}
        rows += agent.latents.values()
        rows += [row for one in agent.waiting for row in tensors(one.record)]
    for row in rows:
        owner: object = row.data
        while isinstance(owner, np.ndarray) and owner.base is not None:
            owner = owner.base
        arrays[id(owner)] = owner.nbytes if isinstance(owner, np.ndarray) else len(owner)  # type: ignore[arg-type]
    return sum(arrays.values())


def tensors(given: object) -> list[RawTensor]:
    """Of records and blocks, and of lists of them."""
    if isinstance(given, list | tuple):
        return [row for one in given for row in tensors(one)]
    held = list(given.tensors.values()) if isinstance(given, Block) else []
    embeddings = given.embeddings if isinstance(given, Block | TurnRecord) else None
    return held if embeddings is None else [*held, embeddings]


def test_a_thought_that_does_not_fit_is_refused_before_work_starts(budgeted: Budgeted) -> None:
    engine = budgeted(299)
    with pytest.raises(AgentmemError) as caught:
        think(engine, A, 100, 7)
    assert caught.value.reason is Reason.RAM_BUDGET_EXCEEDED
    model = engine._context.model
    state, embeddings = 2 * 256 * model.layout.full.bytes_per_token, 3 * 100  # the agent's, the record's and a block's
    assert int(caught.value.metadata["needed_bytes"]) == state + embeddings * embedding_bytes(model)
    with refused(Reason.AGENT_NOT_FOUND):
        engine.get_agent(A)
    assert engine.stats().prefill_tokens_total == 0
    think(engine, A, 99, 7)
    with refused(Reason.RAM_BUDGET_EXCEEDED):
        think(engine, A, 34)  # 133, 34 of a record, and 133 of a block
    think(engine, A, 33)
    feed(engine, A, 9, tokens=None)
    with refused(Reason.RAM_BUDGET_EXCEEDED):
        think(engine, A, 13)  # 145, 13 and 145
    engine.evict_agent(A)
    engine.prefetch_agent(A)  # nothing is on its way to the disk


@pytest.mark.parametrize(("segments", "embeddings"), [(6, 2 * LONG + 256), (20, 6 * LONG)], ids=["exactly", "amply"])
def test_what_is_on_its_way_to_the_disk_keeps_the_budget(
    budgeted: Budgeted, monkeypatch: pytest.MonkeyPatch, segments: int, embeddings: int
) -> None:
    """Of a thought RAM holds the agent's embeddings, and the record's, and those of blocks: where there is no room for
    more one block at a time. What is counted then is what is held.
    """
    engine = budgeted(embeddings, segments)
    limit, seen = engine.stats().ram_budget_bytes, []
    handed: list[tuple[Future[object], object]] = []
    hand = WriterThread.hand

    def count() -> None:
        on_its_way = [given for future, given in list(handed) if not future.done()]
        seen.append((engine._context.memory._budget.taken, held_bytes(engine, on_its_way)))

    def looked_at(writer: WriterThread, nbytes: int, work: Callable[..., object], *given: object) -> Future[object]:
        def look() -> object:
            on_executor(engine, count)
            return work(*given)

        handed.append((hand(writer, nbytes, look) if nbytes else hand(writer, nbytes, work, *given), given))
        return handed[-1][0]

    monkeypatch.setattr(WriterThread, "hand", looked_at)
    think(engine, A, LONG, 7)
    assert len(seen) == 3  # two blocks, then one with the record
    assert [counted for counted, _ in seen] == [real for _, real in seen]
    assert max(counted for counted, _ in seen) <= limit, (seen, limit)


def test_a_thought_is_refused_what_is_promised_to_another_and_waits_for_it(budgeted: Budgeted) -> None:
    engine = budgeted(3 * STEPS, 4)
    memory = engine._context.memory
    nobody = on_executor(engine, lambda: memory.create(B))
    on_executor(engine, lambda: memory.make_room(nobody, 1, 1))
    events: list[Event] = []
    ended = threading.Event()

    def sink(event: Event) -> None:
        events.append(event)
        if isinstance(event, Finished | Failed):
            ended.set()

    ticket = engine.submit(thinks(STEPS, 7), sink)
    assert not ended.wait(0.5)
    assert ticket._run.phase is Phase.WAITING_FOR_ROOM
    on_executor(engine, lambda: memory.done(B))
    assert ended.wait(60)
    assert isinstance(events[-1], Finished)


def test_what_is_counted_is_what_is_held(engine: Engine, settings: EngineSettings) -> None:
    def check() -> None:
        budget = engine._context.memory._budget
        assert on_executor(engine, lambda: budget.taken) == real_bytes(engine) > 0

    think(engine, A, 20, *PROMPT[:250])
    check()
    think(engine, A, 9)
    engine.fork_agent(A, "b", at_turn=1)
    feed(engine, B, *PROMPT[:9])
    think(engine, B, 5)
    check()
    engine.rewind_agent(B, 2)  # part of what its record has
    check()
    feed(engine, C, *PROMPT[:9], tokens=None)
    put(engine, C, Slice("b", 255), Slice("a", 240, 263))
    check()
    engine.evict_agent(A)
    check()
    for steps in (5, 9):  # the second begins with the first
        think(engine, ref("e"), steps, 7)
        engine.rewind_agent(ref("e"), 0 if steps == 5 else 1)
    held(engine, ref("e"))
    check()
    assert len(engine._context.memory._agents[ref("e")].latents) == 5
    engine.close()
    engine = Engine.open(settings)
    try:
        put(engine, ref("d"), Slice("b", 255), Slice("a", 240, 263))  # these are warm
        check()
        held(engine, B)
        check()
    finally:
        engine.close()


def test_embeddings_of_agents_that_rest_leave_for_others(budgeted: Budgeted) -> None:
    engine = budgeted(350)
    think(engine, A, 100, 7)
    before = held(engine)
    engine.evict_agent(A)
    memory = engine._context.memory
    on_executor(engine, lambda: memory.find(A))
    assert memory._budget.taken == 100 * embedding_bytes(engine._context.model)
    think(engine, B, 100, 8)
    assert engine.get_agent(A).residency is Residency.WARM
    assert memory._budget.taken <= engine.stats().ram_budget_bytes
    assert held(engine) == before
    assert engine.get_agent(B).residency is Residency.WARM


def test_a_prefetch_that_waits_leaves_nothing_in_ram_that_no_agent_reaches(budgeted: Budgeted) -> None:
    """While it waits RAM may forget its agent: what it restores then is the agent that RAM knows."""
    engine = budgeted(3 * STEPS, 12)
    think(engine, A, STEPS, 7)
    before = held(engine)
    engine.evict_agent(A)
    memory, others = engine._context.memory, [ref(name) for name in "bcde"]

    def promise(other: AgentRef, positions: int, latent: int = 0) -> bool:
        """Whether A is in RAM then."""
        memory.make_room(memory.create(other), positions, latent)
        return A in memory._agents

    on_executor(engine, lambda: memory.find(A))
    for other, positions in zip(others, (4 * 256, 256, 1, 1), strict=True):  # state of 14 segments
        assert on_executor(engine, partial(promise, other, positions))
    prefetch = threading.Thread(target=engine.prefetch_agent, args=(A,))
    prefetch.start()
    try:
        while not on_executor(engine, lambda: [one for one in engine._executor._active if isinstance(one.need, Room)]):
            assert prefetch.is_alive()
        assert not on_executor(engine, partial(promise, others[-1], 1, 90))
    finally:
        on_executor(engine, lambda: [memory.done(other) for other in others])
        prefetch.join(60)
    assert not prefetch.is_alive()
    assert engine.get_agent(A).residency is Residency.HOT
    assert held(engine) == before
    engine.evict_agent(A)
    assert on_executor(engine, lambda: memory._budget.taken) == real_bytes(engine) == 0


def test_what_is_shown_is_what_the_budget_counts(engine: Engine) -> None:
    think(engine, A, 20, *PROMPT[:250])
    feed(engine, B, *PROMPT[:9], tokens=None)
    memory, embeddings = engine._context.memory, 20 * embedding_bytes(engine._context.model)
    shown = engine.stats().hot_bytes
    assert shown == on_executor(engine, lambda: memory._budget.taken) == real_bytes(engine)
    assert shown == engine.get_agent(A).ram_bytes + engine.get_agent(B).ram_bytes
    planned = engine.get_agent(A).ram_bytes
    assert engine.evict_agent(A).ram_bytes == planned
    assert engine.stats().hot_bytes == shown - planned
    on_executor(engine, lambda: memory.find(A))
    known = engine.get_agent(A)
    assert (known.residency, known.ram_bytes) == (Residency.WARM, embeddings)
    assert (engine.stats().hot_agents, engine.stats().hot_bytes) == (1, shown - planned + embeddings)
    assert engine.evict_agent(A).ram_bytes == embeddings


@pytest.mark.parametrize("fits", [False, True])
@pytest.mark.parametrize("how", [Reposition.REPOSITION, Reposition.EXACT], ids=lambda how: how.value)
def test_a_splice_keeps_the_embeddings_of_whom_it_takes_them_from(
    budgeted: Budgeted, monkeypatch: pytest.MonkeyPatch, how: Reposition, fits: bool
) -> None:
    """They are not read anew once RAM has room for what the splice takes itself, and may leave when it is done."""
    engine = budgeted((4 if fits else 3) * STEPS, 7 if how is Reposition.REPOSITION else 3)
    memory = engine._context.memory
    think(engine, A, STEPS, 7)
    engine.evict_agent(A)
    feed(engine, C, 9, tokens=None)
    promised = []
    load = memory._lookup._load

    def loaded(agent: Agent) -> None:
        promised.append(memory.promised(C))
        load(agent)

    monkeypatch.setattr(memory._lookup, "_load", loaded)
    with nullcontext() if fits else refused(Reason.RAM_BUDGET_EXCEEDED):
        put(engine, C, Slice("a", 0, STEPS + 1), reposition=how)
    assert promised
    assert not any(promised)
    assert A in memory._agents
    engine.evict_agent(A)
    assert A not in memory._agents

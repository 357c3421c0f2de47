"""The RAM budget where agents think: embeddings are promised before work starts, and counted as they are held."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Event, Failed, Finished, Phase, Slice
from agentmem.errors import AgentmemError, Reason
from agentmem.memory.agent import Agent
from agentmem.memory.embeddings import embedding_bytes
from agentmem.types import Reposition, Residency
from tests.engine.runs import PROMPT, A, B, C, feed, refused
from tests.engine.splices import put, ref
from tests.engine.thoughts import held, on_executor, think, thinks

STEPS = 200

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
    memory = engine._context.memory

    def count() -> int:
        state, rows = {}, {}
        for agent in memory._agents.values():
            if agent.state is not None:
                pieces = [piece for layer in agent.state.full.layers for _, piece in layer.pieces()]
                state |= {id(array): array.nbytes for piece in pieces for array in piece.arrays}
            for row in agent.latents.values():
                owner: object = row.data
                while isinstance(owner, np.ndarray) and owner.base is not None:
                    owner = owner.base
                rows[id(owner)] = owner.nbytes if isinstance(owner, np.ndarray) else len(owner)  # type: ignore[arg-type]
        return sum(state.values()) + sum(rows.values())

    return on_executor(engine, count)


def test_a_thought_that_does_not_fit_is_refused_before_work_starts(budgeted: Budgeted) -> None:
    engine = budgeted(STEPS - 1)
    with pytest.raises(AgentmemError) as caught:
        think(engine, A, STEPS, 7)
    assert caught.value.reason is Reason.RAM_BUDGET_EXCEEDED
    model = engine._context.model
    state = 2 * 256 * model.layout.full.bytes_per_token
    assert int(caught.value.metadata["needed_bytes"]) == state + STEPS * embedding_bytes(model)
    with refused(Reason.AGENT_NOT_FOUND):
        engine.get_agent(A)
    assert engine.stats().prefill_tokens_total == 0
    think(engine, A, STEPS - 1, 7)
    assert engine._context.memory._budget.taken <= engine.stats().ram_budget_bytes
    with refused(Reason.RAM_BUDGET_EXCEEDED):
        think(engine, A, 1, 7)


def test_a_thought_is_refused_what_is_promised_to_another_and_waits_for_it(budgeted: Budgeted) -> None:
    engine = budgeted(STEPS, 4)
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
    engine = budgeted(150)
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


@pytest.mark.parametrize("fits", [False, True])
@pytest.mark.parametrize("how", [Reposition.REPOSITION, Reposition.EXACT], ids=lambda how: how.value)
def test_a_splice_keeps_the_embeddings_of_whom_it_takes_them_from(
    budgeted: Budgeted, monkeypatch: pytest.MonkeyPatch, how: Reposition, fits: bool
) -> None:
    """They are not read anew once RAM has room for what the splice takes itself, and may leave when it is done."""
    engine = budgeted(2 * STEPS if fits else 140, 7 if how is Reposition.REPOSITION else 3)
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

"""Events of real work: state that leaves RAM, blocks that are damaged or lost; and what noting them costs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Request, TokenInput
from agentmem.errors import AgentmemError
from agentmem.store.rows import Event
from agentmem.types import AgentRef
from tests.engine.runs import finished, run
from tests.store.samples import files_below

A, B = AgentRef("default", "a"), AgentRef("default", "b")
IDS = tuple(5 + i % 400 for i in range(700))


def events_of(engine: Engine, ref: AgentRef) -> list[Event]:
    return engine.list_events(ref.namespace, ref.name, 0)


def feed(engine: Engine, ref: AgentRef, *ids: int) -> None:
    assert finished(run(engine, Request(ref, TokenInput(ids), create=True))).durable


def test_state_that_leaves_ram_costs_no_transaction_of_its_own(checkpoint: Path, tmp_path: Path) -> None:
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint)))
    budget = 7 * 128 * engine.model_info().bytes_per_token
    engine.close()
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint), ram_budget=budget))
    try:
        assert engine.stats().ram_budget_bytes == budget
        feed(engine, A, *IDS[:250])
        catalog = engine._context.store._core.catalog
        transactions, ride = [], catalog.rider

        def counted(db: sqlite3.Connection) -> Callable[[], None]:
            transactions.append(db)
            return ride(db)

        catalog.rider = counted
        feed(engine, B, *IDS[:20])
        without, transactions[:] = len(transactions), []
        feed(engine, AgentRef("default", "c"), *IDS[300:500])
        assert len(transactions) == without
        (left,) = events_of(engine, A)
        assert (left.kind, left.agent) == ("RAM_EVICTED", A)
        assert left.nbytes > 0
        with pytest.raises(AgentmemError):
            feed(engine, B, *IDS * 2)
        assert [event.kind for event in events_of(engine, B)][-1] == "RAM_REFUSED"
    finally:
        engine.close()


def test_damage_that_was_mended_is_told_with_its_positions(checkpoint: Path, tmp_path: Path) -> None:
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint)))
    try:
        feed(engine, A, *IDS)
        files = {path.stem: path for path in files_below(tmp_path / "state" / "blocks", "")}
        first, second, last = (files[block.key] for block in engine.get_agent(A).blocks)
        engine.evict_agent(A)
        for path in (first, second):
            path.write_bytes(bytes(path.stat().st_size))
        last.unlink()
        feed(engine, A, 7)
        told = [(event.kind, event.reason, event.start, event.end) for event in events_of(engine, A)]
        assert told == [
            ("BLOCK_QUARANTINED", "BLOCK_CORRUPT", 0, 512),
            ("BLOCK_RECOMPUTED", "BLOCK_CORRUPT", 0, 512),
            ("BLOCK_RECOMPUTED", "BLOCK_MISSING", 512, 700),
        ]
    finally:
        engine.close()

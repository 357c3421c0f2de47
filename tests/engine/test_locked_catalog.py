"""Another process has the catalog open: turns wait a little, then go on in RAM, and nothing is lost."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Request, Sampling, TokenInput
from agentmem.errors import AgentmemError, Reason
from agentmem.store.catalog import schema
from agentmem.types import AgentRef
from tests.engine.runs import finished, run

A, B = AgentRef("default", "a"), AgentRef("default", "b")
WAIT_S = 0.3


@pytest.fixture
def settings(checkpoint: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> EngineSettings:
    assert schema.LOCK_WAIT_S == 5.0
    monkeypatch.setattr(schema, "LOCK_WAIT_S", WAIT_S)
    return EngineSettings(state, str(checkpoint))


def durable(engine: Engine, ref: AgentRef, *ids: int) -> bool:
    return finished(run(engine, Request(ref, TokenInput(ids), Sampling(max_tokens=3), create=True))).durable


def other(settings: EngineSettings) -> sqlite3.Connection:
    return sqlite3.connect(settings.state_dir / "catalog.sqlite", isolation_level=None)


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_writer_is_waited_for_and_then_done_without(engine: Engine, settings: EngineSettings, how: str) -> None:
    assert durable(engine, A, 5, 6)
    with closing(other(settings)) as db:
        db.execute(f"BEGIN {how}")
        began = time.monotonic()
        assert not durable(engine, A, 7)
        assert time.monotonic() - began >= WAIT_S
        with pytest.raises(AgentmemError) as caught:
            engine.create_agent(B)
        assert caught.value.reason is Reason.STORE_UNWRITABLE
        assert "locked by another process" in caught.value.message
        assert [view.ref for view in engine.list_agents("default")] == [A]  # looking goes on
        assert [turn.number for turn in engine.list_turns(A)] == [1]
        db.execute("ROLLBACK")
        assert durable(engine, A, 8)
    assert [turn.number for turn in engine.list_turns(A)] == [1, 2, 3]
    assert engine.verify().problems == ()
    assert engine.prune("default", dry_run=True) == []


def test_a_lock_that_is_soon_gone_delays_a_turn(engine: Engine, settings: EngineSettings) -> None:
    assert durable(engine, A, 5, 6)
    locked = threading.Event()

    def hold() -> None:
        with closing(other(settings)) as db:
            db.execute("BEGIN IMMEDIATE")
            locked.set()
            time.sleep(WAIT_S / 3)

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(5)
    assert durable(engine, A, 7)
    thread.join()


def test_a_reader_disturbs_nothing_but_forgetting(engine: Engine, settings: EngineSettings) -> None:
    assert durable(engine, A, 5, 6)
    with closing(other(settings)) as db:
        db.execute("BEGIN")
        assert db.execute("SELECT count(*) FROM agents").fetchone() == (1,)
        assert durable(engine, A, 7)
        assert durable(engine, B, 7)
        assert db.execute("SELECT count(*) FROM agents").fetchone() == (1,), "it reads what was there"
        with pytest.raises(AgentmemError) as caught:
            engine.delete_agent(B, request_id="once")
        assert caught.value.reason is Reason.STORE_UNWRITABLE
        assert "while another process reads it" in caught.value.message
    assert engine.delete_agent(B, request_id="once") > 0
    assert [view.ref for view in engine.list_agents("default")] == [A]


def test_a_locked_catalog_is_not_opened(settings: EngineSettings) -> None:
    first = Engine.open(settings)
    assert durable(first, A, 5, 6)
    first.close()
    with closing(other(settings)) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(AgentmemError) as caught:
            Engine.open(settings)
        assert caught.value.reason is Reason.STORE_UNWRITABLE
        assert "locked by another process" in caught.value.message
    again = Engine.open(settings)
    assert again.get_agent(A).turn == 1
    again.close()

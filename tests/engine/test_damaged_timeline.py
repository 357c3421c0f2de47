"""A catalog that names the wrong block for an agent: refused, and whose block it is keeps it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Request, TokenInput
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef
from tests.engine.runs import finished, run
from tests.helpers.checkpoints import Spec, write

A, B = AgentRef("default", "a"), AgentRef("default", "b")


@pytest.mark.parametrize("key", ["SELECT key FROM timeline WHERE agent<>?1", "SELECT x'00'"], ids=["other", "nothing"])
def test_another_block_is_not_served_nor_set_aside(tmp_path: Path, key: str) -> None:
    settings = EngineSettings(tmp_path / "state", str(write(tmp_path / "ck", Spec(layers=1))))
    engine = Engine.open(settings)
    for ref, first in ((A, 5), (B, 105)):
        run(engine, Request(ref, TokenInput(tuple(range(first, first + 100))), None, create=True))
    agent = engine.get_agent(A).id
    engine.close()
    with closing(sqlite3.connect(settings.state_dir / "catalog.sqlite")) as db:
        db.execute(f"UPDATE timeline SET key=({key}) WHERE agent=?1", (agent,))
        db.commit()
    engine = Engine.open(settings)
    try:
        for _ in range(2):
            with pytest.raises(AgentmemError) as caught:
                run(engine, Request(A, TokenInput((5,)), None))
            assert caught.value.reason is Reason.STORE_UNREADABLE
        assert finished(run(engine, Request(B, TokenInput((5,)), None))).usage.recomputed_tokens == 0
        assert not list((settings.state_dir / "quarantine").iterdir())
    finally:
        engine.close()


def test_a_record_that_is_damaged_keeps_no_state_in_ram_for_ever(tmp_path: Path) -> None:
    settings = EngineSettings(tmp_path / "state", str(write(tmp_path / "ck", Spec(layers=1))))
    engine = Engine.open(settings)
    try:
        for _ in range(2):
            run(engine, Request(A, TokenInput(tuple(range(5, 105))), None, create=True))
        first = settings.state_dir / "turns" / engine.get_agent(A).id / "00000001.json"
        first.write_bytes(first.read_bytes()[:-1])
        with pytest.raises(AgentmemError) as caught:
            engine.prune("default", agent="a")
        assert caught.value.reason is Reason.BLOCK_UNRECOVERABLE
        assert engine.stats().hot_bytes == 0, "nobody would ever evict it"
    finally:
        engine.close()

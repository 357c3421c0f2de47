"""The state folder is deleted, moved or replaced under an engine: nothing is called durable that is not there."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Request, Sampling, TokenInput
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef, Residency
from tests.engine.runs import finished, run, said

HOT, WARM, COLD = (AgentRef("default", name) for name in ("hot", "warm", "cold"))
PROMPT = tuple(range(5, 305))


@pytest.fixture
def engine(checkpoint: Path, state: Path) -> Iterator[Engine]:
    """One agent in RAM and on disk, one on disk only."""
    engine = Engine.open(EngineSettings(state, str(checkpoint)))
    for ref in (HOT, WARM):
        ask(engine, ref, *PROMPT, ref.name == "hot")
    engine.evict_agent(WARM)
    yield engine
    engine.close()


def ask(engine: Engine, ref: AgentRef, *ids: int) -> tuple[list[int], bool, list[str]]:
    events = run(engine, Request(ref, TokenInput(ids), Sampling(max_tokens=5), create=True))
    done = finished(events)
    return said(events), done.durable, [warning.reason for warning in done.warnings]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_deleted_folder(engine: Engine, checkpoint: Path, state: Path, tmp_path: Path, replaced: bool) -> None:
    shutil.copytree(state, tmp_path / "copy")
    elsewhere = Engine.open(EngineSettings(tmp_path / "copy", str(checkpoint)))
    shutil.rmtree(state)
    if replaced:  # by something that looks the same
        shutil.copytree(tmp_path / "copy", state)
        before = sorted(state.rglob("*"))
    reply = ask(engine, HOT, 3)
    assert reply == (ask(elsewhere, HOT, 3)[0], False, ["NOT_DURABLE"])
    assert ask(engine, HOT, 4)[:2] == (ask(elsewhere, HOT, 4)[0], False)
    elsewhere.close()
    changes: list[Callable[[], object]] = [
        lambda: ask(engine, COLD, 3),
        lambda: engine.create_namespace("new"),
        lambda: engine.fork_agent(HOT, "fork"),
        lambda: engine.rewind_agent(HOT, 0),
        lambda: engine.evict_agent(HOT),
        lambda: engine.delete_agent(HOT),
        lambda: engine.delete_namespace("default", force=True),
        lambda: engine.update_agent(HOT, pinned=True),
        lambda: engine.evict_agent(WARM, Residency.COLD),
        lambda: engine.prune("default"),
        lambda: engine.prune("default", older_than_s=0),
        lambda: engine.import_agent([b""], "default"),
    ]
    for change in changes[: -1 if replaced else None]:
        with pytest.raises(AgentmemError) as caught:
            change()
        assert caught.value.reason is Reason.STORE_UNWRITABLE
    assert "deleted or moved" in refusal(engine)
    assert [view.ref.name for view in engine.list_agents("default")] == ["hot", "warm"]
    if replaced:
        assert sorted(state.rglob("*")) == before
    else:
        assert ask(engine, WARM, 3)[1:] == (False, ["BLOCK_MISSING", "NOT_DURABLE"])  # its ids are still known
        assert not state.exists()


def refusal(engine: Engine) -> str:
    with pytest.raises(AgentmemError) as caught:
        engine.create_agent(COLD)
    return caught.value.message


def test_a_folder_that_is_put_back(engine: Engine, checkpoint: Path, state: Path) -> None:
    state.rename(state.with_name("away"))
    replies = [ask(engine, HOT, 3), ask(engine, HOT, 4)]
    assert [durable for _, durable, _ in replies] == [False, False]
    state.with_name("away").rename(state)
    assert ask(engine, HOT, 5)[1:] == (True, [])
    assert ask(engine, WARM, 5)[1:] == (True, [])
    engine.close()
    again = Engine.open(EngineSettings(state, str(checkpoint)))
    assert [turn.number for turn in again.list_turns(HOT)] == [1, 2, 3, 4]
    again.close()


def test_closing_without_a_folder_says_whose_turns_are_lost(
    engine: Engine, checkpoint: Path, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(state)
    ask(engine, HOT, 3)
    engine.close()
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["1 turns of agent 'hot' are lost: they could not be saved"]
    assert not state.exists()
    Engine.open(EngineSettings(state, str(checkpoint))).close()


def test_a_folder_that_goes_while_a_turn_is_saved(engine: Engine, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the files and the catalog."""
    store = engine._context.store
    real = store._core.turns.write

    def write(*args: object) -> int:
        written = real(*args)  # type: ignore[arg-type]
        shutil.rmtree(state)
        return written

    monkeypatch.setattr(store._core.turns, "write", write)
    assert ask(engine, HOT, 3)[1:] == (False, ["NOT_DURABLE"])

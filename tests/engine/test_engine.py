"""The engine as a library, in this process, on a tiny checkpoint: what must hold when things go wrong inside."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Delta, Event, Failed, Finished, Request, Sampling, Started, TokenInput
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef, FinishReason
from tests.helpers.checkpoints import Spec, with_other_weights, write

SPEC = Spec(layers=1)
A = AgentRef("default", "a")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ck"), SPEC)


@pytest.fixture
def engine(checkpoint: Path, tmp_path: Path) -> Iterator[Engine]:
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint)))
    yield engine
    engine.close()


def _request(*ids: int, tokens: int | None = 4, **changes: object) -> Request:
    sampling = None if tokens is None else Sampling(max_tokens=tokens)
    return replace(Request(A, TokenInput(ids), sampling, create=True), **changes)  # type: ignore[arg-type]


def _events(engine: Engine, request: Request) -> list[Event]:
    events, done = [], threading.Event()

    def sink(event: Event) -> None:
        events.append(event)
        if isinstance(event, Finished | Failed):
            done.set()

    engine.submit(request, sink)
    assert done.wait(30)
    return events


def _said(events: list[Event]) -> list[int]:
    assert isinstance(events[-1], Finished), events[-1]
    return [t for e in events if isinstance(e, Delta) for t in e.token_ids]


def test_first_event_is_started_and_last_is_finished(engine: Engine) -> None:
    events = _events(engine, _request(5, 6))
    assert isinstance(events[0], Started)
    assert [type(e) for e in events[1:]] == [Delta] * 4 + [Finished]


def test_a_forgotten_agents_request_id_is_forgotten_too(engine: Engine) -> None:
    _events(engine, _request(5, 6, request_id="r"))
    engine.delete_agent(A)
    first = _said(_events(engine, _request(9, 9, 9, tokens=2, request_id="other")))
    again = _events(engine, _request(5, 6, request_id="r"))
    assert isinstance(again[-1], Finished)
    assert not again[-1].repeated_result
    assert len(_said(again)) == 4 != len(first)


def test_a_sink_that_fails_hurts_nobody(engine: Engine) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("no")

    engine.submit(_request(5, tokens=50), broken)
    assert _said(_events(engine, _request(7, agent=AgentRef("default", "b"))))


def test_a_commit_that_fails_leaves_the_agent_as_the_disk_has_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [_said(_events(engine, _request(*ids))) for ids in ((5, 6), (7, 8))]
    engine.delete_agent(A)
    assert _said(_events(engine, _request(5, 6))) == wanted[0]

    def damaged(*_: object) -> int:
        raise AgentmemError(Reason.STORE_UNREADABLE, "The catalog is damaged.")

    with monkeypatch.context() as patch:
        patch.setattr(engine._context.store, "commit", damaged)
        failed = _events(engine, _request(9, 9))[-1]
        assert isinstance(failed, Failed)
        assert failed.error.reason is Reason.STORE_UNREADABLE
    assert engine.get_agent(A).turn == 1
    assert _said(_events(engine, _request(7, 8))) == wanted[1]


def test_a_commit_that_happened_though_it_reports_an_error(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = engine._context.store.commit

    def happens_and_fails(*args: object) -> int:
        real(*args)  # type: ignore[arg-type]
        raise AgentmemError(Reason.STORE_UNWRITABLE, "The disk said no, too late.")

    with monkeypatch.context() as patch:
        patch.setattr(engine._context.store, "commit", happens_and_fails)
        first = _events(engine, _request(5, 6))[-1]
        assert isinstance(first, Finished)
        assert (first.turn, first.durable) == (1, True)
    finished = _events(engine, _request(7, 8))[-1]
    assert isinstance(finished, Finished)
    assert finished.turn == 2


def test_an_unexpected_error_is_internal_and_the_agent_goes_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [_said(_events(engine, _request(*ids))) for ids in ((5, 6), (7, 8))]
    engine.delete_agent(A)
    assert _said(_events(engine, _request(5, 6))) == wanted[0]
    with monkeypatch.context() as patch:
        patch.setattr("agentmem.engine.reply.sample", lambda *_: 1 // 0)
        failed = _events(engine, _request(9, 9))[-1]
        assert isinstance(failed, Failed)
        assert failed.error.reason is Reason.INTERNAL
    assert _said(_events(engine, _request(7, 8))) == wanted[1]


def test_a_rebuild_that_is_cancelled_commits_nothing(checkpoint: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    engine = Engine.open(EngineSettings(state, str(checkpoint)))
    _events(engine, _request(*range(5, 405), tokens=None))
    engine.close()
    other = with_other_weights(checkpoint, tmp_path / "other", SPEC)
    engine = Engine.open(EngineSettings(state, str(other)))
    try:
        done, last = threading.Event(), []

        def sink(event: Event) -> None:
            if isinstance(event, Finished | Failed):
                last.append(event)
                done.set()

        engine.submit(_request(*range(5, 405), tokens=3000, rebuild=True, expect_turn=1), sink).cancel()
        assert done.wait(30)
        turns = [t.kind.value for t in engine.list_turns(A)]
        assert isinstance(last[0], Failed)
        assert last[0].error.reason is Reason.REQUEST_CANCELLED
        assert turns == ["APPEND"]
        repeat = _events(engine, _request(3, rebuild=True, expect_turn=1))
        assert isinstance(repeat[-1], Finished)
    finally:
        engine.close()


def test_shutdown_before_the_first_token_says_so(engine: Engine) -> None:
    last = []
    engine.submit(_request(*[7] * 4000, tokens=5), lambda e: last.append(e))
    waiting: list[Event] = []
    engine.submit(_request(8), waiting.append)
    engine.close(deadline_s=0.0)
    assert isinstance(waiting[-1], Failed)
    assert waiting[-1].error.reason is Reason.SHUTTING_DOWN
    if isinstance(last[-1], Failed):
        assert last[-1].error.reason is Reason.SHUTTING_DOWN
    else:
        assert last[-1].finish_reason in (FinishReason.DEADLINE, FinishReason.LENGTH)


def test_stats_may_be_asked_for_while_requests_come_and_go(engine: Engine) -> None:
    stop, faults = threading.Event(), []

    def watch() -> None:
        while not stop.is_set():
            try:
                engine.stats()
            except Exception as error:
                faults.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    done = threading.Semaphore(0)

    def sink(event: Event) -> None:
        if isinstance(event, Finished | Failed):
            done.release()

    for n in range(60):
        engine.submit(_request(5, tokens=1, agent=AgentRef("default", f"n{n % 20}")), sink)
    for _ in range(60):
        assert done.acquire(timeout=30)
    stop.set()
    watcher.join()
    assert not faults

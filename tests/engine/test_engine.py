"""The engine as a library, in this process, on a tiny checkpoint: what must hold when things go wrong inside."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import (
    ChatInput,
    Delta,
    Event,
    Failed,
    Finished,
    OnCancel,
    Sampling,
    Started,
    TextInput,
)
from agentmem.errors import AgentmemError, Reason
from agentmem.model import forward
from agentmem.types import AgentRef, FinishReason, Message
from tests.engine.runs import SPEC, A, attempt, cut_short, finished, recorded, request, said
from tests.helpers.checkpoints import with_other_weights, write


def test_first_event_is_started_and_last_is_finished(engine: Engine) -> None:
    events = attempt(engine, request(5, 6))
    assert isinstance(events[0], Started)
    assert [type(e) for e in events[1:]] == [Delta] * 4 + [Finished]


def test_a_forgotten_agents_request_id_is_forgotten_too(engine: Engine) -> None:
    attempt(engine, request(5, 6, request_id="r"))
    engine.delete_agent(A)
    first = said(attempt(engine, request(9, 9, 9, tokens=2, request_id="other")))
    again = attempt(engine, request(5, 6, request_id="r"))
    assert isinstance(again[-1], Finished)
    assert not again[-1].repeated_result
    assert len(said(again)) == 4 != len(first)


def test_a_sink_that_fails_hurts_nobody(engine: Engine) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("no")

    engine.submit(request(5, tokens=50), broken)
    assert said(attempt(engine, request(7, agent=AgentRef("default", "b"))))


def test_a_commit_that_fails_leaves_the_agent_as_the_disk_has_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [said(attempt(engine, request(*ids))) for ids in ((5, 6), (7, 8))]
    engine.delete_agent(A)
    assert said(attempt(engine, request(5, 6))) == wanted[0]

    def damaged(*_: object) -> int:
        raise AgentmemError(Reason.STORE_UNREADABLE, "The catalog is damaged.")

    with monkeypatch.context() as patch:
        patch.setattr(engine._context.store, "commit", damaged)
        failed = attempt(engine, request(9, 9))[-1]
        assert isinstance(failed, Failed)
        assert failed.error.reason is Reason.STORE_UNREADABLE
    assert engine.get_agent(A).turn == 1
    assert said(attempt(engine, request(7, 8))) == wanted[1]


def test_a_commit_that_happened_though_it_reports_an_error(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = engine._context.store.commit

    def happens_and_fails(*args: object) -> int:
        real(*args)  # type: ignore[arg-type]
        raise AgentmemError(Reason.STORE_UNWRITABLE, "The disk said no, too late.")

    with monkeypatch.context() as patch:
        patch.setattr(engine._context.store, "commit", happens_and_fails)
        first = attempt(engine, request(5, 6))[-1]
        assert isinstance(first, Finished)
        assert (first.turn, first.durable) == (1, True)
    finished = attempt(engine, request(7, 8))[-1]
    assert isinstance(finished, Finished)
    assert finished.turn == 2


def test_an_unexpected_error_is_internal_and_the_agent_goes_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [said(attempt(engine, request(*ids))) for ids in ((5, 6), (7, 8))]
    engine.delete_agent(A)
    assert said(attempt(engine, request(5, 6))) == wanted[0]
    with monkeypatch.context() as patch:
        patch.setattr("agentmem.engine.sampling.sample", lambda *_, **__: 1 // 0)
        failed = attempt(engine, request(9, 9))[-1]
        assert isinstance(failed, Failed)
        assert failed.error.reason is Reason.INTERNAL
    assert said(attempt(engine, request(7, 8))) == wanted[1]


def test_a_rebuild_that_is_cancelled_commits_nothing(checkpoint: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    engine = Engine.open(EngineSettings(state, str(checkpoint)))
    attempt(engine, request(*range(5, 405), tokens=None))
    engine.close()
    other = with_other_weights(checkpoint, tmp_path / "other", SPEC)
    engine = Engine.open(EngineSettings(state, str(other)))
    try:
        done, last = threading.Event(), []

        def sink(event: Event) -> None:
            if isinstance(event, Finished | Failed):
                last.append(event)
                done.set()

        engine.submit(request(*range(5, 405), tokens=3000, rebuild=True, expect_turn=1), sink).cancel()
        assert done.wait(30)
        turns = [t.kind.value for t in engine.list_turns(A)]
        assert isinstance(last[0], Failed)
        assert last[0].error.reason is Reason.REQUEST_CANCELLED
        assert turns == ["APPEND"]
        repeat = attempt(engine, request(3, rebuild=True, expect_turn=1))
        assert isinstance(repeat[-1], Finished)
    finally:
        engine.close()


def test_shutdown_before_the_first_token_says_so(engine: Engine) -> None:
    last = []
    engine.submit(request(*[7] * 4000, tokens=5), lambda e: last.append(e))
    waiting: list[Event] = []
    engine.submit(request(8), waiting.append)
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
        engine.submit(request(5, tokens=1, agent=AgentRef("default", f"n{n % 20}")), sink)
    for _ in range(60):
        assert done.acquire(timeout=30)
    stop.set()
    watcher.join()
    assert not faults


@pytest.mark.parametrize("ending", ["LENGTH", "STOP", "STOP_SEQUENCE", "CANCELLED"])
def test_however_a_reply_ends_all_of_it_is_recorded(ending: str, checkpoint: Path, tmp_path: Path) -> None:
    """Every token sent was fed and is in the record, the one that ended the reply included."""
    given = list(range(5, 45))
    engine = Engine.open(EngineSettings(tmp_path / "free", str(checkpoint)))
    free = said(attempt(engine, request(*given, tokens=12)))
    text = engine.list_turns(A)[0].messages[-1].message.text
    engine.close()
    last = next(n for n in range(3, 12) if free[n] not in free[:n])
    model = checkpoint
    if ending == "STOP":
        model = shutil.copytree(checkpoint, tmp_path / "model")
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "eos_token_id": free[last]}))
    sampling = Sampling(max_tokens=12, stop=(text[len(text) // 2 :][:3],) if ending == "STOP_SEQUENCE" else ())
    asked = replace(request(*given), sampling=sampling)

    engine = Engine.open(EngineSettings(tmp_path / "state", str(model)))
    try:
        events = cut_short(engine, asked, 3) if ending == "CANCELLED" else attempt(engine, asked)
        finished, sent = events[-1], said(events)
        assert isinstance(finished, Finished)
        assert finished.finish_reason is FinishReason(ending)
        assert sent == free[: len(sent)]
        assert len(sent) < 12 or ending == "LENGTH"
        assert recorded(engine) == given + sent
        (turn,) = engine.list_turns(A)
        assert (turn.end, turn.messages[-1].start, turn.messages[-1].end) == (40 + len(sent), 40, 40 + len(sent))
        assert finished.usage.generated_tokens == len(sent)
        again = said(attempt(engine, request(9)))
        cold = said(attempt(engine, request(*given, *sent, 9, agent=AgentRef("default", "cold"))))
        assert again == cold
    finally:
        engine.close()


def test_a_cancelled_reply_ends_within_one_step(engine: Engine) -> None:
    for on_cancel in OnCancel:
        events = cut_short(engine, request(5, 6, tokens=200, on_cancel=on_cancel), 3)
        assert 3 <= sum(isinstance(e, Delta) for e in events) <= 4


def test_a_cancelled_turn_is_committed_unless_it_is_to_be_discarded(engine: Engine) -> None:
    attempt(engine, request(5, 6, tokens=None))
    discarded = cut_short(engine, request(7, tokens=200, on_cancel=OnCancel.DISCARD), 3)[-1]
    assert isinstance(discarded, Failed)
    assert discarded.error.reason is Reason.REQUEST_CANCELLED
    assert (engine.get_agent(A).turn, recorded(engine)) == (1, [5, 6])
    events = cut_short(engine, request(7, tokens=200, on_cancel=OnCancel.COMMIT), 3)
    assert recorded(engine) == [5, 6, 7, *said(events)]
    assert isinstance(events[-1], Finished)
    assert events[-1].finish_reason is FinishReason.CANCELLED


def test_a_repeated_request_is_answered_from_the_record(engine: Engine) -> None:
    first = attempt(engine, request(5, 6, request_id="r"))
    passed = engine.stats().prefill_tokens_total
    again = attempt(engine, request(5, 6, request_id="r"))
    assert said(again) == said(first)
    assert isinstance(again[-1], Finished)
    assert isinstance(first[-1], Finished)
    assert (again[-1].repeated_result, again[-1].turn) == (True, 1)
    assert replace(again[-1].usage, bytes_written=0) == replace(first[-1].usage, bytes_written=0)
    assert engine.get_agent(A).turn == 1
    assert engine.stats().prefill_tokens_total == passed


def test_a_turn_is_on_disk_when_it_is_said_to_be(engine: Engine) -> None:
    on_disk = []

    def sink(event: Event) -> None:
        if isinstance(event, Finished):
            row = engine._context.store.agent("default", "a")
            on_disk.append((event.durable, event.turn, row and row.turn))
            done.set()

    done = threading.Event()
    engine.submit(request(5, 6), sink)
    assert done.wait(30)
    assert on_disk == [(True, 1, 1)]


def test_a_reply_that_was_cut_short_is_closed_after_a_restart_too(checkpoint: Path, tmp_path: Path) -> None:
    """Whether the assistant's last message is closed yet is remembered: the template closes it before the next one."""

    def ask(engine: Engine, text: str) -> None:
        given = ChatInput((Message("user", (text,)),))
        assert said(attempt(engine, request(input=given, tokens=3)))

    ids = []
    for restarts in (False, True):
        settings = EngineSettings(tmp_path / f"state-{restarts}", str(checkpoint))
        engine = Engine.open(settings)
        ask(engine, "the quick fox")
        if restarts:
            engine.close()
            engine = Engine.open(settings)
        ask(engine, "jumps")
        ids.append(recorded(engine))
        engine.close()
    assert ids[0] == ids[1]


def test_a_cancelled_prefill_ends_within_one_step(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    passes, begun, go = [], threading.Event(), threading.Event()
    real = forward._network

    def network(model: object, tokens: mx.array, states: object) -> object:
        passes.append(tokens.size)
        begun.set()
        go.wait(30)
        return real(model, tokens, states)  # type: ignore[arg-type]

    monkeypatch.setattr(forward, "_network", network)
    last, done = [], threading.Event()

    def sink(event: Event) -> None:
        last.append(event)
        if isinstance(event, Finished | Failed):
            done.set()

    ticket = engine.submit(request(*[7] * 3000), sink)
    assert begun.wait(30)
    ticket.cancel()
    go.set()
    assert done.wait(30)
    assert isinstance(last[-1], Failed)
    assert last[-1].error.reason is Reason.REQUEST_CANCELLED
    assert len(passes) <= 2


@pytest.mark.reference
def test_raw_text_gets_its_leading_token_once(checkpoint: Path, tmp_path: Path) -> None:
    """Also after a restart, when the timeline is not empty but not in RAM."""
    for _ in range(3):
        engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint)))
        assert isinstance(attempt(engine, request(input=TextInput("the quick fox "), tokens=None))[-1], Finished)
        ids = recorded(engine)
        engine.close()
    assert ids[0] == 0
    assert ids.count(0) == 1


def test_usage_says_what_was_remembered_read_and_written(checkpoint: Path, tmp_path: Path) -> None:
    def on_disk(kind: str) -> int:
        return sum(path.stat().st_size for path in (tmp_path / "state" / kind).rglob("*.*") if path.is_file())

    settings = EngineSettings(tmp_path / "state", str(checkpoint))
    engine = Engine.open(settings)
    first = finished(attempt(engine, request(*range(5, 305), tokens=None))).usage
    assert (first.prompt_tokens, first.prefill_tokens, first.bytes_read) == (300, 300, 0)
    assert first.bytes_written == on_disk("blocks") + on_disk("turns")
    second = finished(attempt(engine, request(7, 8))).usage
    assert (second.prompt_tokens, second.reused_hot_tokens, second.prefill_tokens) == (302, 300, 2)
    engine.close()
    blocks = on_disk("blocks")
    engine = Engine.open(settings)
    third = finished(attempt(engine, request(9, 9))).usage
    engine.close()
    assert (third.prompt_tokens, third.reused_hot_tokens, third.reused_warm_tokens) == (308, 0, 306)
    assert (third.prefill_tokens, third.generated_tokens, third.recomputed_tokens) == (2, 4, 0)
    assert third.bytes_read == blocks


def _passed(counts: list[int], events: list[Event]) -> tuple[int, int]:
    """Positions that ran through the network since the last call, and those that the reply owns up to."""
    finished = events[-1]
    assert isinstance(finished, Finished), finished
    ran, usage = sum(counts), finished.usage
    counts.clear()
    return ran, usage.prefill_tokens + usage.generated_tokens + usage.recomputed_tokens


def test_every_position_that_is_computed_is_reported(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cold, hot, restored, mended, rebuilt: what the usage says is what the network did."""
    counts: list[int] = []
    real = forward._network

    def network(model: object, tokens: mx.array, states: object) -> object:
        counts.append(tokens.size)
        return real(model, tokens, states)  # type: ignore[arg-type]

    monkeypatch.setattr(forward, "_network", network)
    state = tmp_path / "state"
    other = with_other_weights(checkpoint, tmp_path / "other", SPEC)
    engine = Engine.open(EngineSettings(state, str(checkpoint)))
    assert _passed(counts, attempt(engine, request(*range(5, 405)))) == (404, 404)
    assert _passed(counts, attempt(engine, request(7, 8))) == (6, 6)
    engine.close()
    engine = Engine.open(EngineSettings(state, str(checkpoint)))
    assert _passed(counts, attempt(engine, request(9, tokens=None))) == (1, 1)
    first = engine.get_agent(A).blocks[0].key
    engine.close()
    next(state.glob(f"blocks/**/{first}.safetensors")).unlink()
    engine = Engine.open(EngineSettings(state, str(checkpoint)))
    assert _passed(counts, attempt(engine, request(9, tokens=None))) == (257, 257)
    engine.close()
    engine = Engine.open(EngineSettings(state, str(other)))
    assert _passed(counts, attempt(engine, request(9, tokens=None, rebuild=True))) == (413, 413)
    engine.close()


@pytest.mark.reference
def test_several_damaged_blocks_are_each_computed_again(checkpoint: Path, tmp_path: Path) -> None:
    state, ids = tmp_path / "state", [5 + i % 400 for i in range(800)]
    engine = Engine.open(EngineSettings(state, str(checkpoint)))
    attempt(engine, request(*ids, tokens=None))
    wanted = said(attempt(engine, request(*ids, 3, agent=AgentRef("default", "cold"))))
    keys = [block.key for block in engine.get_agent(A).blocks]
    engine.close()
    for key in (keys[0], keys[2], keys[3]):
        file = next(state.glob(f"blocks/**/{key}.safetensors"))
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    engine = Engine.open(EngineSettings(state, str(checkpoint)))
    events = attempt(engine, request(3))
    finished = events[-1]
    engine.close()
    assert said(events) == wanted
    assert isinstance(finished, Finished)
    assert finished.usage.recomputed_tokens == 256 + 256 + 32
    assert [(m.position, m.tokens) for m in finished.usage.misses] == [(0, 256), (512, 256), (768, 32)]
    assert [w.reason for w in finished.warnings] == ["BLOCK_CORRUPT"] * 3


def test_ids_of_another_tokenizer_are_not_rebuilt(checkpoint: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    engine = Engine.open(EngineSettings(state, str(checkpoint)))
    attempt(engine, request(5, 6, tokens=None))
    engine.close()
    other = with_other_weights(checkpoint, tmp_path / "other", SPEC)
    file = other / "tokenizer.json"
    file.write_text(file.read_text().replace("<unused3>", "<other3>"))
    engine = Engine.open(EngineSettings(state, str(other)))
    try:
        for rebuild, reason in ((False, Reason.MODEL_MISMATCH), (True, Reason.TOKENIZER_MISMATCH)):
            failed = attempt(engine, request(7, rebuild=rebuild))[-1]
            assert isinstance(failed, Failed)
            assert failed.error.reason is reason
        assert engine.get_agent(A).turn == 1
    finally:
        engine.close()


def test_the_context_window_holds_for_the_whole_timeline(tmp_path: Path) -> None:
    model = write(tmp_path / "model", replace(SPEC, context=64))
    engine = Engine.open(EngineSettings(tmp_path / "state", str(model)))
    try:
        attempt(engine, request(*[5] * 40, tokens=None))
        for ids, tokens in ((25, None), (24, 1)):
            failed = attempt(engine, request(*[6] * ids, tokens=tokens))[-1]
            assert isinstance(failed, Failed)
            assert failed.error.reason is Reason.CONTEXT_OVERFLOW
        finished = attempt(engine, replace(request(*[6] * 20), sampling=Sampling()))[-1]
        assert isinstance(finished, Finished)
        assert finished.finish_reason is FinishReason.LENGTH
        assert engine.get_agent(A).tokens == 64
    finally:
        engine.close()


def test_what_goes_wrong_inside_is_logged_without_what_was_said(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> int:
        raise ValueError("MARKER was said")

    with caplog.at_level(logging.DEBUG):
        done = threading.Event()

        def broken_sink(event: Event) -> None:
            if isinstance(event, Finished | Failed):
                done.set()
            raise ValueError("MARKER was said")

        engine.submit(request(5, tokens=50), broken_sink)
        assert done.wait(30)
        monkeypatch.setattr("agentmem.engine.sampling.sample", broken)
        failed = attempt(engine, request(5))[-1]
    assert isinstance(failed, Failed)
    assert "ValueError" in caplog.text
    assert "a sink failed" in caplog.text
    assert "MARKER" not in caplog.text + failed.error.message

"""What a step of the executor holds, counted: chunks between two tokens, and how soon a slot and its bytes are free."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Failed, Finished, OnCancel
from agentmem.model import forward
from agentmem.model.forward import CHUNK
from agentmem.types import AgentRef, FinishReason
from tests.engine.runs import A, B, C, finished, request, run, said
from tests.engine.test_room import FIRST_KIND_FAST, Asked
from tests.helpers.checkpoints import KINDS, Spec, write


@pytest.fixture(scope="module", params=FIRST_KIND_FAST, ids=[spec.kind for spec in KINDS])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec: Spec = replace(request.param, heads=2, kv_heads=2, width=128, context=40_000)
    return write(tmp_path_factory.mktemp("ck"), spec)


@pytest.fixture(params=[True, pytest.param(False, marks=pytest.mark.slow)], ids=["", "not_ahead"])
def engine(checkpoint: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint), ahead=request.param, max_batch=8))
    yield engine
    engine.close(deadline_s=0)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Agents and positions of each pass of the model."""
    passes: list[tuple[int, int]] = []
    real = forward._network

    def network(model: Any, tokens: mx.array, states: Any) -> mx.array:
        passes.append(tokens.shape)
        return real(model, tokens, states)

    monkeypatch.setattr(forward, "_network", network)
    return passes


def prompt(length: int, seed: int) -> tuple[int, ...]:
    return tuple(5 + (i * (7 + seed) + i // 3) % 400 for i in range(length))


def between(passes: list[tuple[int, int]]) -> list[int]:
    """Positions that were computed between one decode step and the next."""
    sums = [0]
    for _, count in passes:
        if count == 1:
            sums.append(0)
        else:
            sums[-1] += count
    return sums[1:-1]


def long_prompt_while_others_decode(engine: Engine, passes: list[tuple[int, int]], length: int, tokens: int) -> None:
    late: list[Asked] = []

    def come() -> None:
        passes.clear()
        late.append(Asked(engine, request(*prompt(length, 1), agent=B, tokens=2)))

    running = Asked(engine, request(*prompt(20, 0), tokens=tokens), {5: come})
    assert len(said(running.end(1000))) == tokens, "the reply ended early"
    assert len(said(late[0].end(1000))) == 2
    while_both = between(passes)
    assert max(while_both) <= CHUNK
    assert sum(while_both) >= length - CHUNK, "it was not computed while the other decoded"


def test_a_long_prompt_does_not_stop_who_decodes(engine: Engine, passes: list[tuple[int, int]]) -> None:
    long_prompt_while_others_decode(engine, passes, 4096, 30)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_32k(engine: Engine, passes: list[tuple[int, int]]) -> None:
    long_prompt_while_others_decode(engine, passes, 32_768, 78)  # 64 chunks


def test_many_prompts_and_restores_at_once_do_not_stop_who_decodes(
    engine: Engine, passes: list[tuple[int, int]], tmp_path: Path
) -> None:
    """Nor do blocks that must be computed again."""
    warm = [AgentRef("default", f"warm-{n}") for n in range(4)]
    for n, ref in enumerate(warm):
        run(engine, request(*prompt(1100, 10 + n), agent=ref, tokens=None))
        key = engine.get_agent(ref).blocks[0].key
        engine.evict_agent(ref)
        if n % 2:
            next((tmp_path / "state").glob(f"blocks/**/{key}.safetensors")).unlink()
    late: list[Asked] = []

    def come() -> None:
        passes.clear()
        late.extend(Asked(engine, request(7, agent=ref, tokens=2)) for ref in warm)
        late.extend(
            Asked(engine, request(*prompt(1500, n), agent=AgentRef("default", f"new-{n}"), tokens=2)) for n in range(3)
        )

    running = Asked(engine, request(*prompt(20, 0), tokens=120), {5: come})
    for one in (running, *late):
        one.end()
    for one in late:
        one.end()
    assert sum(finished(one.events).usage.recomputed_tokens for one in late) >= 512
    assert max(between(passes)) <= CHUNK
    assert sum(between(passes)) >= 4500


@pytest.mark.parametrize("on_cancel", list(OnCancel))
def test_a_cancelled_reply_leaves_its_slot_and_bytes_within_one_step(engine: Engine, on_cancel: OnCancel) -> None:
    engine._scheduler.max_active = 2
    memory, times = engine._context.memory, engine._executor.times
    steps: dict[str, int] = {}
    held: dict[str, int] = {}

    def note(what: str) -> None:
        steps[what], held[what] = times.steps, memory.pool.nbytes

    def cancel() -> None:
        note("cancelled")
        a.ticket.cancel()

    late: list[Asked] = []
    ready = threading.Event()

    def others() -> None:
        ready.wait(30)
        late.append(Asked(engine, request(9, agent=C, tokens=2), {2: lambda: note("begun")}))

    b = Asked(engine, request(*prompt(30, 1), agent=B, tokens=100), {4: others, 12: cancel})
    a = Asked(engine, request(*prompt(300, 0), tokens=500, on_cancel=on_cancel))
    ready.set()
    real = a.ticket._run._sink

    def sink(event: Any) -> None:
        if isinstance(event, Finished | Failed):
            note("ended")
        real(event)

    a.ticket._run._sink = sink
    assert len(said(b.end())) == 100
    late[0].end()
    end = a.end()[-1]
    if on_cancel is OnCancel.DISCARD:
        assert isinstance(end, Failed)
        assert steps["ended"] <= steps["cancelled"] + 1
        assert A not in memory._budget._promises
        assert not memory.hot_bytes.get(A)
        assert memory.pool.nbytes == sum(memory.hot_bytes.values())
        assert steps["begun"] <= steps["ended"] + 1
    else:
        assert finished(a.events).finish_reason is FinishReason.CANCELLED
        assert recorded_len(engine) == 300 + len(said(a.events))
        assert a.ended < b.ended


def recorded_len(engine: Engine) -> int:
    return engine.get_agent(A).tokens

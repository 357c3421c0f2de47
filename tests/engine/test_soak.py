"""A long day: many requests of many agents under a budget that never suffices. Memory stays where it may be, and flat.

What MLX holds may exceed the model and the RAM budget by what a step computes with, and no more (`activations`).
"""

from __future__ import annotations

import gc
import json
import os
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from agentmem.engine import turn as turn_module
from agentmem.engine.engine import Engine, EngineSettings, Ticket
from agentmem.engine.request import Delta, Durability, Event, Failed, Finished, OnCancel, Request, Sampling, TokenInput
from agentmem.errors import AgentmemError, Reason
from agentmem.kv.batch import MOST_SCORES
from agentmem.kv.full import TAIL_SEGMENTS
from agentmem.model.forward import CHUNK
from agentmem.types import BLOCK_TOKENS, AgentRef, Priority
from tests.engine.runs import recorded, run
from tests.engine.schedules import OTHER, SHARED, Solo, said_of
from tests.helpers.checkpoints import ALL, VOCAB, Spec, write

AGENTS, AT_ONCE, ACTIVE, CONTEXT = 50, 12, 6, 1024
SPEC = replace(ALL[0], heads=2, kv_heads=2, width=128, context=CONTEXT)
MIB = 1 << 20


def activations(spec: Spec, active: int, tail_bytes: int) -> int:
    """Bytes that computing a step may take beside the states: what a chunk of one layer needs, and a batch's logits.

    Of one layer: its scores, as they are, masked, and as weights; the hidden state of a chunk a few times over, and
    that of the MLP. A tail that grows is there twice. tail_bytes: of the longest, all layers together; that of each
    active agent may grow in a step.
    """
    scores = 3 * 4 * min(MOST_SCORES, CHUNK * spec.heads * spec.context)
    hidden = 4 * CHUNK * (8 * spec.width + 3 * 2 * spec.width + 4 * spec.heads * spec.head_dim)
    logits = 4 * 8 * active * VOCAB
    return scores + hidden + logits + active * tail_bytes


class Soak:
    """Submits random requests, so many at once, and looks at memory as each ends."""

    def __init__(self, engine: Engine, seed: int, bound: int, budget: int) -> None:
        self._engine, self._rng = engine, random.Random(seed)
        self._bound, self._budget = bound, budget
        self._slots = threading.Semaphore(AT_ONCE)
        self._lock = threading.Lock()
        self.base = mx.get_active_memory()
        self.peak = self.most_held = 0
        self.ended: dict[str, int] = {}
        self.wrong: list[str] = []
        self.rss: list[float] = []
        self.descriptors: list[int] = []
        self.threads: list[int] = []

    def work(self, count: int) -> None:
        mx.reset_peak_memory()
        for number in range(count):
            assert self._slots.acquire(timeout=120), "nothing ends"
            if number % 7 == 0:
                self._disturb()
            ref = AgentRef("default", f"agent-{self._rng.randrange(AGENTS)}")
            self._make_short(ref)
            self._submit(number, ref)
            if number % 20 == 0:
                self._measure()
        for _ in range(AT_ONCE):
            assert self._slots.acquire(timeout=120), "nothing ends"
        self._measure()
        assert not self.wrong, self.wrong[0]

    def _make_short(self, ref: AgentRef) -> None:
        """Agents whose context is all but full begin anew."""
        try:
            if self._engine.get_agent(ref).tokens > CONTEXT // 2:
                self._engine.rewind_agent(ref, 0)
        except AgentmemError as error:
            if error.reason is not Reason.AGENT_NOT_FOUND:
                raise

    def _submit(self, number: int, ref: AgentRef) -> None:
        rng = self._rng
        prompt = rng.choice((SHARED, OTHER))[: rng.choice((1, 20, 200, 256, 300, 500))]
        ids = tuple(rng.randrange(5, 400) for _ in range(rng.randrange(1, 4))) if rng.random() < 0.4 else prompt
        sampling = Sampling(rng.choice((0.0, 0.9)), seed=number, max_tokens=rng.choice((None, 3, 12, 30)))
        cancelled = rng.randrange(1, 30) if sampling.max_tokens is None or rng.random() < 0.1 else None
        aside = rng.randrange(2, 20) if rng.random() < 0.1 else None
        request = Request(
            ref,
            TokenInput(ids),
            None if rng.random() < 0.2 else sampling,
            rng.choice(list(OnCancel)),
            create=True,
            priority=rng.choice(list(Priority)),
            durability=rng.choice(list(Durability)),
        )
        seen = 0

        def sink(event: Event) -> None:
            nonlocal seen
            seen += isinstance(event, Delta)
            if seen == cancelled and ticket:
                ticket[0].cancel()
            if seen == aside and ticket:
                ticket[0]._run.step_aside()
            if isinstance(event, Finished | Failed):
                self._note(event)

        ticket: list[Ticket] = []
        ticket.append(self._engine.submit(request, sink))
        if cancelled is not None and cancelled < 3:
            ticket[0].cancel()

    def _note(self, event: Finished | Failed) -> None:
        how = "finished" if isinstance(event, Finished) else event.error.reason.value
        if isinstance(event, Failed) and event.error.reason not in (Reason.REQUEST_CANCELLED, Reason.CONTEXT_OVERFLOW):
            self.wrong.append(str(event.error))
        with self._lock:
            self.ended[how] = self.ended.get(how, 0) + 1
        peak, held = mx.get_peak_memory(), self._engine._context.memory.pool.nbytes
        mx.reset_peak_memory()
        self.peak, self.most_held = max(self.peak, peak), max(self.most_held, held)
        if held > self._budget:
            self.wrong.append(f"{held} bytes of state, {self._budget} may be")
        if peak > self.base + self._budget + self._bound:
            self.wrong.append(f"{peak - self.base} bytes besides the model, {self._budget} + {self._bound} may be")
        self._slots.release()

    def _disturb(self) -> None:
        """Something else than a request."""
        rng, engine = self._rng, self._engine
        one, other = (f"agent-{rng.randrange(AGENTS)}" for _ in "ab")
        ref = AgentRef("default", one)
        work: Callable[[], object] = rng.choice(
            (
                lambda: engine.delete_agent(ref),
                lambda: engine.rewind_agent(ref, 0),
                lambda: engine.evict_agent(ref),
                lambda: (
                    engine.delete_agent(AgentRef("default", other)),
                    engine.fork_agent(AgentRef("default", one), other),
                ),
                lambda: engine.prune("default", agent=one),
            )
        )
        try:
            work()
        except AgentmemError as error:
            if error.reason not in (Reason.AGENT_NOT_FOUND, Reason.AGENT_EXISTS, Reason.TURN_NOT_FOUND):
                raise

    def _measure(self) -> None:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.rss.append(pages * os.sysconf("SC_PAGE_SIZE") / MIB)
        self.descriptors.append(len(os.listdir("/proc/self/fd")))
        self.threads.append(len(os.listdir("/proc/self/task")))


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells")
@pytest.mark.parametrize(
    "count", [pytest.param(250, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.soak)]
)
def test_soak(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(turn_module, "RESERVE", 32)
    checkpoint = write(tmp_path / "checkpoint", SPEC)
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint), max_batch=ACTIVE))
    memory = engine._context.memory
    budget = memory._budget.limit = memory._budget._most_bytes(CONTEXT) * 3 // 2
    tail = TAIL_SEGMENTS * BLOCK_TOKENS * engine._context.model.layout.full.bytes_per_token
    bound = activations(SPEC, ACTIVE, min(tail, memory._budget._most_bytes(CONTEXT)))
    soak = Soak(engine, count, bound, budget)
    try:
        soak.work(count)
        counters = engine._context.counters
        evicted = sum(event.kind == "RAM_EVICTED" for event in engine._context.store.events.page(limit=100_000))
        figures = {
            "requests": count,
            "ended": soak.ended,
            "set_aside": counters.set_aside,
            "evicted": evicted,
            "model_bytes": soak.base,
            "budget_bytes": budget,
            "most_held_bytes": soak.most_held,
            "activation_bound_bytes": bound,
            "most_beside_model_bytes": soak.peak - soak.base,
            "rss_mib": [round(one, 1) for one in soak.rss],
            "descriptors": soak.descriptors,
            "threads": soak.threads,
        }
        with capsys.disabled():
            print(json.dumps(figures))
        assert sum(soak.ended.values()) == count
        assert counters.set_aside > count // 50
        assert evicted > count // 50
        assert not memory._budget._promises
        _is_flat(soak)
        for view in engine.list_agents("default", limit=AGENTS):
            engine.evict_agent(view.ref)
        assert mx.get_active_memory() <= soak.base + MIB // 4
        _all_go_on(engine, checkpoint, tmp_path)
    finally:
        engine.close(deadline_s=0)


def _is_flat(soak: Soak) -> None:
    third = len(soak.rss) // 3
    assert max(soak.rss[-third:]) - max(soak.rss[third : 2 * third]) < 4
    assert max(soak.descriptors[third:]) <= max(soak.descriptors[:third]) + 1
    assert max(soak.threads[third:]) <= max(soak.threads[:third])


def _all_go_on(engine: Engine, checkpoint: Path, folder: Path) -> None:
    """What RAM and disk hold of agents is what computing their timelines anew would give."""
    solo, sampling = Solo(checkpoint, folder / "solo"), Sampling(max_tokens=2)
    for view in engine.list_agents("default")[::5]:
        if 0 < view.tokens < CONTEXT - 3:
            ids = tuple(recorded(engine, view.ref))
            assert said_of(run(engine, Request(view.ref, TokenInput((9,)), sampling))) == solo((*ids, 9), sampling)
    solo.engine.close()
    assert engine.verify().problems == ()

"""Requests on an engine that others run on: joining, many at once, one prefix for all, and restores behind decoding."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.types import AgentRef
from benchmarks.batching.cases import Cases, random_ids
from benchmarks.batching.heard import Heard
from benchmarks.random_agents import Identity, RandomAgent
from benchmarks.ttft import timed

SHORT = 32
"""Tokens of the request that joins."""
ENDLESS = 1000
"""Tokens of a reply that outlasts what happens meanwhile, and is cancelled then."""
_seeds = count(1)


@contextmanager
def serving(checkpoint: Path) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine.open(EngineSettings(Path(folder), str(checkpoint)))
        try:
            Heard(engine, "warm-up", random_ids(64, 0), 8).end()
            yield engine
        finally:
            engine.close()


def remembered(engine: Engine, name: str, tokens: int) -> AgentRef:
    """An agent that is on disk; its state is random."""
    model = engine._context.model
    identity = Identity(model.state_id, model.tokenizer_id, model.numerics)
    RandomAgent(engine._context.store, name, identity, next(_seeds), model.layout.full).turn(tokens)
    return AgentRef("default", name)


def new(engine: Engine, tokens: int, reply: int) -> Heard:
    """A request to a new agent with which no other has anything in common."""
    seed = next(_seeds)
    return Heard(engine, f"new-{seed}", random_ids(tokens, seed), reply)


def joining(engine: Engine, cases: Cases) -> dict[str, float]:
    """A short request that arrives while an agent with a long context replies, against the same request alone.

    waiting_ratio: had it to wait for all of the reply. worst_gap_ms: of the one that replies, meanwhile.
    """
    engine.prefetch_agent(remembered(engine, "long", cases.long))
    seen: dict[str, list[float]] = {"solo": [], "joined": [], "step": [], "gap": []}
    for _ in range(cases.repeats):
        solo = new(engine, SHORT, 4)
        solo.end()
        running = Heard(engine, "long", random_ids(1, next(_seeds)), ENDLESS).wait(8)
        before = len(running.times)
        joined = new(engine, SHORT, 4)
        joined.end()
        running.cancel()
        seen["solo"].append(solo.ttft)
        seen["joined"].append(joined.ttft)
        seen["step"].append(statistics.median(running.gaps[: before - 1]))
        seen["gap"].append(max(running.gaps[before - 1 :]))
    solo_s, joined_s, step_s, gap_s = (statistics.median(values) for values in seen.values())
    return {
        "join_ratio": statistics.median(j / s for j, s in zip(seen["joined"], seen["solo"], strict=True)),
        "waiting_ratio": (cases.reply * step_s + solo_s) / solo_s,
        "solo_ms": 1000 * solo_s,
        "joined_ms": 1000 * joined_s,
        "running_step_ms": 1000 * step_s,
        "worst_gap_ms": 1000 * gap_s,
    }


def scaling(engine: Engine, cases: Cases) -> dict[str, dict[str, float]]:
    """Tokens per second of 1, 2, 4 and 8 agents that reply at once, and what of the steps is Python."""
    model = engine._context.model
    refs = [remembered(engine, f"scale-{i}", cases.equal) for i in range(cases.agents)]
    for ref in refs:
        engine.prefetch_agent(ref)
    out = {}
    for agents in [n for n in (1, 2, 4, 8) if n <= cases.agents]:
        runs = [_together(engine, refs[:agents], 2 * cases.steps) for _ in range(cases.repeats)]
        held = agents * cases.equal * model.layout.full.bytes_per_token
        out[str(agents)] = {
            "tokens_per_s": statistics.median(rate for rate, _ in runs),
            "python_share": statistics.median(share for _, share in runs),
            "mb_per_token": (model.bytes + held) / agents / 1e6,
        }
    return out


def _together(engine: Engine, refs: list[AgentRef], steps: int) -> tuple[float, float]:
    """Tokens per second while all of these decode, for so many steps, and the share of the steps that is Python."""
    heard = [Heard(engine, ref.name, random_ids(1, next(_seeds)), ENDLESS) for ref in refs]
    for one in heard:
        one.wait(3)
    began, before, had = time.perf_counter(), engine.stats().steps, sum(len(one.times) for one in heard)
    heard[0].wait(len(heard[0].times) + steps)
    seconds, tokens = time.perf_counter() - began, sum(len(one.times) for one in heard) - had
    spent = {name: after - getattr(before, name) for name, after in vars(engine.stats().steps).items()}
    for one in heard:
        one.cancel()
    python = sum(spent[f"{part}_s"] for part in ("schedule", "graph", "sample", "stream"))
    return tokens / seconds, python / (python + spent["device_s"])


def shared_ram(engine: Engine, cases: Cases) -> dict[str, float]:
    """Bytes that agents take who forked from one with a long context, over those of the tokens that are unique.

    Each has a block of its own in the end; half_full: at half of that, with the room that it has for more.
    """
    before = engine.stats().hot_bytes
    source = remembered(engine, "source", cases.long)
    engine.prefetch_agent(source)
    forks = [engine.fork_agent(source, f"fork-{i}")[0].ref for i in range(cases.agents)]
    per_token, out = engine.model_info().bytes_per_token, {}
    for name, own in (("half_full", 128), ("shared_prefix_ram", 256)):
        heard = [Heard(engine, ref.name, random_ids(128 - 16, next(_seeds)), 16) for ref in forks]
        for one in heard:
            one.end()
        unique = (cases.long + cases.agents * own) * per_token
        out[name] = (engine.stats().hot_bytes - before) / unique
    return out


def hidden_restore(engine: Engine, cases: Cases) -> dict[str, float]:
    """How much of a restore costs a running agent nothing: its wall time less what the other's tokens were late by."""
    sleeping = remembered(engine, "sleeping", cases.long)
    running_ref = remembered(engine, "awake", cases.equal)
    engine.prefetch_agent(running_ref)
    seen: dict[str, list[float]] = {"alone": [], "restore": [], "late": [], "step": []}
    for _ in range(cases.repeats):
        engine.evict_agent(sleeping)
        seen["alone"].append(timed(lambda: engine.prefetch_agent(sleeping)))
        engine.evict_agent(sleeping)
        running = Heard(engine, "awake", random_ids(1, next(_seeds)), ENDLESS).wait(8)
        step, begin = statistics.median(running.gaps), time.perf_counter()
        restore = timed(lambda: engine.prefetch_agent(sleeping))
        running.wait(len(running.times) + 1).cancel()
        gaps = zip(running.times, running.gaps, strict=False)
        during = [gap for at, gap in gaps if at + gap > begin and at < begin + restore]
        seen["restore"].append(restore)
        seen["late"].append(sum(max(0.0, gap - step) for gap in during))
        seen["step"].append(step)
    alone_ms, restore_ms, late_ms, step_ms = (1000 * statistics.median(values) for values in seen.values())
    return {
        "hidden_restore_ms": max(0.0, restore_ms - late_ms),
        "restore_ms": restore_ms,
        "late_ms": late_ms,
        "restore_alone_ms": alone_ms,
        "running_step_ms": step_ms,
    }

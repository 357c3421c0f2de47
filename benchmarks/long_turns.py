"""What the end of a long turn costs, whose full blocks are written while it is computed."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Durability, Request, Sampling, TokenInput
from agentmem.store.files import Files
from agentmem.types import AgentRef, Timings
from tests.engine.runs import finished, run
from tests.helpers.checkpoints import Spec, write


class SlowFlush(Files):
    """A drive on which each flush takes so many seconds more."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def sync(self, path: Path) -> None:
        super().sync(path)
        time.sleep(self._seconds)


def long_turns(folder: Path, flush_s: float, repeats: int) -> dict[str, float]:
    """Turns of 4K new tokens and one token of reply: what their end takes beyond that token."""
    folder = folder / f"long-{flush_s}"
    checkpoint = write(folder / "narrow", Spec(layers=8, heads=4, kv_heads=4, context=8192))
    engine = Engine.open(EngineSettings(folder / "state", str(checkpoint)), files=SlowFlush(flush_s))
    rng = np.random.default_rng(0)

    def turn(name: str, durability: Durability) -> Timings:
        ids = tuple(rng.integers(5, 500, 4096).tolist())
        ref, once = AgentRef("default", name), Sampling(max_tokens=1)
        return finished(run(engine, Request(ref, TokenInput(ids), once, create=True, durability=durability))).timings

    durable = [turn(f"d{i}", Durability.DURABLE) for i in range(repeats)]
    behind = [turn(f"b{i}", Durability.WRITE_BEHIND) for i in range(repeats)]
    engine.close()
    return {
        "flush_ms": 1000 * flush_s,
        "prefill_s": statistics.median(t.prefill_s for t in durable),
        "turn_commit_ms": 1000 * statistics.median(t.commit_s for t in durable),
        "write_behind_ms": 1000 * statistics.median(t.commit_s for t in behind),
    }

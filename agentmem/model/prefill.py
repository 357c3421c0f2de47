"""By which path prefill attends: chosen by measuring, once for each device, MLX, BLAS and shape of attention.

REFERENCE sums in the fixed order of `kv.attention`. FUSED (`kv.fused`) is fast numerics: how a prompt is divided into
chunks, and what was restored, may move bits and flip quantisation levels. Promised is `LOGIT_TOLERANCE`, no bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from agentmem.kv import attention, fused
from agentmem.kv.batch import Batch
from agentmem.kv.layout import AttentionLayout, StateLayout
from agentmem.kv.state import AgentState
from agentmem.model import keptfile, numerics
from agentmem.types import PrefillPath

LOGIT_TOLERANCE = 0.1
"""How far fast numerics may move a logit from where the reference has it, in standard deviations of its position's.

Tests and `benchmarks.prefill` hold the fused path and OpenBLAS to it, on the CPU backend in fp32. In half precision,
and on Metal, nothing was measured.
"""

POSITIONS = 1024
QUERIES = {"cpu": 64, "gpu": 512}
"""What is measured: a chunk's attention in one layer. A CPU takes as long for each query, and would take seconds."""

MOST_S, MOST_TIMES = 1.0, 20
"""A measurement ends after this, but for what it is at."""


def choose(wanted: PrefillPath, heads: int, layout: AttentionLayout, in_force: str, kept: Path | None) -> PrefillPath:
    """REFERENCE or FUSED. Call it on the executor thread.

    heads, layout: of the model's attention. in_force: the numerics that there would be anyway. kept: a file for what
    was measured; None keeps nothing.
    """
    if wanted is not PrefillPath.AUTO:
        return wanted
    if in_force == numerics.REFERENCE:
        return PrefillPath.REFERENCE
    key = f"{numerics.machine()}, {heads} heads, {layout!r}"
    known = keptfile.read(kept)
    if not _is_measured(known.get(key)):
        known[key] = measure(heads, layout)
        keptfile.write(kept, known)
    seconds = known[key]
    return PrefillPath.FUSED if seconds["fused_s"] < seconds["reference_s"] else PrefillPath.REFERENCE


def measure(heads: int, layout: AttentionLayout) -> dict[str, float]:
    """Least seconds of each path, taken by turns: whatever else the machine does only adds to them."""
    count = QUERIES[numerics.device()]
    state = AgentState(StateLayout.of_full(replace(layout, layers=1)))
    (cache,) = Batch([state], fused=True).layers
    keys, values = (mx.random.normal((1, layout.kv_heads, POSITIONS, layout.head_dim), layout.dtype) for _ in range(2))
    cache.update_and_fetch(keys, values)
    state.evaluate()
    queries = mx.random.normal((1, heads, count, layout.head_dim), layout.dtype)
    mx.eval(queries)
    ways: dict[str, Callable[..., mx.array]] = {"reference_s": attention.attend, "fused_s": fused.attend}
    seen: dict[str, list[float]] = {name: [] for name in ways}
    began = time.perf_counter()
    while len(seen["fused_s"]) <= 1 or (len(seen["fused_s"]) <= MOST_TIMES and time.perf_counter() - began < MOST_S):
        for name, attend in ways.items():
            before = time.perf_counter()
            mx.eval(attend(queries, cache, layout.head_dim**-0.5))
            seen[name].append(time.perf_counter() - before)
    return {name: min(seconds[1:]) for name, seconds in seen.items()}  # the first warms up


def _is_measured(seconds: Any) -> bool:
    return isinstance(seconds, dict) and all(
        isinstance(seconds.get(name), float) and seconds[name] > 0 for name in ("reference_s", "fused_s")
    )

"""Time to first token, cold, hot and restored: `python -m benchmarks.ttft --json`.

Every ratio is taken within one run of one process. A repetition of a case, on a fresh agent:

1. cold: the context and a 16-token suffix in one request, against plain mlx-lm on the same ids, once with its own
   quantised cache from token 0 (the same attention path) and once unquantised (its default path);
2. hot: another 16-token suffix, against the floor: one forward pass over 16 tokens on the same state;
3. warm: the engine is closed and opened again, the page cache stays warm; a third suffix, against the floor:
   all block files read once, plus one forward pass.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import QuantizedKVCache, make_prompt_cache

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Delta, Event, Failed, Finished, Request, Sampling, TokenInput
from agentmem.kv.state import AgentState
from agentmem.model import forward, loader
from agentmem.model.loader import LoadedModel
from agentmem.types import AgentRef, Usage
from benchmarks import machine
from tests.helpers.checkpoints import Spec, write

SUFFIX = 16
LARGER = Spec(layers=8, width=512, heads=8, kv_heads=4, context=8192)


def first_token(engine: Engine, agent: str, ids: list[int]) -> tuple[float, Usage]:
    """Seconds from submitting ids to the first token, and what the turn used."""
    times, last, done = [], [], threading.Event()

    def sink(event: Event) -> None:
        if isinstance(event, Delta):
            times.append(time.perf_counter())
        if isinstance(event, Finished | Failed):
            last.append(event)
            done.set()

    began = time.perf_counter()
    engine.submit(
        Request(AgentRef("default", agent), TokenInput(tuple(ids)), Sampling(max_tokens=1), create=True), sink
    )
    done.wait()
    if isinstance(last[0], Failed):
        raise last[0].error
    return times[0] - began, last[0].usage


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def plain_mlx_lm(model: LoadedModel, ids: list[int], quantised: bool) -> float:
    """Seconds to mlx-lm's first token on a new cache."""
    if quantised:
        layout = model.layout.full
        cache = [QuantizedKVCache(group_size=layout.group_size, bits=layout.bits) for _ in range(layout.layers)]
    else:
        cache = make_prompt_cache(model.network)
    return timed(lambda: next(generate_step(mx.array(ids), model.network, max_tokens=1, prompt_cache=cache)))


def forward_floor(model: LoadedModel, context: list[int], suffix: list[int], times: int) -> float:
    """Median seconds of one forward pass over the suffix on a state that holds the context, and an argmax."""
    state = AgentState(model.layout)
    for _ in forward.prefill(model, state, context):
        pass

    def once() -> None:
        mx.argmax(forward.last_logits(model, state, suffix)).item()
        state.trim(len(context))

    once()
    return statistics.median(timed(once) for _ in range(times))


def read_floor(folder: Path, times: int) -> float:
    """Median seconds of reading all block files once."""
    files = sorted(folder.glob("blocks/**/*.safetensors"))
    return statistics.median(timed(lambda: [f.read_bytes() for f in files]) for _ in range(times))


def measure(checkpoint: str | None, context: int, repeats: int) -> dict[str, float]:
    """Medians of one case, in seconds, and their ratios."""
    rng = np.random.default_rng(context)
    model = loader.load(checkpoint)  # a second copy, for the baselines
    ids = [int(i) for i in rng.integers(5, model.vocab_size, context + 3 * SUFFIX)]
    parts = [ids[: context + SUFFIX], ids[context + SUFFIX :][:SUFFIX], ids[-SUFFIX:]]
    seen: dict[str, list[float]] = {k: [] for k in ("cold", "mlx_lm_q4", "mlx_lm_full", "hot", "warm", "read")}
    plain_mlx_lm(model, ids[:64], True)
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            settings = EngineSettings(Path(folder), checkpoint)
            engine = Engine.open(settings)
            first_token(engine, "warm-up", ids[32::-1])  # other ids: nothing to match
            seen["cold"].append(first_token(engine, "a", parts[0])[0])
            seen["mlx_lm_q4"].append(plain_mlx_lm(model, parts[0], True))
            seen["mlx_lm_full"].append(plain_mlx_lm(model, parts[0], False))
            seen["hot"].append(first_token(engine, "a", parts[1])[0])
            engine.close()
            engine = Engine.open(settings)
            first_token(engine, "warm-up", ids[SUFFIX::-1])
            seconds, usage = first_token(engine, "a", parts[2])
            if usage.recomputed_tokens or usage.reused_warm_tokens < context:
                raise RuntimeError("the restore recomputed remembered tokens")
            seen["warm"].append(seconds)
            seen["read"].append(read_floor(Path(folder), 3))
            engine.close()
    floor = forward_floor(model, parts[0], parts[1], 7)
    return _ratios({name: statistics.median(values) for name, values in seen.items()}, floor)


def _ratios(median: dict[str, float], floor: float) -> dict[str, float]:
    cold = min(median["cold"], median["mlx_lm_q4"], median["mlx_lm_full"])
    out = {
        "cold_over_mlx_lm": median["cold"] / median["mlx_lm_q4"],
        "hot_over_floor": median["hot"] / floor,
        "warm_over_floor": median["warm"] / (floor + median["read"]),
        "hot_ms_above_floor": 1000 * (median["hot"] - floor),
        "warm_ms_above_floor": 1000 * (median["warm"] - floor - median["read"]),
        "cold_over_warm": cold / median["warm"],
        **{f"{name}_s": value for name, value in median.items()},
        "floor_s": floor,
    }
    return {name: round(value, 5) for name, value in out.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object (it always is)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--contexts", type=int, nargs="+", default=[256, 1024, 4096])
    args = parser.parse_args()
    machine.prefer_openblas()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        larger = str(write(Path(folder) / "larger", LARGER))
        for name, checkpoint, limit in (("embedded", None, 2048), ("8x512", larger, LARGER.context)):
            for context in args.contexts:
                if context + 4 * SUFFIX > limit:
                    continue
                case = measure(checkpoint, context, args.repeats if context < 4096 else min(3, args.repeats))
                results.append({"model": name, "context": context, **case})
                print(f"{name} {context}: {case}", file=sys.stderr)
    columns = ("cold_over_mlx_lm", "hot_over_floor", "warm_over_floor", "hot_ms_above_floor", "warm_ms_above_floor")
    print("model     context  " + "  ".join((*columns, "cold_over_warm")))
    for r in results:
        figures = "  ".join(f"{r[c]:>{len(c)}.2f}" for c in (*columns, "cold_over_warm"))
        print(f"{r['model']:<9} {r['context']:>7}  {figures}")
    print(json.dumps({"benchmark": "ttft", "cases": results, "machine": machine.describe()}))


if __name__ == "__main__":
    main()

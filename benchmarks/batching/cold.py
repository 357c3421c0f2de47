"""Time to the first token of a new agent, against plain mlx-lm on the same ids."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.model import loader
from benchmarks.batching.cases import Cases, random_ids
from benchmarks.batching.timing import Turns
from benchmarks.ttft import first_token, plain_mlx_lm


def cold(checkpoint: Path, cases: Cases) -> Iterator[dict[str, float]]:
    """same_path: over mlx-lm with its own quantised cache from token 0. best_stock: over mlx-lm unquantised."""
    model = loader.load(str(checkpoint))  # a second copy, for mlx-lm
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine.open(EngineSettings(Path(folder), str(checkpoint)))
        seeds = count()
        first_token(engine, "warm-up", random_ids(64, next(seeds)))
        plain_mlx_lm(model, random_ids(64, 0), True)
        for context in cases.cold:

            def ours(context: int = context) -> float:
                seed = next(seeds)  # other ids each time: there is nothing to match
                return first_token(engine, f"cold-{seed}", random_ids(context, seed))[0]

            def stock(quantised: bool, context: int = context) -> float:
                return plain_mlx_lm(model, random_ids(context, 0), quantised)

            # At 4K a quantised prefill by mlx-lm takes a minute, which is long enough to be past the noise.
            rounds = 1 if context >= 4096 else min(2, cases.repeats)
            same = Turns({"ours": ours, "stock_q4": lambda: stock(True)}, rounds)
            best = Turns({"ours": ours, "stock": lambda: stock(False)}, min(1 + rounds, cases.repeats))
            yield {
                "context": context,
                "same_path": same.ratio("ours", "stock_q4"),
                "best_stock": best.ratio("ours", "stock"),
                "same_path_by_cpu_seconds": same.cpu_ratio("ours", "stock_q4"),
                "best_stock_by_cpu_seconds": best.cpu_ratio("ours", "stock"),
                **same.medians(),
                **best.medians(),
            }
        engine.close()

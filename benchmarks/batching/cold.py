"""Time to the first token of a new agent, against plain mlx-lm on the same ids."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.model import loader
from benchmarks.batching.cases import Cases, random_ids
from benchmarks.batching.timing import by_turns, medians, ratio
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

            works = {"ours": ours, "stock": lambda: stock(False), "stock_q4": lambda: stock(True), "again": ours}
            # At 4K one round takes minutes, and is long enough to be past the noise.
            seen = by_turns(works, min(3, cases.repeats) if context < 4096 else 1)
            seen["ours"] = [(a + b) / 2 for a, b in zip(seen["ours"], seen.pop("again"), strict=True)]
            yield {
                "context": context,
                "same_path": ratio(seen, "ours", "stock_q4"),
                "best_stock": ratio(seen, "ours", "stock"),
                **medians(seen),
            }
        engine.close()

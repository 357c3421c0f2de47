"""Many agents at once: `python -m benchmarks.batching --json`.

Whatever is compared is measured in one run, by turns, on the same model, BLAS and Q4 settings; ratios are medians of
the rounds' ratios. `8x512` is a random Llama of 8 layers, width 512, 8 heads and 4 KV heads of 64. Replies never end by
themselves. Contexts of agents that decode are random state, where their values do not matter.

- cold_over_mlx_lm: seconds to a new agent's first token, over mlx-lm's with its own quantised cache from token 0
  (`same_path`) and unquantised (`best_stock`).
- stream_over_loop: tokens per second of a plain mlx-lm loop, over those at a client of a daemon, one agent.
- ragged_over_padded: tokens per second of the batch, over those of a padded one (see `padded`); for one agent of 4K and
  seven of 256, for equals of 1,024 (a segment has just begun, so that 4.1 segments cost 5) and for equals that stand
  in the middle of a segment.
- join_ratio: seconds to the first token of a 32-token request while an agent of 4K replies, over those alone.
- batch_scaling: tokens per second of 1, 2, 4 and 8 agents of 1K; python_share: of their steps, what is not the device.
- shared_prefix_speedup: 8 agents on one prefix of 4K, over 8 with copies of it; shared_prefix_ram: bytes of 8 forks,
  over those of the unique tokens.
- hidden_restore_ms: of restoring an agent of 4K, what costs a running one nothing.
- reference_over_fast: see `numerics`.

BLAS has one thread unless OPENBLAS_NUM_THREADS says otherwise: with two on a machine that others use, a short product
takes up to ten times as long. `mb_per_step` is what a step reads of weights and state, counted: the CPU backend is
bound by arithmetic, not by that.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agentmem.model import loader
from benchmarks import machine
from benchmarks.batching import cases as sizes
from benchmarks.batching import padded, serving
from benchmarks.batching.cold import cold
from benchmarks.batching.decoding import ragged_over_padded, second_stream, shared_prefix
from benchmarks.batching.numerics import exactness
from benchmarks.batching.streaming import streaming

Figures = Iterator[tuple[str, Any]]


class Benchmark:
    def __init__(self, folder: Path, cases: sizes.Cases) -> None:
        self._folder, self._cases = folder, cases
        self._random, self._embedded = sizes.checkpoint(folder, cases), sizes.embedded(folder)

    def parts(self) -> dict[str, Callable[[], Figures]]:
        return {
            "decoding": self._decoding,
            "serving": self._serving,
            "streaming": self._streaming,
            "numerics": self._numerics,
            "cold": self._cold,
        }

    def _decoding(self) -> Figures:
        cases, model = self._cases, loader.load(str(self._random))
        padded.install()
        middle = cases.equal + 128 - cases.steps // 2
        lengths = {
            "ragged": [cases.long] + [cases.short] * (cases.agents - 1),
            "equal": [cases.equal] * cases.agents,
            "equal_mid_segment": [middle] * cases.agents,
        }
        yield "ragged_over_padded", {name: ragged_over_padded(model, each, cases) for name, each in lengths.items()}
        yield "shared_prefix", shared_prefix(model, cases)
        contexts = {"one_agent": [cases.long], "equal_mid_segment": lengths["equal_mid_segment"]}
        yield "second_stream", {name: second_stream(model, each, cases) for name, each in contexts.items()}

    def _serving(self) -> Figures:
        with serving.serving(self._random) as engine:
            yield "join", serving.joining(engine, self._cases)
            yield "batch_scaling", serving.scaling(engine, self._cases)
            yield "hidden_restore", serving.hidden_restore(engine, self._cases)
            yield "shared_ram", serving.shared_ram(engine, self._cases)

    def _streaming(self) -> Figures:
        models = (("embedded", self._embedded), ("8x512", self._random))
        yield "stream", {name: streaming(self._folder, path, self._cases) for name, path in models}

    def _numerics(self) -> Figures:
        yield "reference_over_fast", exactness(self._random, self._cases)

    def _cold(self) -> Figures:
        yield "cold_over_mlx_lm", list(cold(self._random, self._cases))


def rounded(figures: Any) -> Any:
    if isinstance(figures, dict):
        return {name: rounded(value) for name, value in figures.items()}
    if isinstance(figures, list):
        return [rounded(value) for value in figures]
    return float(f"{figures:.4g}") if isinstance(figures, float) else figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object (it always is)")
    parser.add_argument("--quick", action="store_true", help="small, once: that it runs; the figures mean nothing")
    parser.add_argument("--repeats", type=int, help="rounds; what is short is repeated more often")
    parser.add_argument("--only", nargs="+", choices=("decoding", "serving", "streaming", "numerics", "cold"))
    args = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two wait for each other, and one may have lost its core
    machine.prefer_openblas()
    cases = sizes.QUICK if args.quick else sizes.Cases(repeats=args.repeats or sizes.Cases.repeats)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part, measure in Benchmark(Path(folder), cases).parts().items():
            if args.only and part not in args.only:
                continue
            for name, figures in measure():
                results[name] = rounded(figures)
                print(f"{name}: {results[name]}", file=sys.stderr, flush=True)
    print(json.dumps({"benchmark": "batching", "quick": args.quick, **results, "machine": machine.describe()}))


if __name__ == "__main__":
    main()

"""Agents that hand over by state against text: `python -m benchmarks.latent --json`.

recall: on the embedded model, each primitive by text and by state with 0, 5, 20 and 40 latent steps, one agent, and
controls: answers that are right, with Wilson 95% intervals, tokens, seconds, prefill-token equivalents. costs: on an
8-layer model of random weights, over one agent's. errors: on both, Q4 keys that were moved against keys that were
quantised where they stand, and blends against prefills. The embedded model recalls facts and does not reason: what
flows gain on tasks that need thought depends on the model, and is for you to measure (`agentmem bench primitives
--tasks FILE`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.model import loader
from agentmem.primitives.pte import DeviceRatio
from agentmem.primitives.ratio import Ratio
from benchmarks import machine
from benchmarks.batching import cases as sizes
from benchmarks.batching.__main__ import rounded
from benchmarks.latent.costs import costs
from benchmarks.latent.errors import errors
from benchmarks.latent.items import items
from benchmarks.latent.recall import Recall
from benchmarks.latent.ways import all_ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object (it always is)")
    parser.add_argument("--quick", action="store_true", help="small, once: that it runs; the figures mean nothing")
    parser.add_argument("--items", type=int, default=500, help="recall tasks for each way")
    parser.add_argument("--steps", type=int, nargs="+", default=(0, 5, 20, 40), help="latent steps to try")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the costs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=("recall", "costs", "errors"))
    parser.add_argument("--ways", nargs="+", help="such as review_latent_20, untold and shuffled; all if left out")
    args = parser.parse_args()
    if args.quick:
        args.items, args.repeats, args.steps = 2, 1, (0, 2)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    machine.prefer_openblas()
    results: dict[str, Any] = {}
    parts = {"recall": _recall, "costs": _costs, "errors": _errors}
    for name, part in parts.items():
        if not args.only or name in args.only:
            results[name] = {}
            for way, figures in part(args):
                results[name][way] = rounded(figures)
                print(f"{name} {way}: {results[name][way]}", file=sys.stderr, flush=True)
    print(json.dumps({"benchmark": "latent", "quick": args.quick, **results, "machine": machine.describe()}))


def _recall(args: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    with _engine(None) as (engine, ratio):
        yield "ratio", vars(ratio)
        recall = Recall(engine, list(items(args.items, args.seed)), 2 if args.quick else 20, ratio)
        works = {way.name: partial(recall.of, way) for way in all_ways(tuple(args.steps))}
        works |= {"untold": recall.untold, "shuffled": partial(recall.shuffled, max(args.steps))}
        for name, work in works.items():
            if not args.ways or name in args.ways:
                yield name, work()


def _costs(args: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    cases = sizes.QUICK if args.quick else sizes.Cases()
    with tempfile.TemporaryDirectory() as folder, _engine(sizes.checkpoint(Path(folder), cases)) as (engine, ratio):
        yield "ratio", vars(ratio)
        told, reply = (64, 4) if args.quick else (1024, 48)
        yield from costs(engine, list(all_ways(tuple(args.steps))), told, reply, args.repeats, ratio).items()


def _errors(args: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    cases = sizes.QUICK if args.quick else sizes.Cases()
    length, documents, behind = (64 if args.quick else 512), 3, 8
    with tempfile.TemporaryDirectory() as folder:
        model = loader.load(str(sizes.checkpoint(Path(folder), cases)))
        random = [sizes.random_ids(length, seed) for seed in range(documents + 1)]
        yield "8x512", errors(model, random[:-1], random[-1][:behind])
    model = loader.load(None)
    *told, last = (item.told for item in items(documents + 1, args.seed))
    said = [model.text.encode_chat(one, None, False, False).ids for one in told]
    yield "embedded", errors(model, said, model.text.encode_chat(last, None, False, False).ids[:behind])


@contextmanager
def _engine(checkpoint: Path | None) -> Iterator[tuple[Engine, DeviceRatio]]:
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine.open(EngineSettings(Path(folder), checkpoint and str(checkpoint)))
        try:
            ratio = Ratio(engine, None).get()
            if ratio is None:
                raise RuntimeError("what a decoded token costs could not be measured")
            yield engine, ratio
        finally:
            engine.close()


if __name__ == "__main__":
    main()

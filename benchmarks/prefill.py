"""Prefill by the fused path over the reference path: `python -m benchmarks.prefill --json`.

A random Llama of 8 layers, width 512; contexts of random ids; once with OpenBLAS and once with the BLAS of MLX's wheel,
each in a process of its own. The paths take turns; the least of the repeats counts, in seconds of the clock, and of the
processor (all threads together), which tell more where others use the machine too. Then 32 tokens are fed one by one:
how far logits and quantisation levels are from the reference path's with the same BLAS, and from reference numerics.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from agentmem.model import loader, prefill
from agentmem.types import PrefillPath
from benchmarks import machine
from benchmarks.numerics import Trace, distance, goes_on, prefilled
from benchmarks.ttft import LARGER
from tests.helpers.checkpoints import write

FORCED = 32
PATHS = (PrefillPath.REFERENCE, PrefillPath.FUSED)


def measure(folder: Path, blas: str, contexts: list[int], repeats: int) -> dict[str, Any]:
    """Cases of one BLAS, in this process. Leaves the traces in the folder."""
    model = loader.load(str(folder / "model"), prefill=PrefillPath.REFERENCE)
    model = replace(model, prefill=PrefillPath.REFERENCE)
    cases = []
    for context in contexts:
        ids = [int(i) for i in np.random.default_rng(context).integers(5, model.vocab_size, context + FORCED)]
        least: dict[str, float] = {}
        for repeat in range(repeats):
            for path in PATHS:
                way = replace(model, prefill=path)
                if not repeat:
                    prefilled(way, ids[:64])
                clock, processor = time.perf_counter(), time.process_time()
                state = prefilled(way, ids[:context])
                taken = {"s": time.perf_counter() - clock, "cpu_s": time.process_time() - processor}
                for unit, seconds in taken.items():
                    name = f"{path.value}_{unit}"
                    least[name] = min(seconds, least.get(name, seconds))
                if repeat == repeats - 1:
                    found = goes_on(way, state, ids[context:])
                    np.savez(_file(folder, blas, path, context), logits=found.logits, words=found.words)
        cases.append({"blas": blas, "context": context, **least})
        print(f"{blas} {context}: {least}", file=sys.stderr)
    heads = LARGER.heads
    return {"cases": cases, "switch": prefill.measure(heads, model.layout.full), "machine": machine.describe()}


def _file(folder: Path, blas: str, path: PrefillPath, context: int) -> Path:
    return folder / f"{blas}-{path.value}-{context}.npz"


def _trace(file: Path) -> Trace:
    with np.load(file) as arrays:
        return Trace(arrays["logits"], arrays["words"])


def compared(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    """A case with its ratios and distances."""
    blas, context = case["blas"], case["context"]
    reference, fused = (_trace(_file(folder, blas, path, context)) for path in PATHS)
    truth = _trace(_file(folder, "wheel", PrefillPath.REFERENCE, context))
    return {
        **{name: round(value, 3) if isinstance(value, float) else value for name, value in case.items()},
        "reference_over_fused": round(case["reference_s"] / case["fused_s"], 2),
        "reference_over_fused_cpu": round(case["reference_cpu_s"] / case["fused_cpu_s"], 2),
        "fused_from_reference_path": asdict(distance(reference, fused)),
        "reference_path_from_reference_numerics": asdict(distance(truth, reference)),
        "fused_from_reference_numerics": asdict(distance(truth, fused)),
    }


def _in_process(blas: str, folder: str, args: argparse.Namespace) -> dict[str, Any]:
    """What `measure` finds in a process with that BLAS."""
    environment = os.environ | {"AGENTMEM_BENCH_BLAS": blas}
    command = [sys.executable, "-m", "benchmarks.prefill", "--blas", blas, "--folder", folder]
    command += ["--repeats", str(args.repeats), "--contexts", *map(str, args.contexts)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object (it always is)")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--contexts", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--blas", choices=("wheel", "openblas"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.blas:
        machine.prefer_openblas()  # not where the environment asks for the wheel's
        print(json.dumps(measure(args.folder, args.blas, args.contexts, args.repeats)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "model", LARGER)
        found = {blas: _in_process(blas, folder, args) for blas in ("wheel", "openblas")}
        cases = [compared(Path(folder), case) for one in found.values() for case in one["cases"]]
    print("BLAS      context  reference over fused: clock, processor  logits  flips per million")
    for case in cases:
        off = case["fused_from_reference_numerics"]
        print(
            f"{case['blas']:<9} {case['context']:>7}  {case['reference_over_fused']:>27}  "
            f"{case['reference_over_fused_cpu']:>9}  {off['logits']:.4f}  {1e6 * off['flips'] / off['levels']:>17.1f}"
        )
    rest = {blas: {"switch": one["switch"], "machine": one["machine"]} for blas, one in found.items()}
    print(json.dumps({"benchmark": "prefill", "cases": cases, **rest}))


if __name__ == "__main__":
    main()

"""What exactness costs and what it is worth: reference numerics beside fast ones, each in a process of its own.

Both processes feed the same ids to the same checkpoint: a prompt of 1K, then 64 tokens one by one, whatever the model
would have said. `python -m benchmarks.batching.numerics CHECKPOINT OUT PROMPT FORCED` is one of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from agentmem.model import forward, loader
from agentmem.model.prefill import LOGIT_TOLERANCE
from benchmarks import machine
from benchmarks.batching.cases import Cases, random_ids
from benchmarks.numerics import Trace, distance, goes_on, prefilled
from benchmarks.ttft import timed


def exactness(checkpoint: Path, cases: Cases) -> dict[str, Any]:
    """reference_over_fast: least seconds. flips, logits, choices: see `benchmarks.numerics.Distance`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.npz"
        turns = [_in_process(checkpoint, out, wheel, cases) for wheel in (False, True, True, False)]
    fast, reference = turns[:2]
    apart = distance(*(Trace(one["logits"], one["words"]) for one in (reference, fast)))
    seconds = {
        f"{kind}_{part}": min(float(turns[place][part]) for place in places)
        for kind, places in (("fast", (0, 3)), ("reference", (1, 2)))
        for part in ("prefill_s", "decode_s")
    }
    return {
        "prefill_reference_over_fast": seconds["reference_prefill_s"] / seconds["fast_prefill_s"],
        "decode_reference_over_fast": seconds["reference_decode_s"] / seconds["fast_decode_s"],
        "paths": [str(one["path"]) for one in (reference, fast)],
        "level_flips": apart.flips / apart.levels,
        "logit_difference": apart.logits,
        "logit_tolerance": LOGIT_TOLERANCE,
        "other_choices": apart.choices,
        "levels": apart.levels,
        **seconds,
    }


def _in_process(checkpoint: Path, out: Path, wheel: bool, cases: Cases) -> dict[str, np.ndarray]:
    environment = {**os.environ}
    if wheel:
        environment.pop("LD_PRELOAD", None)
        environment["AGENTMEM_BENCH_BLAS"] = "wheel"
    module = [sys.executable, "-m", "benchmarks.batching.numerics"]
    subprocess.run(
        [*module, str(checkpoint), str(out), str(cases.equal), str(cases.forced)], env=environment, check=True
    )
    with np.load(out) as arrays:
        return dict(arrays)


def _measure(checkpoint: str, out: str, prompt: int, forced: int) -> None:
    model = loader.load(checkpoint)
    ids = random_ids(prompt + forced, 0)
    prefilled(model, ids[:64])  # warms up
    began = time.perf_counter()
    state = prefilled(model, ids[:prompt])
    prefill_s = time.perf_counter() - began
    found = goes_on(model, state, ids[prompt:])
    decode_s = min(timed(lambda: forward.last_logits(model, state, ids[:1])) for _ in range(forced))
    np.savez(
        out,
        prefill_s=prefill_s,
        decode_s=decode_s,
        logits=found.logits,
        words=found.words,
        path=f"{model.numerics} numerics, {model.prefill.value} prefill",
    )


if __name__ == "__main__":
    machine.prefer_openblas()
    _measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

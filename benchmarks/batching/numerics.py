"""What exactness costs and what it is worth: reference numerics beside fast ones, each in a process of its own.

Both processes feed the same ids to the same checkpoint: a prompt of 1K, then 64 tokens one by one, whatever the model
would have said. `python -m benchmarks.batching.numerics CHECKPOINT OUT PROMPT FORCED` is one of them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path

import mlx.core as mx
import numpy as np

from agentmem.kv.state import AgentState
from agentmem.model import forward, loader
from agentmem.types import BLOCK_TOKENS
from benchmarks import machine
from benchmarks.batching.cases import Cases, random_ids
from benchmarks.ttft import timed


def exactness(checkpoint: Path, cases: Cases) -> dict[str, float | str]:
    """reference_over_fast: seconds. level_flips: share of the 4-bit levels of all keys and values that differ."""
    with tempfile.TemporaryDirectory() as folder:
        turns = [
            _in_process(checkpoint, Path(folder) / "out.npz", wheel, cases) for wheel in (False, True, True, False)
        ]
    fast, reference = turns[:2]
    for name in ("prefill_s", "decode_s"):
        fast[name], reference[name] = (turns[0][name] + turns[3][name]) / 2, (turns[1][name] + turns[2][name]) / 2
    apart = np.abs(fast["logits"] - reference["logits"])
    differ = fast["levels"] != reference["levels"]
    return {
        "prefill_reference_over_fast": float(reference["prefill_s"] / fast["prefill_s"]),
        "decode_reference_over_fast": float(reference["decode_s"] / fast["decode_s"]),
        "paths": f"{reference['numerics']} over {fast['numerics']}",
        "level_flips": float(differ.mean()),
        "level_flips_count": int(differ.sum()),
        "levels": int(differ.size),
        "logit_difference": float(apart.max()),
        "logit_difference_relative": float(apart.max() / np.abs(reference["logits"]).max()),
        "same_greedy_token": float((fast["logits"].argmax(1) == reference["logits"].argmax(1)).mean()),
        "fast_prefill_s": float(fast["prefill_s"]),
        "reference_prefill_s": float(reference["prefill_s"]),
        "fast_decode_ms": 1000 * float(fast["decode_s"]),
        "reference_decode_ms": 1000 * float(reference["decode_s"]),
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
    deque(forward.prefill(model, AgentState(model.layout), ids[:64]), 0)  # warms up
    state = AgentState(model.layout)
    prefill_s = timed(lambda: deque(forward.prefill(model, state, ids[:prompt]), 0))
    logits, seconds = [], []
    for token in ids[prompt:]:
        seconds.append(timed(lambda token=token: logits.append(forward.last_logits(model, state, [token]))))
    np.savez(
        out,
        prefill_s=prefill_s,
        decode_s=statistics.median(seconds),
        logits=np.array(mx.stack(logits)),
        levels=_levels(state),
        numerics=model.numerics,
    )


def _levels(state: AgentState) -> np.ndarray:
    """The 4-bit levels of all positions' keys and values, flat."""
    packed = []
    for start in range(0, state.offset, BLOCK_TOKENS):
        block = state.read(start, min(start + BLOCK_TOKENS, state.offset))
        packed += [block[name].ravel() for name in sorted(block) if name.endswith("weight")]
    return (np.concatenate(packed)[:, None] >> np.arange(0, 32, 4, dtype=np.uint32) & 15).astype(np.uint8).ravel()


if __name__ == "__main__":
    machine.prefer_openblas()
    _measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

"""Benchmarks run, and say what they measured. What the figures are is another matter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def measured(benchmark: str) -> dict[str, Any]:
    command = [sys.executable, "-m", benchmark, "--json", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert figures["quick"] is True
    assert {"mlx", "mlx-lm", "blas", "cpu"} <= figures["machine"].keys()
    return figures


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_batching_says_what_it_measured() -> None:
    figures = measured("benchmarks.batching")
    assert {"same_path", "best_stock"} <= figures["cold_over_mlx_lm"][0].keys()
    assert figures["stream"].keys() == {"embedded", "8x512"}
    assert all(case["stream_over_loop"] > 0 for case in figures["stream"].values())
    assert figures["ragged_over_padded"].keys() == {"ragged", "equal", "equal_mid_segment"}
    assert {"join_ratio", "waiting_ratio"} <= figures["join"].keys()
    assert {"shared_prefix_speedup", "shared_mb_per_step"} <= figures["shared_prefix"].keys()
    assert figures["shared_ram"]["shared_prefix_ram"] <= 1.05
    assert figures["batch_scaling"].keys() == {"1", "2", "4"}
    assert 0 < figures["batch_scaling"]["4"]["python_share"] < 1
    assert "hidden_restore_ms" in figures["hidden_restore"]
    assert figures["reference_over_fast"]["level_flips"] < 0.05


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_documents_says_what_it_measured() -> None:
    ways = measured("benchmarks.documents")["documents"]["2"]
    assert {"exact", "reposition", "blend 0.15"} <= ways.keys()
    assert (ways["exact"]["error"], ways["reposition"]["error"] > 0) == (0, True)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_latent_says_what_it_measured() -> None:
    figures = measured("benchmarks.latent")
    ways = {"answer_text", "review_text", "review_latent_0", "vote_latent_2", "plan_execute_latent_2"}
    assert ways <= figures["recall"].keys()
    assert ways <= figures["costs"].keys()
    assert {"untold", "shuffled"} <= figures["recall"].keys()
    plain, review = figures["recall"]["answer_text"], figures["recall"]["review_latent_2"]
    assert (plain["latent_steps"], review["latent_steps"] > 0) == (0, True)
    for errors in figures["errors"].values():
        moved = errors["shift_256"]
        assert moved["keys_moved_over_there"] > 0
        assert moved["keys_moved_over_exact"] == pytest.approx(moved["keys_there_over_exact"], rel=0.1)
        assert errors["blend"]["all_over_full"] < 0.1 * errors["blend"]["all_over_full_exact"]
    assert plain["accuracy"] > figures["recall"]["untold"]["accuracy"]
    assert figures["costs"]["answer_text"]["seconds_over_one"] == 1

"""Whatever goes on at once, each agent says and remembers what it would have alone (issue 4, must hold)."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.engine.schedules import Schedule, Solo, play, schedules
from tests.helpers.checkpoints import ALL, RECURRENT, WINDOWED, Spec, write

CONTEXT = 1280
SMALL = {"heads": 2, "kv_heads": 2, "width": 128, "context": CONTEXT}
CHECKPOINTS = [replace(spec, **SMALL) for spec in (ALL[0], ALL[4], ALL[5], WINDOWED, RECURRENT)]  # type: ignore[arg-type]
NAMES = ("llama", "qwen3-untied", "qwen3-tied", "windowed", "recurrent")


@pytest.mark.reference
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("spec", CHECKPOINTS, ids=NAMES)
@pytest.mark.parametrize("examples", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_random_schedules(examples: int, spec: Spec, tmp_path: Path) -> None:
    checkpoint = write(tmp_path / "checkpoint", spec)
    check(checkpoint, examples, tmp_path)


def check(checkpoint: Path | None, examples: int, folder: Path) -> None:
    solo, numbers = Solo(checkpoint, folder / "solo"), itertools.count()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples < 10,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(schedules())
    def holds(schedule: Schedule) -> None:
        state = folder / str(next(numbers))
        play(schedule, checkpoint, state, solo)
        shutil.rmtree(state)

    try:
        holds()
    finally:
        solo.engine.close()

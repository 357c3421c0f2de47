"""Whatever goes on at once, each agent says and remembers what it would have alone (issue 4, must hold)."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

from agentmem.engine.request import ChatInput, Durability, OnCancel, Sampling, TokenInput
from agentmem.types import Message, Priority
from tests.engine.schedules import SCHEMA, Act, Ask, At, Schedule, Solo, play, schedules
from tests.helpers.checkpoints import ALL, RECURRENT, WINDOWED, Spec, write

CONTEXT = 900
SMALL = {"heads": 2, "kv_heads": 2, "width": 128, "context": CONTEXT}
CHECKPOINTS = [replace(spec, **SMALL) for spec in (ALL[0], ALL[4], ALL[5], WINDOWED, RECURRENT)]  # type: ignore[arg-type]
NAMES = ("llama", "qwen3-untied", "qwen3-tied", "windowed", "recurrent")


HELD = Sampling(max_tokens=20, json_schema=SCHEMA)
RICH = Schedule(
    items=(
        Ask(At(event=1), 0, ("shared", 540), Sampling(max_tokens=24), priority=Priority.LOW),
        Ask(At(event=1), 1, ("other", 512), Sampling(1.5, seed=1, max_tokens=20), durability=Durability.WRITE_BEHIND),
        Act(At(back=2, event=9), "aside", number=2),
        Act(At(back=3, event=6), "fork", agent=0),  # once the reply has ended
        Ask(
            At(back=3, event=5), 2, ("shared", 300), Sampling(0.7, top_k=5, seed=2), 9, OnCancel.DISCARD, Priority.HIGH
        ),
        Ask(At(back=4, event=12), 2, ("shared", 300), Sampling(0.7, top_k=5, seed=2), 14, OnCancel.COMMIT),
        Ask(At(back=3), 3, ChatInput((Message("user", ("who are you",)),)), HELD),  # the fork
        Ask(At(back=4), 0, ChatInput((Message("user", ("the quick fox",)),)), Sampling(1.0, seed=5, max_tokens=20)),
        Act(At(back=2, event=2), "evict", agent=1),
        Ask(At(back=3, event=3), 1, TokenInput((7, 8)), Sampling(max_tokens=12, stop=("e", "the"))),
        Act(At(back=3, event=3), "rewind", agent=0, number=1),
        Ask(At(back=5, event=4), 0, ("other", 17), Sampling(max_tokens=6)),
        Act(At(back=6, event=5), "aside", number=6),
    ),
    max_batch=4,
    ram=1.0,
)
"""Something of everything."""


@pytest.mark.reference
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("spec", CHECKPOINTS, ids=NAMES)
@pytest.mark.parametrize("examples", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_random_schedules(examples: int, spec: Spec, tmp_path: Path) -> None:
    checkpoint = write(tmp_path / "checkpoint", spec)
    check(checkpoint, examples, tmp_path)


@pytest.mark.reference
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_random_schedules_on_the_embedded_model(tmp_path: Path) -> None:
    check(None, 12, tmp_path)


def check(checkpoint: Path | None, examples: int, folder: Path) -> None:
    solo, numbers = Solo(checkpoint, folder / "solo"), itertools.count()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples < 10,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @example(RICH)
    @example(replace(RICH, ahead=True, ram=1e6))
    @given(schedules())
    def holds(schedule: Schedule) -> None:
        state = folder / str(next(numbers))
        play(schedule, checkpoint, state, solo)
        shutil.rmtree(state)

    try:
        holds()
    finally:
        solo.engine.close()

"""What `stats` and `top` make of the daemon's figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentmem_client import Stats, StepTimes


def hit_rates(stats: Stats) -> dict[str, float] | None:
    """Shares of all prompt tokens: found in RAM, restored from disk, computed. None before there was a prompt."""
    counts = {
        "hot": stats.reused_hot_tokens_total,
        "warm": stats.reused_warm_tokens_total,
        "computed": stats.recomputed_tokens_total + stats.prefill_tokens_total,
    }
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else None


def step_split(steps: StepTimes) -> dict[str, float]:
    """Seconds of decode steps, by what they were spent on. What was spent between them, on prompts, is not in it."""
    return {
        "schedule": steps.schedule_s,
        "graph": steps.graph_s,
        "device": steps.device_s,
        "sample": steps.sample_s,
        "stream": steps.stream_s,
    }


def percent(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "-"

"""Taking turns: what is compared is timed by turns, so that a machine that drifts slows all of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

Seconds = dict[str, list[float]]


def by_turns(works: Mapping[str, Callable[[], float]], rounds: int) -> Seconds:
    """What each work returned in each round; every second round goes backwards."""
    seen: Seconds = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works)[:: -1 if number % 2 else 1]:
            seen[name].append(works[name]())
    return seen


def medians(seen: Seconds, unit: str = "s", scale: float = 1) -> dict[str, float]:
    return {f"{name}_{unit}": scale * statistics.median(values) for name, values in seen.items()}


def ratio(seen: Seconds, over: str, under: str) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(seen[over], seen[under], strict=True))

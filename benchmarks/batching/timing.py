"""Taking turns: what is compared is timed by turns, so that a machine that drifts slows all of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


class Turns:
    """values: what each work returned in each round; every second round goes backwards.

    cpu: processor seconds of this process meanwhile, which tell more where others use the machine too.
    """

    def __init__(self, works: Mapping[str, Callable[[], float]], rounds: int) -> None:
        self.values: dict[str, list[float]] = {name: [] for name in works}
        self.cpu: dict[str, list[float]] = {name: [] for name in works}
        for number in range(rounds):
            for name in list(works)[:: -1 if number % 2 else 1]:
                began = time.process_time()
                self.values[name].append(works[name]())
                self.cpu[name].append(time.process_time() - began)

    def ratio(self, over: str, under: str) -> float:
        """Median of the rounds' ratios."""
        return _ratio(self.values[over], self.values[under])

    def cpu_ratio(self, over: str, under: str) -> float:
        return _ratio(self.cpu[over], self.cpu[under])

    def medians(self, unit: str = "s", scale: float = 1) -> dict[str, float]:
        return {f"{name}_{unit}": scale * statistics.median(values) for name, values in self.values.items()}


def _ratio(over: list[float], under: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(over, under, strict=True))

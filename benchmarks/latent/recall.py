"""How many facts each way gets right on the embedded model, and what that costs.

The first agents of a flow have been told the facts; nobody else has read them. Controls: agents that were told nothing,
and agents that go on from the state of one that was told other facts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from agentmem_daemon.tasks import wilson

from agentmem.engine.engine import Engine
from agentmem.primitives.flow import Medium
from agentmem.primitives.pte import DeviceRatio
from benchmarks.latent.items import Item
from benchmarks.latent.ways import ONE, Outcome, Reader, Way, run

LONGEST_REPLY = 48
AT_ONCE = 8
"""Items that are worked on side by side where only answers count."""

Figures = dict[str, float | int | list[float]]
Answer = Callable[[int], Outcome]


class Recall:
    """timed: how many of the items are run one by one, for seconds."""

    def __init__(self, engine: Engine, items: Sequence[Item], timed: int, ratio: DeviceRatio) -> None:
        self._engine, self._items, self._timed, self._ratio = engine, items, timed, ratio

    def of(self, way: Way) -> Figures:
        return self._figures(lambda number: self._with(way, number, number))

    def untold(self) -> Figures:
        """A control: one agent that has not read the facts."""
        return self._figures(self._untold)

    def shuffled(self, steps: int) -> Figures:
        """A control: what is handed over is of another item."""
        way, count = Way("plan_execute", Medium.LATENT, steps), len(self._items)
        return self._figures(lambda number: self._with(way, number, (number + 1) % count))

    def _with(self, way: Way, number: int, told: int) -> Outcome:
        with Reader(self._engine, self._items[told].told) as reader:
            return run(self._engine, way, self._items[number].task.question, reader, self._ratio, LONGEST_REPLY)

    def _untold(self, number: int) -> Outcome:
        return run(self._engine, ONE, self._items[number].task.question, None, self._ratio, LONGEST_REPLY)

    def _figures(self, answer: Answer) -> Figures:
        """Means over all items; the seconds are the median of those that ran alone."""
        alone = [answer(number).seconds for number in range(min(self._timed, len(self._items)))]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            outcomes = list(pool.map(answer, range(len(self._items))))
        right = sum(item.task.is_right(one.text) for item, one in zip(self._items, outcomes, strict=True))
        return {
            "items": len(outcomes),
            "accuracy": right / len(outcomes),
            "interval": list(wilson(right, len(outcomes))),
            "tokens": _mean(outcomes, lambda one: one.tokens),
            "latent_steps": _mean(outcomes, lambda one: one.latent_steps),
            "prefill_tokens": _mean(outcomes, lambda one: one.prefill),
            "saved_tokens": _mean(outcomes, lambda one: one.saved),
            "pte": _mean(outcomes, lambda one: one.pte),
            "kib": _mean(outcomes, lambda one: one.bytes / 1024),
            "fell_back": sum(one.fell_back for one in outcomes),
            "seconds": statistics.median(alone),
        }


def _mean(outcomes: Sequence[Outcome], what: Callable[[Outcome], float]) -> float:
    return statistics.fmean(map(what, outcomes))

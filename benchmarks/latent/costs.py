"""What the ways cost on a larger model of random weights, whose replies are as long as they may be: ratios only."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from agentmem.engine.engine import Engine
from agentmem.primitives.pte import DeviceRatio
from benchmarks.batching.cases import random_ids
from benchmarks.batching.timing import Turns
from benchmarks.latent.ways import ONE, Outcome, Reader, Way, run

QUESTION = "What follows from all that was said above, and what should be done about it first?"


def costs(
    engine: Engine, ways: Sequence[Way], told: int, reply: int, repeats: int, ratio: DeviceRatio
) -> dict[str, dict[str, float]]:
    """Of each way over one agent's. told: tokens that the first agents have read; reply: tokens of each text."""
    outcomes: dict[str, Outcome] = {}

    def work(way: Way) -> float:
        with Reader(engine, tuple(random_ids(told, 1))) as reader:
            outcomes[way.name] = run(engine, way, QUESTION, reader, ratio, reply)
        return outcomes[way.name].seconds

    works = {way.name: lambda way=way: work(way) for way in ways}
    Turns(works, 1)
    turns, one = Turns(works, repeats), outcomes[ONE.name]
    return {
        way.name: {
            "seconds": median(turns.values[way.name]),
            "seconds_over_one": turns.ratio(way.name, ONE.name),
            "tokens": outcomes[way.name].tokens,
            "latent_steps": outcomes[way.name].latent_steps,
            "prefill_tokens": outcomes[way.name].prefill,
            "pte_over_one": outcomes[way.name].pte / one.pte,
        }
        for way in ways
    }

"""Recall tasks: an agent was told a small grid of facts; whoever is asked for one of them may have read them or not.

Names, attributes, values and phrasings come from the half that training never saw, as in `benchmarks.recall`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from agentmem_daemon.tasks import Task

from agentmem.types import Message
from training import facts

GRID = (2, 2)


@dataclass(frozen=True)
class Item:
    """told: what the agent with the facts has read, in turns."""

    task: Task
    told: tuple[Message, ...]


def items(count: int, seed: int) -> Iterator[Item]:
    """One question for each grid of facts; none that names its answer."""
    rng = Random(f"latent-{seed}")
    number = 0
    while number < count:
        known = facts.world(facts.Source(rng, test=True), *GRID, keep=1.0)
        asked = rng.choice(known)
        task = Task(str(number), facts.ask(rng, asked), (asked.value,))
        if task.is_right(task.question):
            continue
        number += 1
        told = tuple(
            message
            for fact in known
            for message in (Message("user", (facts.tell(rng, fact),)), Message("assistant", (facts.NOTED,)))
        )
        yield Item(task, told)

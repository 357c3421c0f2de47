"""What the knowledge pool returns: frozen, plain Python."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PoolEntry:
    """A kind of task, and the plan that suits it.

    plan: JSON. why: the reason for that composition. source: "shipped" or "learned". outcomes: how many runs of its
    plan were scored; mean_score: 0 to 1. similarity: how much of what a query's words say the
    entry covers, 0 to 1; a run takes no plan of one under 0.35.
    """

    id: str
    title: str
    description: str
    tags: tuple[str, ...]
    plan: str
    why: str
    source: str
    outcomes: int
    mean_score: float
    similarity: float

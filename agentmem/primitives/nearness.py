"""How near an entry of the knowledge pool is to a query: by the words that they share, on a scale that means the same
for every query.

    similarity = (weight of the query's words that the entry has) / (weight of all of them), 0 to 1

A word weighs log(1 + N/n), n of the N entries having it: what many have says little. One that no entry has is what the
task is about, rather than of which kind it is, and counts by UNKNOWN. A word that an entry has only in its description
counts by PASSING. What is to be done stands at a query's beginning or at its end: each is looked at, the better counts.
A query of few or of common words is measured as one that weighs as much as LEAST words that no entry has, in full: so a
single common word makes nothing near.

The constants were chosen with the shipped entries and the queries in the tests; they lie in the middle of a plateau.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

FLOOR = 0.35
"""What is less similar to a query is not near it: its plan is not run."""
PASSING = 0.5
UNKNOWN = 0.3
LEAST = 2


@dataclass(frozen=True)
class Holders:
    """Numbers of the entries that have a word; titled: in their title or tags."""

    all: AbstractSet[int] = frozenset()
    titled: AbstractSet[int] = frozenset()


class Nearness:
    """To one query. ends: words of its beginning and of its end; holders: of each; count: of entries in the pool."""

    def __init__(self, ends: Sequence[Sequence[str]], holders: Mapping[str, Holders], count: int) -> None:
        rare = math.log1p(2 * count)  # of a word that no entry has: as if half a one had it
        self._ends, self._holders = ends, holders
        self._weights = {w: math.log1p(count / len(h.all)) if h.all else UNKNOWN * rare for w, h in holders.items()}
        self._least = LEAST * rare

    def similarity(self, number: int) -> float:
        """Of the entry of that number."""
        return max((self._share(end, number) for end in self._ends), default=0.0)

    def _share(self, end: Sequence[str], number: int) -> float:
        weight = math.fsum(self._weights[word] for word in end)
        shared = math.fsum(self._weights[word] * self._counts(word, number) for word in end)
        return shared / max(weight, self._least)

    def _counts(self, word: str, number: int) -> float:
        holders = self._holders[word]
        return 1.0 if number in holders.titled else PASSING if number in holders.all else 0.0

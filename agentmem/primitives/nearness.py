"""How near an entry of the knowledge pool is to a query: by the words that they share, on a scale that means the same
for every query.

    similarity = (weight of the query's words that the entry has) / (weight of all of them), 0 to 1

A word weighs log(1 + N/n), n of the N shipped entries having it: what many have says little. What is learned changes
no weight: else a user's own kind of task would count less and less, the more often it comes. A word that no shipped
entry has is what the task is about, rather than of which kind it is, and counts by UNKNOWN. A word that a learned entry
has, and no shipped one in its title or tags, may be of a kind that only this user knows: for that entry it counts by
OWN, so that one such word makes it not near, and two do. A word that an entry has only in its description counts by
PASSING. What is to be done stands at a query's beginning or at its end: each is looked at, the better counts. A query
of few or of common words is measured as one that weighs as much as LEAST words that no entry has, in full: so a single
common word makes nothing near. But a learned entry of the very words of a query is as similar as can be (1), however
few and common they are.

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
OWN = 0.6
LEAST = 2


@dataclass(frozen=True)
class Holders:
    """Numbers of the entries that have a word; titled: in their title or tags."""

    all: AbstractSet[int] = frozenset()
    titled: AbstractSet[int] = frozenset()


class Nearness:
    """To one query. ends: words of its beginning and of its end; holders: of each; shipped: numbers of such entries."""

    def __init__(
        self, ends: Sequence[Sequence[str]], holders: Mapping[str, Holders], shipped: AbstractSet[int]
    ) -> None:
        count = max(len(shipped), 1)  # a pool without them has all weights alike
        self._rare = math.log1p(2 * count)  # of a word that no entry has: as if half a one had it
        known = {word: len(held.all & shipped) for word, held in holders.items()}
        self._weights = {word: math.log1p(count / n) for word, n in known.items() if n}
        self._kinds = {word for word, held in holders.items() if held.titled & shipped}
        self._shipped = shipped
        self._ends, self._holders = ends, holders
        self._similarities: dict[tuple[bool, tuple[int, ...]], float] = {}

    def similarity(self, number: int) -> float:
        """Of the entry of that number."""
        held = tuple((number in h.all) + (number in h.titled) for h in self._holders.values())
        alike = (number in self._shipped, held)  # thousands may be: a kind of task comes again and again
        if (known := self._similarities.get(alike)) is None:
            known = self._similarities[alike] = max((self._share(end, number) for end in self._ends), default=0.0)
        return known

    def covered(self, number: int) -> bool:
        """Whether the entry has all words of the query."""
        return all(number in self._holders[word].all for end in self._ends for word in end)

    def _share(self, end: Sequence[str], number: int) -> float:
        weight = math.fsum(self._weight(word, number) for word in end)
        shared = math.fsum(self._weight(word, number) * self._counts(word, number) for word in end)
        return shared / max(weight, LEAST * self._rare)

    def _weight(self, word: str, number: int) -> float:
        if word not in self._kinds and number in self._holders[word].all and number not in self._shipped:
            return OWN * self._weights.get(word, self._rare)
        return self._weights.get(word, UNKNOWN * self._rare)

    def _counts(self, word: str, number: int) -> float:
        holders = self._holders[word]
        return 1.0 if number in holders.titled else PASSING if number in holders.all else 0.0

"""Where the blocks of a timeline begin: every 256 positions from position 0 on, and anew behind each splice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from agentmem.types import BLOCK_TOKENS


class SpliceRun(NamedTuple):
    """The blocks of a timeline that one splice has put there. place: of the first. blocks: how many."""

    place: int
    blocks: int

    @property
    def end(self) -> int:
        """The place behind the last."""
        return self.place + self.blocks


@dataclass(frozen=True)
class Grid:
    """The one that runs on to the end of a timeline: its first block has the place `place`, and begins at `start`."""

    place: int = 0
    start: int = 0

    def place_of(self, position: int) -> int:
        """Of the block that has, or will have, a position from `start` on."""
        return self.place + (position - self.start) // BLOCK_TOKENS

    def start_of(self, place: int) -> int:
        """The first position of the block at a place from `place` on."""
        return self.start + (place - self.place) * BLOCK_TOKENS


def starts(used: Iterable[int]) -> list[int]:
    """The first position of each block of a timeline, and the end. used: positions in each.

    Blocks of a splice have those of it together: rows of one may stand between rows of another.
    """
    return list(accumulate(used, initial=0))


def grid(used: Sequence[int], splices: Sequence[SpliceRun]) -> Grid:
    """Of a timeline. used: positions in each of its blocks."""
    place = splices[-1].end if splices else 0
    return Grid(place, sum(used[:place]))


def is_spliced(place: int, splices: Iterable[SpliceRun]) -> bool:
    """Whether a splice has put the block at a place there."""
    return any(run.place <= place < run.end for run in splices)


def splices_fit(splices: Sequence[SpliceRun], blocks: int) -> bool:
    """Whether they can be those of a timeline of so many blocks."""
    ends = [0, *(run.end for run in splices)]
    ordered = all(end <= run.place and run.blocks > 0 for end, run in zip(ends, splices, strict=False))
    return ordered and ends[-1] <= blocks

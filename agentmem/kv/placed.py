"""A span's piece where a splice has put it: at rows of its own, its keys rotated for other positions.

An agent that holds one counts segments per piece, as they are held, and no longer from position 0: each segment of each
piece is summed over as a whole, in the order in which pieces are held, and rows that are not the agent's count for
nothing. So the order of sums follows from the splice alone (`kv.attention`).
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from agentmem.kv.rotation import Frequencies
from agentmem.kv.span import Piece
from agentmem.types import BLOCK_TOKENS

UNUSED = np.iinfo(np.int64).max
"""In place of a row's position: the agent does not have this row."""


class Placed(Piece):
    """Shares the arrays of `source`.

    rows: int64 [segments * 256], the agent's position of each row of the piece, or UNUSED. shift: what is to be added
    to the position that its keys are rotated for to have the agent's. frequencies: of the layer; None where the shift
    is 0.
    """

    def __init__(self, source: Piece, rows: np.ndarray, shift: int = 0, frequencies: Frequencies | None = None) -> None:
        if rows.shape != (source.segments * BLOCK_TOKENS,):
            raise ValueError("every row of the piece needs a position, or UNUSED")
        if shift and frequencies is None:
            raise ValueError("a shift needs the layer's frequencies")
        super().__init__(source.keys, source.values)
        self.source, self.rows, self.shift, self.frequencies = source, rows, shift, frequencies
        places = np.nonzero(rows != UNUSED)[0]
        begin, end = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
        self.used = slice(begin // BLOCK_TOKENS, -(-end // BLOCK_TOKENS))
        """The segments that have rows of the agent's; the others are not attended to."""
        self.first = int(rows[places].min()) if len(places) else 0
        """The agent's first position in it."""

    @classmethod
    def growing(cls, source: Piece, start: int) -> Placed:
        """Of an agent's own positions, from `start` on."""
        return cls(source, np.arange(start, start + source.segments * BLOCK_TOKENS))

    @property
    def used_rows(self) -> np.ndarray:
        """The rows of the used segments."""
        return self.rows[self.used.start * BLOCK_TOKENS : self.used.stop * BLOCK_TOKENS]

    def parts(self, sources: tuple[Piece, Piece]) -> tuple[Placed, Placed]:
        """The same rows, where the source was cut in two."""
        border = sources[0].segments * BLOCK_TOKENS
        halves = (self.rows[:border], self.rows[border:])
        one, other = (Placed(s, r, self.shift, self.frequencies) for s, r in zip(sources, halves, strict=True))
        return one, other

    def side(self, packed: tuple[mx.array, mx.array, mx.array]) -> tuple[mx.array, mx.array, mx.array]:
        """Keys or values of the used segments."""
        if self.used == slice(0, self.segments):
            return packed
        weight, scales, biases = (part[self.used] for part in packed)
        return weight, scales, biases

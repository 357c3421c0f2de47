"""Runs of 256-position segments: of one layer (a piece), and of all layers, frozen and shared (a span)."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakSet

import mlx.core as mx

from agentmem.types import BLOCK_TOKENS

Quantised = tuple[mx.array, mx.array, mx.array]
"""Packed weights, scales, biases."""


class Piece:
    """Segments of one layer. `keys`, `values`: (weight, scales, biases), each [segments, kv_heads, 256, width]."""

    def __init__(self, keys: Quantised, values: Quantised) -> None:
        self.keys, self.values = keys, values

    @property
    def segments(self) -> int:
        return self.keys[0].shape[0]

    @property
    def arrays(self) -> tuple[mx.array, ...]:
        return (*self.keys, *self.values)

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self.arrays)

    def head(self, segments: int) -> Piece:
        """The first `segments` segments, without a copy."""
        return self.part(0, segments)

    def part(self, begin: int, end: int) -> Piece:
        """Segments [begin, end), without a copy."""
        if (begin, end) == (0, self.segments):
            return self
        return self._map(lambda a: a[begin:end])

    def copy(self, begin: int, end: int) -> Piece:
        """Segments [begin, end) in arrays of their own, so that what is not shared can be freed."""
        rows = mx.arange(begin, end)
        return self._map(lambda a: mx.take(a, rows, axis=0))

    def _map(self, change) -> Piece:  # type: ignore[no-untyped-def]
        k, v = (tuple(change(a) for a in side) for side in (self.keys, self.values))
        return Piece(k, v)  # type: ignore[arg-type]


class Span:
    """A frozen run of full blocks of all layers. It never changes; agents share it by reference.

    keys: those of its blocks once they are known, or none yet. holders: the states that hold it.
    """

    def __init__(self, layers: Iterable[Piece], keys: tuple[bytes, ...] = ()) -> None:
        self.layers = tuple(layers)
        self.keys = keys
        self.holders: WeakSet[object] = WeakSet()

    @property
    def segments(self) -> int:
        return self.layers[0].segments

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for piece in self.layers)

    def part(self, begin: int, end: int) -> Span:
        """Segments [begin, end), without a copy: it keeps all of this one's memory."""
        return Span(piece.part(begin, end) for piece in self.layers)

    def cut(self, segments: int) -> tuple[Span, Span]:
        """Two spans in place of this one, the first of `segments` segments. Their bytes add up to this one's."""
        halves = []
        for begin, end in ((0, segments), (segments, self.segments)):
            layers = [piece.copy(begin, end) for piece in self.layers]
            mx.eval([piece.arrays for piece in layers])
            halves.append(Span(layers, self.keys[begin:end]))
        return halves[0], halves[1]


def write_rows(buffer: mx.array, rows: mx.array, begin: int) -> None:
    """Writes rows [1, heads, count, width] at position `begin` of a segment-major buffer, in place."""
    done, count = 0, rows.shape[2]
    while done < count:
        segment, row = divmod(begin + done, BLOCK_TOKENS)
        whole = (count - done) // BLOCK_TOKENS if row == 0 else 0
        if whole:
            part = rows[0, :, done : done + whole * BLOCK_TOKENS]
            heads, _, width = part.shape
            buffer[segment : segment + whole] = part.reshape(heads, whole, BLOCK_TOKENS, width).swapaxes(0, 1)
            done += whole * BLOCK_TOKENS
        else:
            take = min(BLOCK_TOKENS - row, count - done)
            part = rows if take == count else rows[:, :, done : done + take]
            buffer[segment : segment + 1, :, row : row + take] = part
            done += take

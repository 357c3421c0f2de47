"""Runs of 256-position segments: of one layer (a piece), and of all layers, frozen and shared (a span)."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakSet

import mlx.core as mx

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
        if segments == self.segments:
            return self
        return self._map(lambda a: a[:segments])

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

    def cut(self, segments: int) -> tuple[Span, Span]:
        """Two spans in place of this one, the first of `segments` segments. Their bytes add up to this one's."""
        halves = []
        for begin, end in ((0, segments), (segments, self.segments)):
            layers = [piece.copy(begin, end) for piece in self.layers]
            mx.eval([piece.arrays for piece in layers])
            halves.append(Span(layers, self.keys[begin:end]))
        return halves[0], halves[1]

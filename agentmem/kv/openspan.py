"""A span that is being filled from the disk, by threads that know numpy only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np

from agentmem.kv.layers import Tensors
from agentmem.kv.layout import AttentionLayout
from agentmem.kv.span import Piece, Span

STEP_BYTES = 32 << 20
"""How much memory is taken at a time: the system hands out new pages at a gigabyte a second or two."""


class OpenSpan:
    """Full blocks on their way into RAM. The arrays are MLX's own, so what was put there need not be copied again.

    Made, read and closed on the executor thread. `put` writes through numpy views and may be called from any thread:
    each segment is written once, by one thread, and MLX does not look at it before that.
    """

    def __init__(self, layout: AttentionLayout, segments: int) -> None:
        self.layout, self.segments = layout, segments
        self._layers: list[list[mx.array]] = []
        self._views: list[list[np.ndarray]] = []
        self._filled: set[int] = set()

    def allocate(self) -> Iterator[None]:
        """To be gone through before anything is put. Yields between steps."""
        taken = 0
        for _ in range(self.layout.layers if self.segments else 0):
            arrays = [mx.zeros((self.segments, *self.layout.shape(n)[1:]), self._plain(n)) for n in self.layout.tensors]
            mx.eval(arrays)
            self._layers.append(arrays)
            self._views.append([_view(array) for array in arrays])
            taken += sum(array.nbytes for array in arrays)
            if taken >= STEP_BYTES:
                taken = 0
                yield

    def _plain(self, name: str) -> mx.Dtype:
        """numpy has no bfloat16."""
        dtype = self.layout.dtype_of(name)
        return mx.uint16 if dtype == mx.bfloat16 else dtype

    def put(self, segment: int, block: Tensors) -> None:
        """Copies a full block's rows to their place. Any thread."""
        for n, name in enumerate(self.layout.tensors):
            rows = block[name]
            if rows.shape != self.layout.shape(name):
                raise ValueError("only full blocks make a span")
            for views, of_layer in zip(self._views, rows, strict=True):
                views[n][segment] = of_layer
        self._filled.add(segment)

    def head(self, segments: int) -> Span:
        """The first segments, without a copy: for as long as the others are being filled."""
        return Span(piece.head(segments) for piece in self._pieces(segments))

    def close(self, segments: int) -> Span:
        """The first segments as a span. Nothing can be put afterwards."""
        pieces = self._pieces(segments)
        if segments < self.segments:  # what comes behind is not wanted, and its memory can be freed
            pieces = [piece.copy(0, segments) for piece in pieces]
        mx.eval([piece.arrays for piece in pieces])
        self._layers, self._views = [], []
        return Span(pieces)

    def _pieces(self, segments: int) -> list[Piece]:
        if not self._filled.issuperset(range(segments)):
            raise ValueError("a segment is not filled yet")
        pieces = []
        for arrays in self._layers:
            kw, ks, kb, vw, vs, vb = (
                array if array.dtype == self.layout.dtype_of(name) else array.view(self.layout.dtype_of(name))
                for name, array in zip(self.layout.tensors, arrays, strict=True)
            )
            pieces.append(Piece((kw, ks, kb), (vw, vs, vb)))
        return pieces


def _view(array: Any) -> np.ndarray:
    """MLX's memory as numpy sees it: what is written there the array has."""
    return np.asarray(memoryview(array))

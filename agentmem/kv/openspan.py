"""A span that is being filled from the disk, by threads that know numpy only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from agentmem.kv.layers import Tensors
from agentmem.kv.layout import AttentionLayout
from agentmem.kv.span import Piece, Span
from agentmem.types import BLOCK_TOKENS

STEP_BYTES = 16 << 20
"""How much memory is taken at a time: the system hands out new pages at a gigabyte a second or two."""


class OpenSpan:
    """Blocks on their way into RAM, a segment each. The arrays are MLX's own, so nothing need be copied again.

    Made, read and closed on the executor thread. `put` writes through numpy views and may be called from any thread:
    each segment is written once, by one thread, and MLX does not look at it before that.
    """

    def __init__(self, layout: AttentionLayout, segments: int) -> None:
        self.layout, self.segments = layout, segments
        self._shapes = {name: layout.shape(name) for name in layout.tensors}
        self._arrays: list[list[mx.array]] = []
        """Per run of layers the tensors, each [layers, segments, kv_heads, 256, width]. Few, for copies into many are
        many times that a thread gives up the interpreter's lock."""
        self._views: list[list[np.ndarray]] = []
        self._filled: set[int] = set()

    def allocate(self) -> Iterator[None]:
        """To be gone through before anything is put. Yields between steps."""
        layers, segment_bytes = self.layout.layers, BLOCK_TOKENS * self.layout.bytes_per_token
        run = max(1, STEP_BYTES * layers // max(1, self.segments * segment_bytes))
        for first in range(0, layers if self.segments else 0, run):
            if first:
                yield
            shape = min(run, layers - first), self.segments
            arrays = [mx.zeros((*shape, *whole[1:]), self._plain(name)) for name, whole in self._shapes.items()]
            mx.eval(arrays)
            self._arrays.append(arrays)
            self._views.append([_view(array) for array in arrays])

    def _plain(self, name: str) -> mx.Dtype:
        """numpy has no bfloat16."""
        dtype = self.layout.dtype_of(name)
        return mx.uint16 if dtype == mx.bfloat16 else dtype

    def put(self, segment: int, block: Tensors, rows: np.ndarray | None = None) -> None:
        """Copies a block's rows to their place; what is not there stays zero. Any thread.

        rows: which rows of the segment the block's are; None if it has them all.
        """
        count = BLOCK_TOKENS if rows is None else len(rows)
        if any(block[name].shape != (*shape[:2], count, shape[3]) for name, shape in self._shapes.items()):
            raise ValueError("only full blocks make a span, unless it is said which rows they have")
        first = 0
        for views in self._views:
            for name, view in zip(self._shapes, views, strict=True):
                own = block[name][first : first + len(view)]
                if rows is None:
                    view[:, segment] = own
                else:
                    view[:, segment][:, :, rows] = own
            first += len(views[0])
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
        self._arrays, self._views = [], []
        return Span(pieces)

    def close_apart(self, ends: Sequence[int]) -> list[Span]:
        """As `close`, in several spans that can be freed each by itself. ends: of each, in segments; may be none."""
        if len(ends) == 1:
            return [self.close(ends[0])]
        self._check_filled(max(ends, default=0))
        parts: list[list[Piece]] = [[] for _ in ends]
        while self._arrays:  # a few layers at a time, so that never all of it is there twice
            self._views.pop(0)
            for piece in self._of_layers(self._arrays.pop(0)):
                for part, begin, end in zip(parts, (0, *ends), ends, strict=False):
                    part.append(piece.copy(begin, end))
            mx.eval([piece.arrays for part in parts for piece in part])
            del piece
        return [Span(part) for part in parts]

    def _pieces(self, segments: int) -> list[Piece]:
        self._check_filled(segments)
        return [piece for arrays in self._arrays for piece in self._of_layers(arrays)]

    def _of_layers(self, arrays: list[mx.array]) -> list[Piece]:
        dtypes = [self.layout.dtype_of(name) for name in self.layout.tensors]
        typed = [a if a.dtype == dtype else a.view(dtype) for a, dtype in zip(arrays, dtypes, strict=True)]
        return [Piece((kw, ks, kb), (vw, vs, vb)) for kw, ks, kb, vw, vs, vb in zip(*typed, strict=True)]

    def _check_filled(self, segments: int) -> None:
        if not self._filled.issuperset(range(segments)):
            raise ValueError("a segment is not filled yet")


def _view(array: Any) -> np.ndarray:
    """MLX's memory as numpy sees it: what is written there the array has."""
    return np.asarray(memoryview(array))

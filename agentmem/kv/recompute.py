"""Rows of a state that are computed anew where they stand, between others that stay.

To the model each row is an agent of its own with one new position, since they may stand anywhere. Attention has them as
one agent's queries (`kv.attention`): they all hold the state's pieces, and each sees what is at or before it.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from agentmem.kv.batch import BatchQuantizedKVCache
from agentmem.kv.full import FullLayer
from agentmem.kv.layout import PARTS, AttentionLayout
from agentmem.kv.plan import Plan
from agentmem.kv.span import Piece, Quantised, Span, write_rows
from agentmem.types import BLOCK_TOKENS


def blank(layout: AttentionLayout, count: int) -> Span:
    """A span for `count` rows that are to be computed."""
    segments = -(-count // BLOCK_TOKENS)

    def side() -> Quantised:
        weight, scales, biases = (
            mx.zeros((segments, layout.kv_heads, BLOCK_TOKENS, layout.widths[part]), layout.part_dtype(part))
            for part in PARTS
        )
        return weight, scales, biases

    return Span(Piece(side(), side()) for _ in range(layout.layers))


class RowsCache(BatchQuantizedKVCache):
    """One layer, for rows [at, at + count) of a piece that it holds. Serves mlx-lm's model code as its cache object.

    target: the piece, which the layer's state has placed at `positions`, in ascending order; of the rows in question.
    plans: as the base's. fused: as `Batch`'s.
    """

    def __init__(
        self, layer: FullLayer, target: Piece, positions: np.ndarray, at: int, plans: list[Plan], fused: bool
    ) -> None:
        super().__init__([layer], mx.array(positions.astype(np.int32)), plans, fused, fused)
        self._positions, self._target, self._at = positions, target, at

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[RowsCache, RowsCache]:
        """Writes keys and values [rows, kv_heads, 1, head_dim] to their places."""
        for side, new in ((self._target.keys, keys), (self._target.values, values)):
            packed = mx.quantize(new.swapaxes(0, 2), self.group_size, self.bits)
            for buffer, rows in zip(side, packed, strict=True):
                write_rows(buffer, rows, self._at)
        self._held = [self._layers[0].pieces()]
        return self, self

    def _asking(self, count: int) -> np.ndarray:
        return self._positions[None]


class ContextKeys:
    """In the place of the last layer that is run: has the keys that the layer would append, and nothing else.

    They are not quantised. What comes of the layer's attention no one asks for, so MLX never computes it.

    offset: the position of the first. keys: [1, kv_heads, count, head_dim], once the layer was called.
    """

    keys: mx.array

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def make_mask(self, count: int, return_array: bool = False, window_size: int | None = None) -> None:
        return None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.keys = keys
        return keys, values

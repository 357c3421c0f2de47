"""Rows of a state that are computed anew where they stand, between others that stay.

To the model each row is an agent of its own with one new position, since they may stand anywhere; they all hold the
state's pieces. So they are attended from as a batch that shares everything, and each sees what is at or before it.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    plans: those of the step, shared by equal layers.
    """

    def __init__(
        self, layer: FullLayer, target: Piece, positions: Sequence[int] | np.ndarray, at: int, plans: list[Plan]
    ) -> None:
        super().__init__([layer], mx.array(np.asarray(positions, np.int32)), plans)
        self._positions = [int(position) for position in positions]
        self._target, self._at = target, at

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[RowsCache, RowsCache]:
        """Writes keys and values [rows, kv_heads, 1, head_dim] to their places."""
        for side, new in ((self._target.keys, keys), (self._target.values, values)):
            packed = mx.quantize(new.swapaxes(0, 2), self.group_size, self.bits)
            for buffer, rows in zip(side, packed, strict=True):
                write_rows(buffer, rows, self._at)
        self._held = [self._layers[0].pieces()] * len(self._positions)
        return self, self

    def plans(self, count: int, heads: int) -> list[tuple[slice, Plan]]:
        if not self._plans:
            self._plans.append(Plan(self._held, self._positions, 1, None))
        return [(slice(0, 1), self._plans[0])]

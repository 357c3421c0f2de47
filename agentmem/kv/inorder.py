"""What one agent holds in a layer, dequantised and in order of position, wherever its rows lie."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from agentmem.kv.layout import AttentionLayout
from agentmem.kv.placed import Placed
from agentmem.kv.plan import Held
from agentmem.kv.rotation import Frequencies
from agentmem.kv.span import Quantised
from agentmem.types import BLOCK_TOKENS


class InOrder:
    """Positions [begin, end) of a layer, all of which are held."""

    def __init__(self, held: Held, layout: AttentionLayout, begin: int, end: int) -> None:
        self._layout, self._count = layout, end - begin
        self._keys: list[Quantised] = []
        self._values: list[Quantised] = []
        self._frequencies: Frequencies | None = None
        self._shifts = np.zeros(end - begin, np.int64)
        places, before = np.zeros(end - begin, np.int64), 0
        for first, piece in held:
            rows, keys, values = (
                np.arange(piece.segments * BLOCK_TOKENS) + first * BLOCK_TOKENS,
                piece.keys,
                piece.values,
            )
            if isinstance(piece, Placed):
                rows, keys, values = piece.used_rows, piece.side(keys), piece.side(values)
            wanted = (rows >= begin) & (rows < end)
            if not wanted.any():
                continue
            here = rows[wanted] - begin
            places[here] = before + np.nonzero(wanted)[0]
            if isinstance(piece, Placed) and piece.shift:
                self._shifts[here], self._frequencies = piece.shift, piece.frequencies
            self._keys.append(keys)
            self._values.append(values)
            before += len(rows)
        lie_so = np.array_equal(places, np.arange(len(places)))
        self._places = None if lie_so else mx.array(places)

    def keys(self, heads: slice) -> mx.array:
        """Of some KV heads, [1, heads, positions, head_dim], rotated for where they stand."""
        keys = self._dequantised(self._keys, heads)
        if self._frequencies is None:
            return keys
        turned = []
        for head in range(keys.shape[1]):  # What is stored is not turned, but this copy (DESIGN section 6).
            turned.append(self._frequencies.turn_each(keys[:, head : head + 1], self._shifts))
            mx.eval(turned[-1])  # or else what turning takes would be held for all heads at once
        return mx.concatenate(turned, axis=1)

    def values(self, heads: slice) -> mx.array:
        """The same of values."""
        return self._dequantised(self._values, heads)

    def _dequantised(self, pieces: list[Quantised], heads: slice) -> mx.array:
        gathered = []
        for parts in zip(*pieces, strict=True):
            by_head = [part[:, heads].swapaxes(0, 1).flatten(1, 2) for part in parts]
            joined = by_head[0] if len(by_head) == 1 else mx.concatenate(by_head, axis=1)
            gathered.append(joined[:, : self._count] if self._places is None else mx.take(joined, self._places, axis=1))
        weight, scales, biases = gathered
        return mx.dequantize(weight, scales, biases, group_size=self._layout.group_size, bits=self._layout.bits)[None]

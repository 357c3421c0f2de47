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
    """Positions of a layer up to `end`, all of which are held: from `begin` on, or from where the piece with it begins.

    begin, count: the first, and how many there are.
    """

    def __init__(self, held: Held, layout: AttentionLayout, begin: int, end: int) -> None:
        self._layout, self.begin, self.count = layout, begin, end - begin
        self._keys: list[Quantised] = []
        self._values: list[Quantised] = []
        self._frequencies: Frequencies | None = None
        self._shifts: np.ndarray | None = None
        self._places: mx.array | None = None
        if any(isinstance(piece, Placed) for _, piece in held):
            self._lay(held, begin, end)
            return
        lying = [(first * BLOCK_TOKENS, piece) for first, piece in held]
        lying = [(at, piece) for at, piece in lying if at < end and at + piece.segments * BLOCK_TOKENS > begin]
        self.begin = lying[0][0]
        self.count = end - self.begin
        self._keys, self._values = [piece.keys for _, piece in lying], [piece.values for _, piece in lying]

    def _lay(self, held: Held, begin: int, end: int) -> None:
        """Where the rows of pieces stand that a splice has put there."""
        shifts, places, before = np.zeros(end - begin, np.int64), np.zeros(end - begin, np.int64), 0
        for first, piece in held:
            rows = np.arange(first * BLOCK_TOKENS, (first + piece.segments) * BLOCK_TOKENS)
            keys, values = piece.keys, piece.values
            if isinstance(piece, Placed):
                rows, keys, values = piece.used_rows, piece.side(keys), piece.side(values)
            wanted = (rows >= begin) & (rows < end)
            if not wanted.any():
                continue
            here = rows[wanted] - begin
            places[here] = before + np.nonzero(wanted)[0]
            if isinstance(piece, Placed) and piece.shift:
                shifts[here], self._frequencies = piece.shift, piece.frequencies
            self._keys.append(keys)
            self._values.append(values)
            before += len(rows)
        self._shifts, self._places = shifts, mx.array(places)

    def keys(self, heads: slice) -> mx.array:
        """Of some KV heads, [1, heads, positions, head_dim], rotated for where they stand."""
        keys = self._dequantised(self._keys, heads)
        if self._frequencies is None or self._shifts is None:
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
            gathered.append(joined[:, : self.count] if self._places is None else mx.take(joined, self._places, axis=1))
        weight, scales, biases = gathered
        return mx.dequantize(weight, scales, biases, group_size=self._layout.group_size, bits=self._layout.bits)[None]

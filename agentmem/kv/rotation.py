"""Turning queries, so that keys that were rotated for one position serve at another (DESIGN section 6).

A key at position a carries the rotation R(a). Where it stands at position a + shift instead, a query at n, which
carries R(n), is turned back by the shift: R(n - shift) meets R(a) as R(n) meets R(a + shift). So stored keys never
change.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

MOST_KEPT = 1024
"""Turns whose cosines and sines are kept."""


class Frequencies:
    """Those of one rotary encoding. Equal layers may share one.

    inverse: radians per position of each pair of dimensions, [dims / 2]; dimensions behind them are not rotated.
    traditional: pairs are neighbours; else they lie half of `dims` apart.
    """

    def __init__(self, inverse: np.ndarray, traditional: bool) -> None:
        self.inverse = np.asarray(inverse, np.float64)
        self.traditional = traditional
        self._turns: dict[int, tuple[mx.array, mx.array]] = {}

    def turn(self, x: mx.array, positions: int) -> mx.array:
        """Rotates [..., head_dim] by so many positions more, or fewer; the same dtype and, but for rounding, length.

        Element by element: what else is in the array changes no bit.
        """
        return x if positions == 0 else self._rotated(x, *self._turn(positions))

    def turn_each(self, x: mx.array, positions: np.ndarray) -> mx.array:
        """The same of [..., rows, head_dim], each row by as many positions as is said for it."""
        distinct, which = np.unique(positions, return_inverse=True)
        turns = [self._turn(int(one)) for one in distinct]
        cos, sin = (mx.take(mx.stack(list(table)), mx.array(which), axis=0) for table in zip(*turns, strict=True))
        return self._rotated(x, cos, sin)

    def _rotated(self, x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
        dims = 2 * len(self.inverse)
        rotated, rest = x[..., :dims].astype(mx.float32), x[..., dims:]
        if self.traditional:
            one, other = rotated[..., ::2], rotated[..., 1::2]
        else:
            one, other = mx.split(rotated, 2, axis=-1)
        sides = [one * cos - other * sin, one * sin + other * cos]
        joined = mx.stack(sides, axis=-1).reshape(rotated.shape) if self.traditional else mx.concatenate(sides, axis=-1)
        return mx.concatenate([joined.astype(x.dtype), rest], axis=-1)

    def _turn(self, positions: int) -> tuple[mx.array, mx.array]:
        """Cosines and sines; angles in fp64, since positions are many radians."""
        if positions not in self._turns:
            if len(self._turns) >= MOST_KEPT:
                self._turns.clear()
            angles = positions * self.inverse
            self._turns[positions] = mx.array(np.cos(angles), mx.float32), mx.array(np.sin(angles), mx.float32)
        return self._turns[positions]

"""The one interface behind which the kinds of layers stand. `FullLayers`, `WindowLayers` and `RecurrentLayers` have it.

Appending and attending happen per layer, by the caches of `kv.batch`, which mlx-lm's model code is given; everything
else happens to all layers of a kind at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

Tensors = dict[str, np.ndarray]
"""A block's arrays by tensor name; bfloat16 as uint16."""


class LayerGroup(Protocol):
    """All layers of one kind in one agent's state."""

    @property
    def layers(self) -> Sequence[Any]:
        """One by one: `append` takes keys and values, and `pieces` are what is attended to.

        Those of recurrent layers have the arrays of their state as items instead.
        """

    @property
    def own_bytes(self) -> int:
        """Bytes of RAM that this state alone holds, spare room included."""

    def arrays(self) -> list[mx.array]:
        """What the last positions changed: evaluated after each step, so that no graph outlives it."""

    def make_room(self) -> None:
        """Called before positions are appended, on the arrays of a step that is done."""

    def mark(self) -> None:
        """The state may be trimmed back to the present end, until it is marked again."""

    def can_trim(self, length: int) -> bool:
        """Whether the positions from `length` on can be forgotten."""

    def trim(self, length: int) -> None:
        """Forgets them. Only if it can."""

    def read(self, start: int, end: int) -> Tensors:
        """What a block of the positions [start, end) of one segment holds of these layers, copied.

        A snapshot tells the state at the end; it can be read where the state ends or is marked.
        """


def to_mlx(array: np.ndarray, dtype: mx.Dtype) -> mx.array:
    out = mx.array(array)
    return out if out.dtype == dtype else out.view(dtype)


def to_numpy(array: mx.array) -> np.ndarray:
    """A copy. numpy has no bfloat16."""
    return np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)

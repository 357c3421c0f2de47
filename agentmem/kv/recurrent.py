"""Recurrent layers (convolutions, state-space models): a state of fixed size, replaced at every step."""

from __future__ import annotations

import mlx.core as mx

from agentmem.kv.layers import Tensors, to_mlx, to_numpy
from agentmem.kv.layout import RecurrentLayout


class RecurrentLayer:
    """One layer's state. Items are the arrays, [1, *shape], None before the first position."""

    def __init__(self, slots: int) -> None:
        self.slots: list[mx.array | None] = [None] * slots
        self.offset = 0

    def __getitem__(self, slot: int) -> mx.array | None:
        return self.slots[slot]

    def __setitem__(self, slot: int, array: mx.array) -> None:
        self.slots[slot] = array

    def advance(self, count: int) -> None:
        self.offset += count


class RecurrentLayers:
    """All recurrent layers. Arrays are replaced and never written to, so to mark a state is to keep hold of it."""

    def __init__(self, layout: RecurrentLayout) -> None:
        self.layout = layout
        self.layers = [RecurrentLayer(len(layout.shapes)) for _ in range(layout.layers)]
        self._marked: tuple[int, list[list[mx.array | None]]] = (0, self._slots())

    def _slots(self) -> list[list[mx.array | None]]:
        return [list(layer.slots) for layer in self.layers]

    @property
    def offset(self) -> int:
        return self.layers[0].offset

    @property
    def own_bytes(self) -> int:
        held = {id(a): a.nbytes for slots in (*self._slots(), *self._marked[1]) for a in slots if a is not None}
        return sum(held.values())

    def arrays(self) -> list[mx.array]:
        return [array for slots in self._slots() for array in slots if array is not None]

    def make_room(self) -> None:
        """The size is fixed."""

    def mark(self) -> None:
        for layer in self.layers:  # an array is often a view of the step's whole input: a copy lets go of that
            layer.slots = [None if a is None else mx.take(a, mx.array([0]), axis=0) for a in layer.slots]
        mx.eval(self.arrays())
        self._marked = self.offset, self._slots()

    def can_trim(self, length: int) -> bool:
        return length in (self.offset, self._marked[0])

    def trim(self, length: int) -> None:
        if length != self.offset:
            for layer, slots in zip(self.layers, self._marked[1], strict=True):
                layer.slots, layer.offset = list(slots), length

    def read(self, start: int, end: int) -> Tensors:
        slots = self._slots() if end == self.offset else self._marked[1]
        if end not in (self.offset, self._marked[0]) or end == 0:
            raise ValueError("a snapshot can only be read where the state ends or is marked")
        return {
            name: to_numpy(mx.stack([layer[slot][0] for layer in slots]))  # type: ignore[index]
            for slot, name in enumerate(self.layout.tensors)
        }

    def restore(self, snapshot: Tensors, length: int) -> None:
        """Sets the state to a snapshot at `length` positions, and marks it."""
        self.go_on(snapshot, length)
        self.mark()

    def go_on(self, snapshot: Tensors, length: int) -> None:
        """Sets the state to a snapshot at `length` positions. The mark stays where it is."""
        arrays = [to_mlx(snapshot[name], self.layout.dtype) for name in self.layout.tensors]
        for i, layer in enumerate(self.layers):
            layer.slots = [array[i : i + 1] for array in arrays]
            layer.offset = length

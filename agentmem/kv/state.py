"""One agent's attention state: all its layers, of whatever kinds, quantised from position 0.

Arrays are segment-major, [segments, kv_heads, 256, width], so that a leading run of segments is contiguous,
a block file is one segment of every layer, and restore is a stack of block files. A row is quantised once,
when its position is computed, and never again (invariant 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from agentmem.kv import splicing
from agentmem.kv.full import FullLayers
from agentmem.kv.layers import LayerGroup, Tensors
from agentmem.kv.layout import LayerKind, StateLayout
from agentmem.kv.recurrent import RecurrentLayers
from agentmem.kv.span import Span
from agentmem.kv.window import WindowLayers, WindowPart


class AgentState:
    """Owned by the executor thread. The groups agree about how many positions are held, but while one is restored."""

    def __init__(self, layout: StateLayout) -> None:
        self.layout = layout
        self.full = FullLayers(layout.full)
        self.window = WindowLayers(layout.window) if layout.window else None
        self.recurrent = RecurrentLayers(layout.recurrent) if layout.recurrent else None
        self._groups: dict[LayerKind, LayerGroup] = {LayerKind.FULL: self.full}
        if self.window is not None:
            self._groups[LayerKind.WINDOW] = self.window
        if self.recurrent is not None:
            self._groups[LayerKind.RECURRENT] = self.recurrent
        caches = {kind: iter(group.layers) for kind, group in self._groups.items()}
        self.layers: list[Any] = [next(caches[kind]) for kind in layout.kinds]
        """In the model's order."""

    @property
    def offset(self) -> int:
        """Positions held."""
        return self.full.offset

    @property
    def own_bytes(self) -> int:
        """Bytes of RAM that cannot be shared as they are, spare room included."""
        return sum(group.own_bytes for group in self._groups.values())

    @property
    def nbytes(self) -> int:
        """Bytes of RAM held, what is shared and spare room included."""
        return sum(shared.nbytes for shared in self.shared()) + self.own_bytes

    def shared(self) -> list[Span | WindowPart]:
        """What other agents may hold too: spans and window parts, each with its `nbytes`."""
        return [*dict.fromkeys(self.full.spans), *(self.window.parts.values() if self.window is not None else ())]

    def group(self, kind: LayerKind) -> LayerGroup:
        """The layers of a kind that the model has."""
        return self._groups[kind]

    def make_room(self) -> None:
        """Called before positions are appended."""
        for group in self._groups.values():
            group.make_room()

    def arrays(self) -> list[mx.array]:
        """What the last positions changed."""
        return [array for group in self._groups.values() for array in group.arrays()]

    def evaluate(self) -> None:
        """Computes what was appended; called after each chunk so that no graph outlives its step."""
        mx.eval(self.arrays())

    def mark(self) -> None:
        """The state may be trimmed back to the present end."""
        for group in self._groups.values():
            group.mark()

    def trim(self, length: int) -> bool:
        """Forgets positions from `length` on. False, and nothing changed, if that cannot be done."""
        groups = self._groups.values()
        if not all(group.can_trim(length) for group in groups):
            return False
        for group in groups:
            group.trim(length)
        return True

    def fork(self, layers: int | None = None) -> AgentState:
        """The same state for another agent, which shares what it can; this one stays as it is, bit for bit.

        layers: how many of the layers, from the first on; None for all.
        Only full attention layers: what others need to go on from a position is restored by whoever kept it.
        """
        if self.layout.has_companions:
            raise ValueError("windowed and recurrent layers are restored, not forked")
        full = splicing.fork(self.full, layers)
        other = AgentState(self.layout if layers is None else StateLayout.of_full(full.layout))
        other.full = full
        other._groups[LayerKind.FULL] = other.full
        other.layers = list(other.full.layers)
        return other

    def hold(self, span: Span) -> None:
        """Continues with a span, of the full layers; the others are restored by themselves."""
        self.full.hold(span)

    def extend(self, blocks: Sequence[Tensors]) -> None:
        """Appends restored blocks of the full layers."""
        self.full.extend(blocks)

    def read(self, start: int, end: int) -> Tensors:
        """The block of positions [start, end) of one segment, copied: {tensor name: [layers, heads, tokens, width]}."""
        return self.full.read(start, end)

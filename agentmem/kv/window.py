"""Windowed layers: 4-bit keys and values of the segments that a query may still see; the others are let go of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import mlx.core as mx

from agentmem.kv.layers import Tensors, to_mlx, to_numpy
from agentmem.kv.layout import PARTS, WindowLayout
from agentmem.kv.span import Piece, Quantised, write_rows
from agentmem.types import BLOCK_TOKENS


class WindowLayer:
    """One layer's state, a piece of one segment for each that is held."""

    def __init__(self, layout: WindowLayout) -> None:
        self.layout = layout
        self.window = layout.window
        self.segments: dict[int, Piece] = {}
        self.offset = 0

    def append(self, keys: Quantised, values: Quantised) -> None:
        """Appends quantised keys and values, each part [1, kv_heads, count, width]."""
        count, begin = keys[0].shape[2], self.offset
        done = 0
        while done < count:
            segment, row = divmod(begin + done, BLOCK_TOKENS)
            take = min(BLOCK_TOKENS - row, count - done)
            piece = self.segments.setdefault(segment, self._empty()) if row == 0 else self.segments[segment]
            for side, new in zip((piece.keys, piece.values), (keys, values), strict=True):
                for buffer, rows in zip(side, new, strict=True):
                    write_rows(buffer, rows[:, :, done : done + take], row)
            done += take
        self.offset += count

    def pieces(self) -> list[tuple[int, Piece]]:
        """What is held, each with the number of its segment, in order of position."""
        return sorted(self.segments.items())

    def _empty(self) -> Piece:
        lay = self.layout

        def side() -> Quantised:
            w, s, b = (mx.zeros((1, lay.kv_heads, BLOCK_TOKENS, lay.widths[p]), lay.part_dtype(p)) for p in PARTS)
            return w, s, b

        return Piece(side(), side())


class WindowPart:
    """One full segment of all windowed layers. It never changes; agents share it by reference."""

    def __init__(self, layers: Iterable[Piece]) -> None:
        self.layers = tuple(layers)

    @classmethod
    def of(cls, layout: WindowLayout, tensors: Tensors) -> WindowPart:
        """From a full block's tensors."""
        return cls(_piece(layout, tensors, i) for i in range(layout.layers))

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for piece in self.layers)


def _piece(layout: WindowLayout, tensors: Tensors, layer: int) -> Piece:
    """One layer's segment; the rows that the tensors lack are zeros."""
    arrays = []
    for name in layout.tensors:
        rows = to_mlx(tensors[name][layer], layout.dtype_of(name))[None]
        missing = BLOCK_TOKENS - rows.shape[2]
        arrays.append(mx.pad(rows, [(0, 0), (0, 0), (0, missing), (0, 0)]) if missing else rows)
    return Piece((arrays[0], arrays[1], arrays[2]), (arrays[3], arrays[4], arrays[5]))


class WindowLayers:
    """All windowed layers. What the present end and the marked one can see is held.

    parts: the full segments that may be shared, by number; so their arrays must not be written to any more.
    """

    def __init__(self, layout: WindowLayout) -> None:
        self.layout = layout
        self.layers = [WindowLayer(layout) for _ in range(layout.layers)]
        self.parts: dict[int, WindowPart] = {}
        self._marked = 0

    @property
    def offset(self) -> int:
        return self.layers[0].offset

    @property
    def own_bytes(self) -> int:
        return sum(p.nbytes for layer in self.layers for n, p in list(layer.segments.items()) if n not in self.parts)

    def arrays(self) -> list[mx.array]:
        first = self._marked // BLOCK_TOKENS
        return [a for layer in self.layers for n, p in layer.segments.items() if n >= first for a in p.arrays]

    def make_room(self) -> None:
        """Lets go of what neither the present end nor the marked one can see."""
        lay, marked = self.layout, self._marked
        seen = range(lay.reach(self.offset), self.offset + 1), range(lay.reach(marked), marked)
        for segment in list(self.layers[0].segments):
            begin = segment * BLOCK_TOKENS
            if not any(begin in positions for positions in seen):
                self.parts.pop(segment, None)
                for layer in self.layers:
                    layer.segments.pop(segment, None)

    def mark(self) -> None:
        """Full segments become parts."""
        self._marked = self.offset
        self.make_room()
        for segment in self.layers[0].segments:
            if (segment + 1) * BLOCK_TOKENS <= self.offset and segment not in self.parts:
                self.parts[segment] = WindowPart(layer.segments[segment] for layer in self.layers)

    def can_trim(self, length: int) -> bool:
        needed = range(self.layout.reach(length), length, BLOCK_TOKENS)
        return length <= self.offset and all(b // BLOCK_TOKENS in self.layers[0].segments for b in needed)

    def trim(self, length: int) -> None:
        last = -(-length // BLOCK_TOKENS)
        for layer in self.layers:
            layer.segments = {n: piece for n, piece in layer.segments.items() if n < last}
            layer.offset = length
            if length % BLOCK_TOKENS and last - 1 in self.parts:  # others may share it, and what comes is written here
                layer.segments[last - 1] = layer.segments[last - 1].copy(0, 1)
        self.parts = {n: part for n, part in self.parts.items() if n < length // BLOCK_TOKENS}
        self._marked = min(self._marked, length)

    def read(self, start: int, end: int) -> Tensors:
        segment, row = divmod(start, BLOCK_TOKENS)
        if not 0 < end - start <= BLOCK_TOKENS - row or end > self.offset or segment not in self.layers[0].segments:
            raise ValueError("a read must lie inside one held segment")
        out = {}
        for n, name in enumerate(self.layout.tensors):
            rows = [layer.segments[segment].arrays[n][0, :, row : row + end - start] for layer in self.layers]
            out[name] = to_numpy(mx.stack(rows))
        return out

    def restore(self, parts: Mapping[int, WindowPart], last: Tensors | None, length: int) -> None:
        """Sets the state to `length` positions, and marks it.

        parts: at least the full segments from `reach(length)` on. last: the rows of the segment that is not full.
        """
        segment, rows = divmod(length, BLOCK_TOKENS)
        self.parts = dict(parts)
        for i, layer in enumerate(self.layers):
            layer.segments = {n: part.layers[i] for n, part in parts.items()}
            layer.offset = length
            if rows and last is not None:
                layer.segments[segment] = _piece(self.layout, last, i)
        self._marked = length

    def go_on(self, segments: Mapping[int, Tensors], length: int) -> None:
        """Continues to `length` positions. The mark stays where it is.

        segments: rows of those that the new end sees and that are not held, or not as long.
        """
        for i, layer in enumerate(self.layers):
            layer.segments |= {n: _piece(self.layout, tensors, i) for n, tensors in segments.items()}
            layer.offset = length

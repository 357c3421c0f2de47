"""Full attention layers: frozen spans and one growing tail, quantised from position 0.

Arrays are segment-major, [segments, kv_heads, 256, width], so that a leading run of segments is contiguous,
a block file is one segment of every layer, and restore is a stack of block files. A row is quantised once,
when its position is computed, and never again (invariant 4).

Spans lie at their own positions, on a grid of segments counted from position 0, until one is put elsewhere
(`kv.splicing`); what comes behind that is `Placed`, the tail included, whose segments are counted from where it begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import mlx.core as mx
import numpy as np

from agentmem.kv.layers import Tensors, to_mlx, to_numpy
from agentmem.kv.layout import PARTS, AttentionLayout
from agentmem.kv.openspan import OpenSpan
from agentmem.kv.placed import Placed
from agentmem.kv.span import Piece, Quantised, Span, write_rows
from agentmem.types import BLOCK_TOKENS

TAIL_SEGMENTS = 16
"""A full tail of this many segments freezes into a span, so that growing never copies more than this."""


class FullLayer:
    """One layer's state."""

    window: int | None = None
    """Positions that a query sees: all."""

    def __init__(self, layout: AttentionLayout) -> None:
        self.layout = layout
        self.spans: list[Piece] = []
        self.tail: Piece | None = None
        self.tail_start = 0
        self.offset = 0
        self.is_spliced = False

    def append(self, keys: Quantised, values: Quantised) -> None:
        """Appends quantised keys and values, each part [1, kv_heads, count, width]."""
        count = keys[0].shape[2]
        self._reserve(count)
        assert self.tail is not None
        begin = self.offset - self.tail_start
        for side, new in ((self.tail.keys, keys), (self.tail.values, values)):
            for buffer, rows in zip(side, new, strict=True):
                write_rows(buffer, rows, begin)
        self.offset += count

    def pieces(self) -> list[tuple[int, Piece]]:
        """Spans and the used segments of the tail, each with the number of its first segment, in order of position."""
        used = -(-(self.offset - self.tail_start) // BLOCK_TOKENS)
        held = self.spans + ([self._lying(self.tail.head(used))] if self.tail is not None and used else [])
        firsts = accumulate((piece.segments for piece in held), initial=0)
        return list(zip(firsts, held, strict=False))

    def hold(self, piece: Piece) -> None:
        """Adds a span's piece. The layer must end on a segment border, and its tail is gone with it."""
        self.spans.append(self._lying(piece))
        self.tail = None
        self.offset = self.tail_start = self.tail_start + piece.segments * BLOCK_TOKENS

    def place(self, piece: Placed, count: int) -> None:
        """Adds a piece whose rows have positions of their own, `count` of them from the layer's end on."""
        self.spans.append(piece)
        self.tail, self.is_spliced = None, True
        self.offset = self.tail_start = self.offset + count

    def _lying(self, piece: Piece) -> Piece:
        """A piece whose positions go on from the last span's."""
        return Placed.growing(piece, self.tail_start) if self.is_spliced else piece

    def _reserve(self, count: int) -> None:
        need = -(-(self.offset - self.tail_start + count) // BLOCK_TOKENS)
        have = self.tail.segments if self.tail is not None else 0
        if need > have:
            self.tail = self._grown(max(need, min(2 * have, TAIL_SEGMENTS)))

    def _grown(self, segments: int) -> Piece:
        old, lay = self.tail, self.layout

        def side(arrays: Sequence[mx.array | None]) -> Quantised:
            out = []
            for part, array in zip(PARTS, arrays, strict=True):
                extra = segments - (0 if array is None else array.shape[0])
                zeros = mx.zeros((extra, lay.kv_heads, BLOCK_TOKENS, lay.widths[part]), lay.part_dtype(part))
                out.append(zeros if array is None else mx.concatenate([array, zeros]))
            return out[0], out[1], out[2]

        nothing = (None, None, None)
        return Piece(side(old.keys if old else nothing), side(old.values if old else nothing))


class FullLayers:
    """All full attention layers: shared spans, then a private tail."""

    def __init__(self, layout: AttentionLayout) -> None:
        self.layout = layout
        self.layers: Sequence[FullLayer] = [FullLayer(layout) for _ in range(layout.layers)]
        self.spans: list[Span] = []

    @property
    def offset(self) -> int:
        """Positions held."""
        return self.layers[0].offset

    @property
    def tail_start(self) -> int:
        """The first position that no span holds."""
        return self.layers[0].tail_start

    @property
    def row(self) -> int:
        """In its segment, of the position that is appended next."""
        return (self.offset - self.tail_start) % BLOCK_TOKENS

    @property
    def is_spliced(self) -> bool:
        """Whether rows lie elsewhere than 256 to a segment from position 0."""
        return self.layers[0].is_spliced

    @property
    def own_bytes(self) -> int:
        return sum(tail.nbytes for tail in [layer.tail for layer in self.layers] if tail is not None)

    def arrays(self) -> list[mx.array]:
        return [array for layer in self.layers if layer.tail is not None for array in layer.tail.arrays]

    def make_room(self) -> None:
        """A long tail that ends on a segment border becomes a span."""
        held = self.offset - self.tail_start
        if held >= TAIL_SEGMENTS * BLOCK_TOKENS and held % BLOCK_TOKENS == 0:
            self.freeze()

    def mark(self) -> None:
        """Any position of the tail can be gone back to."""

    def hold(self, span: Span) -> None:
        """Continues with a span. The layers must end where a span ends."""
        if self.offset != self.tail_start:
            raise ValueError("a span can only follow a span")
        for layer, piece in zip(self.layers, span.layers, strict=True):
            layer.hold(piece)
        self.spans.append(span)
        span.holders.add(self)

    def freeze(self, segments: int | None = None) -> Span | None:
        """Turns the tail's first segments, all full ones by default, into a span; the rest stays as the tail."""
        held = self.offset - self.tail_start
        full = held // BLOCK_TOKENS if segments is None else segments
        if not full:
            return None
        used = -(-held // BLOCK_TOKENS)
        tails = [layer.tail for layer in self.layers if layer.tail is not None]
        span = Span(tails if tails[0].segments == full else [tail.copy(0, full) for tail in tails])
        remains = [tail.copy(full, used) for tail in tails] if used > full else [None] * len(tails)
        mx.eval([piece.arrays for piece in (*span.layers, *remains) if piece is not None])
        offset = self.offset
        for layer in self.layers:
            layer.offset = layer.tail_start + full * BLOCK_TOKENS
        for layer, piece, tail in zip(self.layers, span.layers, remains, strict=True):
            layer.hold(piece)
            layer.tail, layer.offset = tail, offset
        self.spans.append(span)
        span.holders.add(self)
        return span

    def replace(self, span: Span, parts: Sequence[Span]) -> None:
        """Holds the two parts of a span that was cut in its place, or places."""
        for at in reversed([at for at, held in enumerate(self.spans) if held is span]):
            self.spans[at : at + 1] = parts
            for i, layer in enumerate(self.layers):
                whole, halves = layer.spans[at], (parts[0].layers[i], parts[1].layers[i])
                layer.spans[at : at + 1] = whole.parts(halves) if isinstance(whole, Placed) else halves
        span.holders.discard(self)
        for part in parts:
            part.holders.add(self)

    def extend(self, blocks: Sequence[Tensors]) -> None:
        """Appends restored blocks at a segment border, all but the last full. Nothing is computed or requantised."""
        if not blocks:
            return
        if (self.offset - self.tail_start) % BLOCK_TOKENS:
            raise ValueError("blocks can only be appended at a segment border")
        self.freeze()
        names = self.layout.tensors
        full = [b for b in blocks if b[names[0]].shape[2] == BLOCK_TOKENS]
        if full:
            span = OpenSpan(self.layout, len(full))
            list(span.allocate())
            for segment, block in enumerate(full):
                span.put(segment, block)
            self.hold(span.close(len(full)))
        if len(full) < len(blocks):
            last = blocks[-1]
            tokens = last[names[0]].shape[2]
            padded = {n: np.zeros((self.layout.layers, 1, *self.layout.shape(n)[1:]), last[n].dtype) for n in names}
            for name in names:
                padded[name][:, 0, :, :tokens] = last[name]
            for layer, piece in zip(self.layers, self._pieces(padded), strict=True):
                layer.tail, layer.offset = piece, layer.tail_start + tokens

    def _pieces(self, tensors: Tensors) -> list[Piece]:
        """[layers, segments, heads, 256, width] arrays as a piece per layer."""
        pieces = []
        for i in range(self.layout.layers):
            arrays = [to_mlx(tensors[name][i], self.layout.dtype_of(name)) for name in self.layout.tensors]
            pieces.append(Piece((arrays[0], arrays[1], arrays[2]), (arrays[3], arrays[4], arrays[5])))
        return pieces

    def read(self, start: int, end: int) -> Tensors:
        """Keys as they are held: those that were placed are rotated for where they came from."""
        pieces = [layer.pieces() for layer in self.layers]
        number, at = _home(pieces[0], start)
        segment, row = divmod(at, BLOCK_TOKENS)
        if not 0 < end - start <= BLOCK_TOKENS - row or end > self.offset:
            raise ValueError("a read must lie inside one held segment")
        homes = [of_layer[number][1] for of_layer in pieces]
        if isinstance(homes[0], Placed) and homes[0].rows[at + end - start - 1] != end - 1:
            raise ValueError("a read must lie inside one placed piece")
        return {
            name: to_numpy(mx.stack([piece.arrays[n][segment, :, row : row + end - start] for piece in homes]))
            for n, name in enumerate(self.layout.tensors)
        }

    def can_trim(self, length: int) -> bool:
        """What has frozen into a span stays."""
        return all(layer.tail_start <= length <= layer.offset for layer in self.layers)

    def trim(self, length: int) -> None:
        used = -(-(length - self.tail_start) // BLOCK_TOKENS)
        for layer in self.layers:
            layer.offset = length
            if layer.tail is not None and layer.tail.segments > used:
                layer.tail = layer.tail.copy(0, used) if used else None
        mx.eval(self.arrays())  # so that what it was copied from is free


def _home(pieces: list[tuple[int, Piece]], position: int) -> tuple[int, int]:
    """Which piece holds a position, and the number of its row there."""
    for number, (first, piece) in enumerate(pieces):
        at = position - first * BLOCK_TOKENS
        if isinstance(piece, Placed):
            if len(found := np.nonzero(piece.rows == position)[0]):
                return number, int(found[0])
        elif 0 <= at < piece.segments * BLOCK_TOKENS:
            return number, at
    raise ValueError("a read must lie inside one held segment")

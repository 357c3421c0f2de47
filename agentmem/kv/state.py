"""One agent's attention state: frozen spans and one growing tail, quantised from position 0.

Arrays are segment-major, [segments, kv_heads, 256, width], so that a leading run of segments is contiguous,
a block file is one segment of every layer, and restore is a stack of block files. A row is quantised once,
when its position is computed, and never again (invariant 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from agentmem.kv.layout import PARTS, TENSORS, AttentionLayout
from agentmem.kv.span import Piece, Quantised, Span
from agentmem.types import BLOCK_TOKENS

TAIL_SEGMENTS = 16
"""A full tail of this many segments freezes into a span, so that growing never copies more than this."""


class LayerState:
    """One layer's state. Serves mlx-lm's model code as its cache object."""

    def __init__(self, layout: AttentionLayout) -> None:
        self.layout = layout
        self.bits, self.group_size = layout.bits, layout.group_size  # what mlx-lm recognises a quantised cache by
        self.spans: list[Piece] = []
        self.tail: Piece | None = None
        self.tail_start = 0
        self.offset = 0

    def make_mask(self, count: int, return_array: bool = False, window_size: int | None = None) -> None:
        """mlx-lm asks the cache for its mask; `attend` knows positions and masks by itself."""
        return None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[LayerState, LayerState]:
        """Appends keys and values [1, kv_heads, count, head_dim]; the attention seam takes this layer back."""
        count = keys.shape[2]
        self._reserve(count)
        assert self.tail is not None
        begin = self.offset - self.tail_start
        for side, new in ((self.tail.keys, keys), (self.tail.values, values)):
            for buffer, rows in zip(side, mx.quantize(new, self.group_size, self.bits), strict=True):
                _write(buffer, rows, begin)
        self.offset += count
        return self, self

    def pieces(self) -> list[Piece]:
        """Spans and the used segments of the tail, in order of position."""
        used = -(-(self.offset - self.tail_start) // BLOCK_TOKENS)
        return self.spans + ([self.tail.head(used)] if self.tail is not None and used else [])

    def hold(self, piece: Piece) -> None:
        """Adds a span's piece. The layer must end on a segment border, and its tail is gone with it."""
        self.spans.append(piece)
        self.tail = None
        self.offset = self.tail_start = self.tail_start + piece.segments * BLOCK_TOKENS

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
                zeros = mx.zeros((extra, lay.kv_heads, BLOCK_TOKENS, lay.widths[part]), lay.dtype_of(part))
                out.append(zeros if array is None else mx.concatenate([array, zeros]))
            return out[0], out[1], out[2]

        nothing = (None, None, None)
        return Piece(side(old.keys if old else nothing), side(old.values if old else nothing))


def _write(buffer: mx.array, rows: mx.array, begin: int) -> None:
    """Writes rows [1, heads, count, width] at position `begin` of a segment-major buffer, in place."""
    done, count = 0, rows.shape[2]
    while done < count:
        segment, row = divmod(begin + done, BLOCK_TOKENS)
        whole = (count - done) // BLOCK_TOKENS if row == 0 else 0
        if whole:
            part = rows[0, :, done : done + whole * BLOCK_TOKENS]
            heads, _, width = part.shape
            buffer[segment : segment + whole] = part.reshape(heads, whole, BLOCK_TOKENS, width).swapaxes(0, 1)
            done += whole * BLOCK_TOKENS
        else:
            take = min(BLOCK_TOKENS - row, count - done)
            buffer[segment, :, row : row + take] = rows[0, :, done : done + take]
            done += take


class AgentState:
    """All layers of one agent: shared spans, then a private tail. Owned by the executor thread."""

    def __init__(self, layout: AttentionLayout) -> None:
        self.layout = layout
        self.layers = [LayerState(layout) for _ in range(layout.layers)]
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
    def tail_bytes(self) -> int:
        """Bytes of RAM that this agent alone holds, spare room included."""
        return sum(tail.nbytes for tail in [layer.tail for layer in self.layers] if tail is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of RAM held, shared spans and spare room included."""
        return sum(span.nbytes for span in self.spans) + self.tail_bytes

    def make_room(self) -> None:
        """Called before positions are appended: a long tail that ends on a segment border becomes a span."""
        held = self.offset - self.tail_start
        if held >= TAIL_SEGMENTS * BLOCK_TOKENS and held % BLOCK_TOKENS == 0:
            self.freeze()

    def evaluate(self) -> None:
        """Computes what was appended; called after each chunk so that no graph outlives its step."""
        mx.eval([layer.tail.arrays for layer in self.layers if layer.tail is not None])

    def hold(self, span: Span) -> None:
        """Continues with a span. The state must end where a span ends."""
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
        """Holds the parts of a span that was cut in its place."""
        at = self.spans.index(span)
        self.spans[at : at + 1] = parts
        for i, layer in enumerate(self.layers):
            layer.spans[at : at + 1] = [part.layers[i] for part in parts]
        span.holders.discard(self)
        for part in parts:
            part.holders.add(self)

    def extend(self, blocks: Sequence[dict[str, np.ndarray]]) -> None:
        """Appends restored blocks, each {tensor name: [layers, kv_heads, tokens, width]}, at a segment border.

        All but the last must be full. bfloat16 comes as uint16. Nothing is computed or requantised.
        """
        if not blocks:
            return
        if self.offset % BLOCK_TOKENS:
            raise ValueError("blocks can only be appended at a segment border")
        self.freeze()
        full = [b for b in blocks if b[TENSORS[0]].shape[2] == BLOCK_TOKENS]
        if full:
            self.hold(Span(self._pieces({name: np.stack([b[name] for b in full], axis=1) for name in TENSORS})))
        if len(full) < len(blocks):
            last = blocks[-1]
            tokens = last[TENSORS[0]].shape[2]
            padded = {n: np.zeros((self.layout.layers, 1, *self.layout.shape(n)[1:]), last[n].dtype) for n in TENSORS}
            for name in TENSORS:
                padded[name][:, 0, :, :tokens] = last[name]
            for layer, piece in zip(self.layers, self._pieces(padded), strict=True):
                layer.tail, layer.offset = piece, layer.tail_start + tokens

    def _pieces(self, tensors: dict[str, np.ndarray]) -> list[Piece]:
        """[layers, segments, heads, 256, width] arrays as a piece per layer."""
        pieces = []
        for i in range(self.layout.layers):
            arrays = [_to_mlx(tensors[name][i], self.layout.dtype_of(name.rsplit(".", 1)[1])) for name in TENSORS]
            pieces.append(Piece((arrays[0], arrays[1], arrays[2]), (arrays[3], arrays[4], arrays[5])))
        return pieces

    def read(self, start: int, end: int) -> dict[str, np.ndarray]:
        """Copies positions [start, end) of one segment: {tensor name: [layers, kv_heads, end - start, width]}."""
        segment, row = divmod(start, BLOCK_TOKENS)
        if not 0 < end - start <= BLOCK_TOKENS - row or end > self.offset:
            raise ValueError("a read must lie inside one held segment")
        homes = [self._home(layer, segment) for layer in self.layers]
        out = {}
        for n, name in enumerate(TENSORS):
            rows = mx.stack([piece.arrays[n][local, :, row : row + end - start] for piece, local in homes])
            out[name] = np.array(rows.view(mx.uint16) if rows.dtype == mx.bfloat16 else rows)
        return out

    @staticmethod
    def _home(layer: LayerState, segment: int) -> tuple[Piece, int]:
        for piece in layer.pieces():
            if segment < piece.segments:
                return piece, segment
            segment -= piece.segments
        raise ValueError("segment is not held")

    def trim(self, length: int) -> bool:
        """Forgets positions from `length` on. False, and nothing changed, if they have frozen into a span already."""
        if not all(layer.tail_start <= length <= layer.offset for layer in self.layers):
            return False
        for layer in self.layers:
            layer.offset = length
        return True


def _to_mlx(array: np.ndarray, dtype: mx.Dtype) -> mx.array:
    out = mx.array(array)
    return out if out.dtype == dtype else out.view(dtype)

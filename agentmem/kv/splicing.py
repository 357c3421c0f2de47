"""Taking rows out of a state, and putting them into another; spans are shared, and no row changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from agentmem.kv.full import FullLayers
from agentmem.kv.layers import Tensors, to_numpy
from agentmem.kv.placed import UNUSED, Placed
from agentmem.kv.rotation import Frequencies
from agentmem.kv.span import Span
from agentmem.types import BLOCK_TOKENS


class Taken(NamedTuple):
    """Rows of a span, to be placed elsewhere.

    rows: int64 [segments * 256], the position of each in the state that they were taken from, or UNUSED. shift: how far
    that is from the position that its key is rotated for.
    """

    span: Span
    rows: np.ndarray
    shift: int


class Segment(NamedTuple):
    """256 held rows of which some are the agent's: what a block holds of a timeline.

    piece: the number of the held piece that it is in. number: its own in there. rows: int64 [256], the positions of its
    rows, or UNUSED. shift: as `Taken`'s.
    """

    piece: int
    number: int
    rows: np.ndarray
    shift: int


def segments(full: FullLayers) -> list[Segment]:
    """Those that hold positions of the agent's, in the order in which they are held. Blocks of a timeline are these."""
    found = []
    for at, (first, piece) in enumerate(full.layers[0].pieces()):
        rows, shift = np.arange(first * BLOCK_TOKENS, (first + piece.segments) * BLOCK_TOKENS), 0
        if isinstance(piece, Placed):
            rows, shift = piece.rows, piece.shift
        for number, own in enumerate(np.where(rows < full.offset, rows, UNUSED).reshape(-1, BLOCK_TOKENS)):
            if (own != UNUSED).any():
                found.append(Segment(at, number, own, shift))
    return found


def read(full: FullLayers, segment: Segment) -> Tensors:
    """The rows of a segment that are used, copied as they are: {tensor name: [layers, heads, rows, width]}."""
    homes = [layer.pieces()[segment.piece][1] for layer in full.layers]
    used = mx.array(np.nonzero(segment.rows != UNUSED)[0])
    return {
        name: to_numpy(mx.take(mx.stack([piece.arrays[n][segment.number] for piece in homes]), used, axis=2))
        for n, name in enumerate(full.layout.tensors)
    }


def border(full: FullLayers, start: int, end: int) -> tuple[Span, int] | None:
    """A span that has other segments before or behind those of the positions [start, end), and after how many segments
    it is to be cut for that; None if there is none.
    """
    inside: dict[int, list[int]] = {}
    for at, number, rows, _ in segments(full):
        if at < len(full.spans) and ((rows >= start) & (rows < end)).any():
            inside.setdefault(at, []).append(number)
    for at, numbers in inside.items():
        span = full.spans[at]
        for place in (numbers[-1] + 1, numbers[0]):
            if 0 < place < span.segments:
                return span, place
    return None


def take(full: FullLayers, start: int, end: int) -> list[Taken]:
    """The rows of the positions [start, end), in spans, in the order in which they are held.

    Spans are shared as they are; full segments of the tail freeze for it, and a last one that is not full is
    copied.
    """
    if not 0 <= start < end <= full.offset:
        raise ValueError("only positions that are held can be taken")
    if end > full.tail_start:
        full.freeze()
    shared = [(span, piece) for span, (_, piece) in zip(full.spans, full.layers[0].pieces(), strict=False)]
    if end > full.tail_start:
        copied = Span(layer.tail.copy(0, 1) for layer in full.layers if layer.tail is not None)
        mx.eval([piece.arrays for piece in copied.layers])
        shared.append((copied, full.layers[0].pieces()[-1][1]))
    taken, first = [], 0
    for span, piece in shared:
        rows, shift = np.arange(first, first + span.segments * BLOCK_TOKENS), 0
        if isinstance(piece, Placed):
            rows, shift = piece.rows, piece.shift
        inside = (rows >= start) & (rows < end)
        if inside.any():
            taken.append(Taken(span, np.where(inside, rows, UNUSED), shift))
        first += span.segments * BLOCK_TOKENS
    return taken


def place(full: FullLayers, taken: Sequence[Taken], frequencies: Sequence[Frequencies] | None = None) -> None:
    """Continues with rows that have their positions here; together they go on from the end without a gap.

    The layers must end where a span ends.

    frequencies: of each layer; needed where there is a shift.
    """
    if full.offset != full.tail_start:
        raise ValueError("a span can only follow a span")
    used = np.concatenate([rows[rows != UNUSED] for _, rows, _ in taken])
    if not np.array_equal(np.sort(used), np.arange(full.offset, full.offset + len(used))):
        raise ValueError("the rows that are placed must go on where the state ends")
    of_layers = [None] * len(full.layers) if frequencies is None else frequencies
    for span, rows, shift in taken:
        for layer, piece, own in zip(full.layers, span.layers, of_layers, strict=True):
            layer.place(Placed(piece, rows, shift, own), int((rows != UNUSED).sum()))
        full.spans.append(span)
        span.holders.add(full)


def close(full: FullLayers) -> None:
    """Ends here: what comes next begins a segment of its own, be this one full or not."""
    full.freeze()
    if full.offset > full.tail_start:
        taken = take(full, full.tail_start, full.offset)
        full.trim(full.tail_start)
        place(full, taken)


def go_back(full: FullLayers, length: int, begin: int) -> None:
    """Forgets positions from `length` on, of spans too. begin: of the segment that is to be grown, or `length`.

    What comes from `begin` on up to there must lie in order.
    """
    last = full.read(begin, length) if begin < length else None
    spans: list[Span] = []
    before = full.spans
    pieces = [[piece for _, piece in layer.pieces()] for layer in full.layers]
    firsts = [first * BLOCK_TOKENS for first, _ in full.layers[0].pieces()]
    for layer in full.layers:
        layer.spans = []
    for at, span in enumerate(before):
        piece = pieces[0][at]
        own = piece.rows if isinstance(piece, Placed) else firsts[at] + np.arange(piece.segments * BLOCK_TOKENS)
        kept = int((own.reshape(-1, BLOCK_TOKENS) < begin).any(1).sum())
        if not kept:
            continue
        if kept < piece.segments and (own[own != UNUSED] >= begin).any():
            span = Span([one.copy(0, kept) for one in span.layers], span.keys[:kept])
            mx.eval([one.arrays for one in span.layers])
        for layer, of_layer, source in zip(full.layers, pieces, span.layers, strict=True):
            held = of_layer[at]
            if isinstance(held, Placed):
                source = Placed(source, held.rows[: source.segments * BLOCK_TOKENS], held.shift, held.frequencies)
            layer.spans.append(source)
        spans.append(span)
    for span in before:
        span.holders.discard(full)
    full.spans = spans
    for span in spans:
        span.holders.add(full)
    for layer in full.layers:
        layer.tail, layer.offset, layer.tail_start = None, begin, begin
    if last is not None:
        full.extend([last])


def fork(full: FullLayers, layers: int | None = None) -> FullLayers:
    """The same layers for another agent: spans shared, the tail's last segment copied. Nothing here changes.

    layers: how many of the layers, from the first on; None for all.
    """
    full.freeze()
    other = FullLayers(full.layout if layers is None else replace(full.layout, layers=layers))
    for mine, own in zip(full.layers, other.layers, strict=layers is None):
        own.spans, own.is_spliced = list(mine.spans), mine.is_spliced
        own.tail = mine.tail.copy(0, 1) if mine.tail is not None else None
        own.tail_start, own.offset = mine.tail_start, mine.offset
    mx.eval(other.arrays())
    other.spans = [span if layers is None else Span(span.layers[:layers]) for span in full.spans]
    for span in other.spans:
        span.holders.add(other)
    return other

"""Attention over an agent's own segments, in the fixed order of the reference numerics.

Scores, weights and value products are taken per 256-position segment counted from position 0, always over whole
segments (unused rows are masked), and summed in order of position. So a row's result depends on its own query and
on the positions before it alone: neither chunking, nor where a span ends, nor what was restored changes a bit.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models import base

from agentmem.kv.full import FullLayer
from agentmem.kv.span import Piece, Quantised
from agentmem.kv.window import WindowLayer
from agentmem.types import BLOCK_TOKENS

_stock = base.quantized_scaled_dot_product_attention


def install() -> None:
    """Puts `attend` where mlx-lm's models look up quantised attention; stock caches keep the stock function."""
    base.quantized_scaled_dot_product_attention = _dispatch  # type: ignore[assignment]


def _dispatch(queries: mx.array, keys: Any, values: Any, *args: Any, **kwargs: Any) -> mx.array:
    if isinstance(keys, FullLayer | WindowLayer):
        return attend(queries, keys, kwargs["scale"])
    return _stock(queries, keys, values, *args, **kwargs)


def attend(queries: mx.array, layer: FullLayer | WindowLayer, scale: float) -> mx.array:
    """Causal attention of the layer's last positions, to those in its window if it has one.

    queries: [1, heads, count, head_dim], those of the last `count` positions appended to `layer`.
    Returns [1, heads, count, head_dim] in the queries' dtype. Scores and sums are kept in fp32.
    """
    _, heads, count, dim = queries.shape
    kv_heads = layer.layout.kv_heads
    rows = heads // kv_heads * count
    q = (queries * scale).reshape(1, kv_heads, rows, dim)
    first_query, window = layer.offset - count, layer.window
    # What is left out here would count for nothing: its weights would be zeros.
    seen = [p for p in layer.pieces() if window is None or _end(*p) > first_query - window + 1]
    pieces = [piece for _, piece in seen]

    scores = []  # per piece [segments, kv_heads, rows, 256]
    for first, piece in seen:
        s = _product(q, piece.keys, layer, transpose=True)
        if _end(first, piece) > first_query + 1 or (window and first * BLOCK_TOKENS <= layer.offset - 1 - window):
            s = _masked(s, first, first_query, count, window)
        scores.append(s)

    peak = _fold(mx.maximum, [s.max(axis=(0, 3), keepdims=True) for s in scores])
    weights = [mx.exp(s - peak) for s in scores]
    products = [
        _product(w.astype(queries.dtype), p.values, layer, transpose=False)
        for w, p in zip(weights, pieces, strict=True)
    ]
    total = _in_order([w.sum(axis=3, keepdims=True) for w in weights])
    out = _in_order(products) / total
    return out.reshape(1, heads, count, dim).astype(queries.dtype)


def _product(x: mx.array, packed: Quantised, layer: FullLayer | WindowLayer, transpose: bool) -> mx.array:
    weight, scales, biases = packed
    out = mx.quantized_matmul(
        x, weight, scales, biases, transpose=transpose, group_size=layer.group_size, bits=layer.bits
    )
    return out.astype(mx.float32)


def _masked(scores: mx.array, first_segment: int, first_query: int, count: int, window: int | None) -> mx.array:
    """Minus infinity where a query doesn't see a key: it lies behind, or before the window. [segments, ..., 256]."""
    segments, kv_heads, rows, width = scores.shape
    keys = mx.arange(first_segment * width, (first_segment + segments) * width).reshape(segments, 1, 1, 1, width)
    queries = mx.arange(first_query, first_query + count).reshape(1, 1, 1, count, 1)
    visible = keys <= queries if window is None else (keys <= queries) & (keys > queries - window)
    shaped = scores.reshape(segments, kv_heads, rows // count, count, width)
    return mx.where(visible, shaped, -mx.inf).reshape(scores.shape)


def _end(first: int, piece: Piece) -> int:
    """The position behind a piece whose first segment is number `first`."""
    return (first + piece.segments) * BLOCK_TOKENS


def _in_order(parts: list[mx.array]) -> mx.array:
    """Sum over all segments, first to last, wherever pieces begin."""
    return (parts[0] if len(parts) == 1 else mx.concatenate(parts)).sum(axis=0)


def _fold(operation: Any, parts: list[mx.array]) -> mx.array:
    out = parts[0]
    for part in parts[1:]:
        out = operation(out, part)
    return out

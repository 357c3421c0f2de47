"""Attention of a prefill chunk over dequantised keys and values, through MLX's fused kernel: fast numerics.

The order of its sums is the kernel's own: it depends on how long the chunk and the context are. So another division
into chunks, and restoring in between, may move bits; what it may come to is in `model.prefill`.
"""

from __future__ import annotations

import mlx.core as mx

from agentmem.kv.batch import MOST_SCORES, BatchQuantizedKVCache
from agentmem.kv.plan import Held
from agentmem.kv.span import Quantised
from agentmem.types import BLOCK_TOKENS

LEAST_QUERIES = 8
"""With fewer queries than this, dequantising takes longer than it saves."""

MOST_BYTES = 64 << 20
"""Dequantised keys and values of one layer that are held at once. Longer ones are taken some KV heads at a time, one
head at the least: 32,768 positions of a head of 128 take 32 MiB in fp32."""


def attend(queries: mx.array, cache: BatchQuantizedKVCache, scale: float) -> mx.array:
    """As `attention.attend`, for one agent: [1, heads, count, head_dim] -> the same.

    Held at once, beside inputs and outputs: `MOST_BYTES` and half of it again, and four times `MOST_SCORES` numbers
    where MLX has no kernel that does without the scores.
    """
    held, end, window = cache.of_one_agent()
    first = end - queries.shape[2]
    seen = 0 if window is None else max(0, first - window + 1)
    held = [(at, piece) for at, piece in held if (at + piece.segments) * BLOCK_TOKENS > seen]
    begin = held[0][0] * BLOCK_TOKENS
    layout = cache.layout
    repeats = queries.shape[1] // layout.kv_heads
    each = 2 * (end - begin) * layout.head_dim * queries.dtype.size
    size = max(1, min(layout.kv_heads, MOST_BYTES // each))
    outs = []
    for at in range(0, layout.kv_heads, size):
        group = slice(at, min(at + size, layout.kv_heads))
        keys, values = (
            mx.dequantize(*_rows(held, side, group, end - begin), group_size=cache.group_size, bits=cache.bits)[None]
            for side in ("keys", "values")
        )
        own = queries[:, at * repeats : group.stop * repeats]
        outs.append(_attend(own, keys, values, scale, window))
        if size < layout.kv_heads:
            mx.eval(outs[-1])  # or else MLX might make the next heads' keys and values before it lets go of these
    return outs[0] if len(outs) == 1 else mx.concatenate(outs, axis=1)


def _rows(held: Held, side: str, heads: slice, count: int) -> Quantised:
    """The first `count` rows of some heads, one after the other, still quantised: each [heads, count, width]."""
    pieces = [getattr(piece, side) for _, piece in held]
    out = []
    for parts in zip(*pieces, strict=True):
        by_head = [part[:, heads].swapaxes(0, 1).flatten(1, 2) for part in parts]
        out.append((by_head[0] if len(by_head) == 1 else mx.concatenate(by_head, axis=1))[:, :count])
    return out[0], out[1], out[2]


def _attend(queries: mx.array, keys: mx.array, values: mx.array, scale: float, window: int | None) -> mx.array:
    """queries: of the last positions. keys, values: [1, kv_heads, positions, head_dim]."""
    _, heads, count, _ = queries.shape
    positions = keys.shape[2]
    size = max(1, min(count, MOST_SCORES // (heads * positions)))
    outs = []
    mask: str | mx.array
    for at in range(0, count, size):
        own = queries[:, :, at : at + size]
        last = positions - count + at + own.shape[2]  # those behind it are not seen
        first, mask = 0, "causal"
        if window is not None and last > window:
            first = max(0, last - own.shape[2] - window + 1)
            mask = _in_window(own.shape[2], last - first, window)
        outs.append(
            mx.fast.scaled_dot_product_attention(
                own, keys[:, :, first:last], values[:, :, first:last], scale=scale, mask=mask
            )
        )
        if size < count:
            mx.eval(outs[-1])  # or else it might hold the scores of all
    return outs[0] if len(outs) == 1 else mx.concatenate(outs, axis=2)


def _in_window(count: int, positions: int, window: int) -> mx.array:
    """True where one of the last `count` of the positions sees one: [count, positions]."""
    asking = mx.arange(positions - count, positions)[:, None]
    asked = mx.arange(positions)[None]
    return (asked <= asking) & (asked > asking - window)

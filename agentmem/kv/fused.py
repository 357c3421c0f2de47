"""Attention of a prefill chunk over dequantised keys and values, through MLX's fused kernel: fast numerics.

The order of its sums is the kernel's own: it depends on how long the chunk and the context are. So another division
into chunks, and restoring in between, may move bits; what it may come to is in `model.prefill`.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from agentmem.kv.batch import MOST_SCORES, BatchQuantizedKVCache
from agentmem.kv.inorder import InOrder
from agentmem.types import BLOCK_TOKENS

LEAST_QUERIES = 8
"""With fewer queries than this, dequantising takes longer than it saves."""

MOST_BYTES = 64 << 20
"""Dequantised keys and values of one layer that are held at once. Longer ones are taken some KV heads at a time, one
head at the least: 32,768 positions of a head of 128 take 32 MiB in fp32."""


def attend(queries: mx.array, cache: BatchQuantizedKVCache, scale: float) -> mx.array:
    """As `attention.attend`, for one agent: [1, heads, count, head_dim] -> the same.

    Held at once, beside inputs and outputs: on MLX's CPU backend in fp32 2.1 times `MOST_BYTES`, and four times
    `MOST_SCORES` numbers, since it has no kernel that does without the scores.
    """
    held, asking, window = cache.of_one_agent(queries.shape[2])
    begin = 0 if window is None else max(0, int(asking[0]) - window + 1) // BLOCK_TOKENS * BLOCK_TOKENS
    layout = cache.layout
    rows = InOrder(held, layout, begin, int(asking[-1]) + 1)
    repeats = queries.shape[1] // layout.kv_heads
    each = 2 * rows.count * layout.head_dim * queries.dtype.size
    size = max(1, min(layout.kv_heads, MOST_BYTES // each))
    outs = []
    for at in range(0, layout.kv_heads, size):
        group = slice(at, min(at + size, layout.kv_heads))
        own = queries[:, at * repeats : group.stop * repeats]
        outs.append(_attend(own, rows.keys(group), rows.values(group), scale, asking - rows.begin, window))
        if size < layout.kv_heads:
            mx.eval(outs[-1])  # or else MLX might make the next heads' keys and values before it lets go of these
    return outs[0] if len(outs) == 1 else mx.concatenate(outs, axis=1)


def _attend(
    queries: mx.array, keys: mx.array, values: mx.array, scale: float, asking: np.ndarray, window: int | None
) -> mx.array:
    """keys, values: [1, kv_heads, positions, head_dim]. asking: where among these the queries stand."""
    _, heads, count, _ = queries.shape
    size = max(1, min(count, MOST_SCORES // (heads * keys.shape[2])))
    outs = []
    for at in range(0, count, size):
        of_part = asking[at : at + size]
        last = int(of_part[-1]) + 1  # those behind it are not seen
        first = 0 if window is None else max(0, int(of_part[0]) - window + 1)
        outs.append(
            mx.fast.scaled_dot_product_attention(
                queries[:, :, at : at + size],
                keys[:, :, first:last],
                values[:, :, first:last],
                scale=scale,
                mask=_mask(of_part, first, last, window),
            )
        )
        if size < count:
            mx.eval(outs[-1])  # or else it might hold the scores of all
    return outs[0] if len(outs) == 1 else mx.concatenate(outs, axis=2)


def _mask(asking: np.ndarray, first: int, last: int, window: int | None) -> mx.array | str:
    """True where a query sees one of the positions [first, last): [count, positions]."""
    is_run = int(asking[0]) + len(asking) == last
    if is_run and (window is None or last <= window):
        return "causal"
    queries, asked = mx.array(asking)[:, None], mx.arange(first, last)[None]
    seen = asked <= queries
    return seen if window is None else seen & (asked > queries - window)

"""Attention over the agents' own segments, in the fixed order of the reference numerics.

Scores, weights and value products are taken per 256-position segment counted from position 0, always over whole
segments (unused rows are masked), and summed in order of position. So a row's result depends on its own query and
on the positions before it alone: neither chunking, nor who else is in the batch, nor where a span ends or who shares
it, nor what was restored changes a bit.

Behind a splice segments are those of the pieces, each piece's counted from its own begin, in the order in which they
are held. Where a piece's keys were rotated for other positions, queries are turned instead (`kv.rotation`), once for
each distinct shift of an agent. The result's independence is the same: it follows from the state alone.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models import base

from agentmem.kv import fused
from agentmem.kv.batch import BatchQuantizedKVCache
from agentmem.kv.plan import Plan, Stretch, joined
from agentmem.kv.recompute import RowsCache
from agentmem.kv.span import Quantised
from agentmem.types import BLOCK_TOKENS

Turned = dict[tuple[int, ...], mx.array]
"""Queries of a step by shift and agents."""

LEAST_ROWS = 4
"""Where products are taken of dequantised segments: from so many query rows on that is faster on a CPU."""

_stock = base.quantized_scaled_dot_product_attention


def install() -> None:
    """Puts `attend` where mlx-lm's models look up quantised attention; stock caches keep the stock function."""
    base.quantized_scaled_dot_product_attention = _dispatch  # type: ignore[assignment]


def _dispatch(queries: mx.array, keys: Any, values: Any, *args: Any, **kwargs: Any) -> mx.array:
    if isinstance(keys, RowsCache):  # to the model each row is an agent; here they are one agent's queries
        return _by_best_way(queries.swapaxes(0, 2), keys, kwargs["scale"]).swapaxes(0, 2)
    if isinstance(keys, BatchQuantizedKVCache):
        return _by_best_way(queries, keys, kwargs["scale"])
    return _stock(queries, keys, values, *args, **kwargs)


def _by_best_way(queries: mx.array, cache: BatchQuantizedKVCache, scale: float) -> mx.array:
    is_chunk = cache.fused and queries.shape[2] >= fused.LEAST_QUERIES
    return (fused.attend if is_chunk else attend)(queries, cache, scale)


def attend(queries: mx.array, cache: BatchQuantizedKVCache, scale: float) -> mx.array:
    """Causal attention of each agent's last positions, to those in the window if the layer has one.

    queries: [agents, heads, count, head_dim], those of the positions appended to `cache`.
    Returns the same shape in the queries' dtype. Scores and sums are kept in fp32.
    """
    _, heads, count, _ = queries.shape
    parts, plans = [], cache.plans(count, heads)
    for rows, plan in plans:
        parts.append(_attend(queries[:, :, rows], cache, scale, plan))
        if len(plans) > 1:
            mx.eval(parts[-1])  # or else MLX might hold the scores of all parts at once
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=2)


def _attend(queries: mx.array, cache: BatchQuantizedKVCache, scale: float, plan: Plan) -> mx.array:
    agents, heads, count, dim = queries.shape
    kv_heads = cache.layout.kv_heads
    q = (queries * scale).reshape(agents, kv_heads, heads // kv_heads * count, dim)
    turned: Turned = {}
    parts = []
    for stretch, stream in plan.work():
        with stream:
            parts.append(_scores(q, stretch, cache, turned))
    scores = joined(parts)
    if plan.mask is not None:
        by_query = scores.reshape(-1, kv_heads, heads // kv_heads, count, BLOCK_TOKENS)
        scores = mx.where(plan.mask, by_query, -mx.inf).reshape(scores.shape)
    weights = mx.exp(scores - plan.peak(scores.max(axis=3, keepdims=True)))
    products = []
    for (stretch, stream), begin, end in zip(plan.work(), plan.borders, plan.borders[1:], strict=False):
        with stream:
            products.append(_products(weights[begin:end].astype(queries.dtype), stretch, cache))
    out = plan.total(products) / plan.total([weights.sum(axis=3, keepdims=True)])
    return out.reshape(agents, heads, count, dim).astype(queries.dtype)


def _asking(q: mx.array, stretch: Stretch, cache: BatchQuantizedKVCache, turned: Turned) -> mx.array:
    """Those of the queries that attend to a stretch, [members, kv_heads, rows, head_dim]."""
    if any(stretch.shifts):
        return joined([_turned(q, members, stretch, shift, cache, turned) for members, shift in stretch.by_shift()])
    return _of(q, stretch.members)


def _turned(
    q: mx.array, members: list[int], stretch: Stretch, shift: int, cache: BatchQuantizedKVCache, turned: Turned
) -> mx.array:
    """The queries of those members of a stretch that have it at one shift. turned: what was turned in this step."""
    if not shift:
        return _of(q, members)
    key = shift, *members
    if key not in turned:
        number = stretch.numbers[stretch.members.index(members[0])]
        turned[key] = cache.turn(_of(q, members), (members[0], number))
    return turned[key]


def _of(q: mx.array, members: list[int]) -> mx.array:
    if len(members) == 1:
        return q if q.shape[0] == 1 else q[members[0] : members[0] + 1]
    return q if len(members) == q.shape[0] else mx.take(q, mx.array(members), axis=0)


def _scores(q: mx.array, stretch: Stretch, cache: BatchQuantizedKVCache, turned: Turned) -> mx.array:
    """[agents, kv_heads, rows, head_dim] -> [units, kv_heads, rows, 256]."""
    members, segments = stretch.members, stretch.segments
    _, kv_heads, rows, dim = q.shape
    own = _asking(q, stretch, cache, turned)
    if len(members) > 1:
        own = own.swapaxes(0, 1).reshape(1, kv_heads, len(members) * rows, dim)
    scores = _product(own, cache.side(stretch, "keys"), cache, transpose=True)
    if len(members) == 1:
        return scores
    by_agent = scores.reshape(segments, kv_heads, len(members), rows, BLOCK_TOKENS).swapaxes(1, 2)
    return by_agent.reshape(segments * len(members), kv_heads, rows, BLOCK_TOKENS)


def _products(weights: mx.array, stretch: Stretch, cache: BatchQuantizedKVCache) -> mx.array:
    """[units, kv_heads, rows, 256] -> [units, kv_heads, rows, head_dim]."""
    members, segments = len(stretch.members), stretch.segments
    values = cache.side(stretch, "values")
    units, kv_heads, rows, width = weights.shape
    if members == 1:
        return _product(weights, values, cache, transpose=False)
    stacked = weights.reshape(segments, members, kv_heads, rows, width).swapaxes(1, 2)
    out = _product(stacked.reshape(segments, kv_heads, members * rows, width), values, cache, transpose=False)
    by_agent = out.reshape(segments, kv_heads, members, rows, -1).swapaxes(1, 2)
    return by_agent.reshape(units, kv_heads, rows, -1)


def _product(x: mx.array, packed: Quantised, cache: BatchQuantizedKVCache, transpose: bool) -> mx.array:
    weight, scales, biases = packed
    if cache.dequantises and x.shape[2] >= LEAST_ROWS:
        whole = mx.dequantize(weight, scales, biases, group_size=cache.group_size, bits=cache.bits)
        out = x @ (whole.swapaxes(2, 3) if transpose else whole)
    else:
        out = mx.quantized_matmul(
            x, weight, scales, biases, transpose=transpose, group_size=cache.group_size, bits=cache.bits
        )
    return out.astype(mx.float32)

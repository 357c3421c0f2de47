"""What is to come out, written down in plain MLX: no segments, no spans, no turned queries."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from agentmem.kv.state import AgentState
from agentmem.model.loader import LoadedModel
from agentmem.types import BLOCK_TOKENS

Rows = list[tuple[mx.array, mx.array]]
"""Keys and values of each layer, [1, kv_heads, positions, head_dim]."""


def forward(
    model: LoadedModel,
    ids: Sequence[int],
    mask: np.ndarray,
    start: int = 0,
    rows: Rows | None = None,
    kept: np.ndarray | None = None,
) -> tuple[np.ndarray, Rows]:
    """Logits [count, vocab] of tokens at the positions from `start` on, and their keys and values.

    mask: [count, positions], True where one is seen. rows: what is attended to; None: the tokens' own. kept: where the
    rows are; at the others, the tokens' own.
    """
    network = model.network
    h, own = network.model.embed_tokens(mx.array(np.asarray(ids, np.int32))[None]), []
    for number, layer in enumerate(network.layers):
        attention, x = layer.self_attn, layer.input_layernorm(h)
        q, k, v = (
            project(x).reshape(1, len(ids), heads, -1)
            for project, heads in (
                (attention.q_proj, attention.n_heads),
                (attention.k_proj, attention.n_kv_heads),
                (attention.v_proj, attention.n_kv_heads),
            )
        )
        if hasattr(attention, "q_norm"):
            q, k = attention.q_norm(q), attention.k_norm(k)
        q, k, v = (side.swapaxes(1, 2) for side in (q, k, v))
        q, k = (attention.rope(side, offset=start) for side in (q, k))
        own.append((k, v))
        keys, values = (k, v) if rows is None else rows[number]
        if kept is not None:
            stays = mx.array(kept)[:, None]
            keys, values = mx.where(stays, keys, k), mx.where(stays, values, v)
        keys, values = (mx.repeat(side, attention.n_heads // attention.n_kv_heads, axis=1) for side in (keys, values))
        scores = mx.where(mx.array(mask), q @ keys.swapaxes(2, 3) * attention.scale, -mx.inf)
        out = (mx.softmax(scores, axis=-1) @ values).swapaxes(1, 2).reshape(1, len(ids), -1)
        h = h + attention.o_proj(out)
        h = h + layer.mlp(layer.post_attention_layernorm(h))
    h = network.model.norm(h)
    logits = network.model.embed_tokens.as_linear(h) if not hasattr(network, "lm_head") else network.lm_head(h)
    return np.array(logits[0]), own


def causal(count: int, start: int = 0) -> np.ndarray:
    return np.tril(np.ones((count, start + count), bool), start)


def block_diagonal(lengths: Sequence[int], behind: int) -> np.ndarray:
    """Each part sees itself alone; the positions behind them see all."""
    mask = causal(sum(lengths) + behind)
    at = 0
    for length in lengths:
        mask[at : at + length, :at] = False
        at += length
    return mask


def held(model: LoadedModel, state: AgentState, start: int, end: int) -> Rows:
    """What a state holds of its positions, dequantised: keys rotated for wherever they were computed."""
    layout = model.layout.full
    at, parts = start, []
    while at < end:
        for stop in range(min(end, at + BLOCK_TOKENS), at, -1):  # a read stays inside one segment
            try:
                parts.append(state.read(at, stop))
                break
            except ValueError:
                continue
        at = stop
    out = []
    for layer in range(layout.layers):
        sides = []
        for side in ("k", "v"):
            packed = (
                np.concatenate([part[f"attn.{side}.{name}"][layer] for part in parts], axis=1)
                for name in ("weight", "scales", "biases")
            )
            sides.append(
                mx.dequantize(*(mx.array(a) for a in packed), group_size=layout.group_size, bits=layout.bits)[None]
            )
        out.append((sides[0], sides[1]))
    return out


def error(got: np.ndarray | mx.array, want: np.ndarray | mx.array) -> float:
    """Relative, of the whole."""
    a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))

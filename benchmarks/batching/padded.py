"""The padded batch that ragged decoding is compared with. It is built for the comparison; the product has none.

All caches are one array per part, [agents, kv_heads, capacity, width], right-aligned, so that a step writes one column
of it in place and takes one quantised product of queries and keys, and one of weights and values, per layer. What lies
before an agent's first position, and behind the present column, is masked. Room is made beforehand. Queries of one
KV head are rows of one product (mlx-lm's own function broadcasts the keys instead, and is 5 to 10% slower here).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models import base

from agentmem.kv.full import FullLayer
from agentmem.kv.span import Piece
from agentmem.kv.state import AgentState
from agentmem.model.loader import LoadedModel


class PaddedBatch:
    """Copies of some agents' states with room for `steps` more positions. Serves mlx-lm's model code as its caches."""

    def __init__(self, model: LoadedModel, states: Sequence[AgentState], steps: int) -> None:
        self._model = model
        lengths = [state.offset for state in states]
        self.begin = self.column = max(lengths)
        self.capacity = self.column + steps
        self.starts = mx.array([self.column - n for n in lengths])[:, None, None, None]
        self.offset = self.begins = mx.array(lengths)
        self.visible = self._visible()
        self.layers = [
            PaddedLayer(self, [state.full.layers[i] for state in states]) for i in range(len(states[0].full.layers))
        ]
        mx.eval(self.arrays())

    def arrays(self) -> list[mx.array]:
        return [array for layer in self.layers for array in (*layer.keys, *layer.values)]

    def rewind(self) -> None:
        """Back to where it began."""
        self.column, self.offset = self.begin, self.begins

    def step(self, tokens: mx.array) -> mx.array:
        """Appends a token [agents] to each; the lazy logits behind it, [agents, vocab]."""
        self.visible = self._visible()
        logits = self._model.network(tokens[:, None], cache=self.layers)[:, -1]
        self.column += 1
        self.offset = self.offset + 1
        return logits

    def _visible(self) -> mx.array:
        columns = mx.arange(self.capacity)
        return (columns >= self.starts) & (columns <= self.column)


class PaddedLayer:
    """One layer of all agents."""

    def __init__(self, batch: PaddedBatch, layers: Sequence[FullLayer]) -> None:
        self.batch = batch
        self.bits, self.group_size = layers[0].layout.bits, layers[0].layout.group_size
        self.keys = [_together(layers, batch, lambda piece, n=n: piece.keys[n]) for n in range(3)]
        self.values = [_together(layers, batch, lambda piece, n=n: piece.values[n]) for n in range(3)]

    @property
    def offset(self) -> mx.array:
        return self.batch.offset

    def make_mask(self, count: int, return_array: bool = False, window_size: int | None = None) -> None:
        return None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[PaddedLayer, PaddedLayer]:
        at = self.batch.column
        for side, new in ((self.keys, keys), (self.values, values)):
            for buffer, row in zip(side, mx.quantize(new, self.group_size, self.bits), strict=True):
                buffer[:, :, at : at + 1] = row
        return self, self

    def attend(self, queries: mx.array, scale: float) -> mx.array:
        agents, heads, count, dim = queries.shape
        kv_heads = self.keys[0].shape[1]
        rows = (queries * scale).reshape(agents, kv_heads, heads // kv_heads * count, dim)
        scores = self._product(rows, self.keys, transpose=True)
        scores = mx.where(self.batch.visible, scores, mx.finfo(scores.dtype).min)
        weights = mx.softmax(scores, axis=-1, precise=True)
        return self._product(weights, self.values, transpose=False).reshape(queries.shape)

    def _product(self, x: mx.array, packed: Sequence[mx.array], transpose: bool) -> mx.array:
        return mx.quantized_matmul(x, *packed, transpose=transpose, group_size=self.group_size, bits=self.bits)


def _together(layers: Sequence[FullLayer], batch: PaddedBatch, part: Callable[[Piece], mx.array]) -> mx.array:
    """One array of a layer's parts, [agents, kv_heads, capacity, width], that end at the same column."""
    rows = []
    for layer in layers:
        segments = mx.concatenate([part(piece) for _, piece in layer.pieces()])
        kv_heads, width = segments.shape[1], segments.shape[3]
        held = segments.swapaxes(0, 1).reshape(kv_heads, -1, width)[:, : layer.offset]
        before = batch.column - layer.offset
        rows.append(mx.pad(held, ((0, 0), (before, batch.capacity - batch.column), (0, 0))))
    return mx.stack(rows)


def install() -> None:
    """Puts padded attention where mlx-lm's models look up quantised attention, before what is there."""
    others = base.quantized_scaled_dot_product_attention

    def dispatch(queries: mx.array, keys: Any, values: Any, *args: Any, **kwargs: Any) -> mx.array:
        if isinstance(keys, PaddedLayer):
            return keys.attend(queries, kwargs["scale"])
        return others(queries, keys, values, *args, **kwargs)

    base.quantized_scaled_dot_product_attention = dispatch

"""Many agents in one pass of the model, each with the state it has: ragged, nothing padded, merged or extracted.

Linear layers run on the batch; attention runs over each agent's own pieces (`kv.attention`). A batch lasts one pass and
owns nothing: an agent joins by being in the next one, and leaves by not being there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from agentmem.kv.full import FullLayer
from agentmem.kv.layout import LayerKind
from agentmem.kv.placed import Placed
from agentmem.kv.plan import Held, Plan, Stretch
from agentmem.kv.recurrent import RecurrentLayer
from agentmem.kv.span import Piece, Quantised
from agentmem.kv.state import AgentState
from agentmem.kv.window import WindowLayer

MOST_SCORES = 1 << 24
"""Scores of one layer that are held at once, 4 bytes each: longer queries are attended to in parts."""


class Batch:
    """layers: in the model's order, what its code takes for its caches. Every agent appends as many positions.

    fused: fast numerics: chunks of one agent are attended to by `kv.fused`, and on a CPU what has many query rows,
    shared segments above all, goes over dequantised keys and values.
    """

    def __init__(self, states: Sequence[AgentState], fused: bool = False) -> None:
        for state in states:
            state.make_room()
        offsets = [state.offset for state in states]
        # An int where it will do: not all of mlx-lm's position encodings take an array.
        offset = offsets[0] if len(offsets) == 1 else mx.array(offsets)
        plans: dict[LayerKind, list[Plan]] = {kind: [] for kind in LayerKind}
        self.layers: list[Any] = []
        for number, kind in enumerate(states[0].layout.kinds):
            layers = [state.layers[number] for state in states]
            if kind is LayerKind.RECURRENT:
                self.layers.append(BatchRecurrentCache(layers))
            else:
                self.layers.append(
                    BatchQuantizedKVCache(layers, offset, plans[kind], fused and len(states) == 1, fused)
                )


class BatchQuantizedKVCache:
    """One attention layer of all agents in the batch. Serves mlx-lm's model code as its cache object.

    offset: of the agents before the pass, [agents] or one number. plans: those of the step, shared by equal layers and
    made by the first of them. fused: whether `kv.fused` may serve.
    fast: whether products may be taken of dequantised keys and values.
    """

    def __init__(
        self,
        layers: Sequence[FullLayer | WindowLayer],
        offset: int | mx.array,
        plans: list[Plan],
        fused: bool = False,
        fast: bool = False,
    ) -> None:
        self.offset, self.fused = offset, fused
        self.dequantises = fast and mx.default_device() == mx.Device(mx.cpu)
        self.layout = layers[0].layout
        self.bits, self.group_size = self.layout.bits, self.layout.group_size  # what mlx-lm knows a quantised cache by
        self._layers, self._plans = layers, plans
        self._held: list[Held] = []

    def make_mask(self, count: int, return_array: bool = False, window_size: int | None = None) -> None:
        """mlx-lm asks the cache for its mask; plans know positions and masks by themselves."""
        return None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[BatchQuantizedKVCache, BatchQuantizedKVCache]:
        """Appends keys and values [agents, kv_heads, count, head_dim]; the attention seam takes this cache back."""
        sides = [self._of_each(mx.quantize(new, self.group_size, self.bits)) for new in (keys, values)]
        for layer, own_keys, own_values in zip(self._layers, *sides, strict=True):
            layer.append(own_keys, own_values)
        self._held = [layer.pieces() for layer in self._layers]
        return self, self

    def _of_each(self, batch: Quantised) -> list[Quantised]:
        if len(self._layers) == 1:
            return [batch]
        weight, scales, biases = (mx.split(part, len(self._layers)) for part in batch)
        return list(zip(weight, scales, biases, strict=True))

    def plans(self, count: int, heads: int) -> list[tuple[slice, Plan]]:
        """Which of `count` queries of each agent to attend from at once, and how. heads: of the queries."""
        units = sum(piece.segments for held in self._held for _, piece in held)
        each = units * heads * 256
        size = max(1, min(count, MOST_SCORES // each))
        rows = [slice(at, min(at + size, count)) for at in range(0, count, size)]
        if not self._plans:
            asking = self._asking(count)
            self._plans += [Plan(self._held, asking[:, part], self._layers[0].window) for part in rows]
        return list(zip(rows, self._plans, strict=True))

    def _asking(self, count: int) -> np.ndarray:
        """The positions of each agent's queries, [agents, count]: the last ones."""
        return np.array([layer.offset for layer in self._layers])[:, None] + np.arange(-count, 0)

    def of_one_agent(self, count: int) -> tuple[Held, np.ndarray, int | None]:
        """What its only agent holds in this layer, the positions of so many queries, and how many a query sees."""
        (held,), (layer,), (asking,) = self._held, self._layers, self._asking(count)
        return held, asking, layer.window

    def side(self, stretch: Stretch, side: str) -> Quantised:
        """This layer's "keys" or "values" of a stretch."""
        piece = self._piece(stretch.home)
        packed: Quantised = getattr(piece, side)
        return stretch.of(piece.side(packed) if isinstance(piece, Placed) else packed)

    def turn(self, queries: mx.array, place: tuple[int, int]) -> mx.array:
        """An agent's queries as a piece of its needs them, whose keys were rotated for other positions.

        place: the agent, and the piece's number there.
        """
        piece = self._piece(place)
        assert isinstance(piece, Placed)
        assert piece.frequencies is not None
        return piece.frequencies.turn(queries, -piece.shift)

    def _piece(self, place: tuple[int, int]) -> Piece:
        agent, number = place
        return self._held[agent][number][1]


class BatchRecurrentCache:
    """One recurrent layer of all agents in the batch. Serves mlx-lm's model code as `ArraysCache` does."""

    lengths: mx.array | None = None
    """Of padded rows; there are none."""

    def __init__(self, layers: Sequence[RecurrentLayer]) -> None:
        self._layers = layers

    def __getitem__(self, slot: int) -> mx.array | None:
        arrays = [layer[slot] for layer in self._layers]
        if len(arrays) == 1:
            return arrays[0]
        some = next((a for a in arrays if a is not None), None)
        return None if some is None else mx.concatenate([mx.zeros_like(some) if a is None else a for a in arrays])

    def __setitem__(self, slot: int, array: mx.array) -> None:
        own = [array] if len(self._layers) == 1 else mx.split(array, len(self._layers))
        for layer, state in zip(self._layers, own, strict=True):
            layer[slot] = state

    def advance(self, count: int) -> None:
        for layer in self._layers:
            layer.advance(count)

    def make_mask(self, count: int) -> None:
        """Nothing is padded."""
        return None

"""A model's rotary frequencies, read from its layers; refuses what cannot be turned back."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models import rope_utils

from agentmem.errors import AgentmemError, Reason
from agentmem.kv.layout import LayerKind
from agentmem.kv.rotation import Frequencies
from agentmem.model.loader import LoadedModel

_WITH_TABLE = (
    rope_utils.Llama3RoPE,
    rope_utils.SuScaledRoPE,
    rope_utils.YarnRoPE,
    rope_utils.ProportionalRoPE,
)
"""They keep radians per position, inverted. What else they scale queries and keys by stays as it is: turning a query
that was scaled already scales nothing again."""


def frequencies(model: LoadedModel) -> list[Frequencies]:
    """Of each layer; equal ones are one. Make it once per model.

    Raises AgentmemError: NOT_REPOSITIONABLE, naming the first layer that cannot be moved and why.
    """
    found: dict[tuple[bytes, bool], Frequencies] = {}
    of_layers = []
    for number, (layer, kind) in enumerate(zip(model.network.layers, model.layout.kinds, strict=True)):
        if kind is LayerKind.WINDOW:
            raise _refused(number, "it sees a window only, and has let go of positions that it would have to see")
        if kind is LayerKind.RECURRENT:
            raise _refused(number, "its state is recurrent, and holds no positions that could be taken from it")
        inverse, traditional = _of(number, getattr(layer.self_attn, "rope", None))
        key = inverse.tobytes(), traditional
        of_layers.append(found.setdefault(key, Frequencies(inverse, traditional)))
    return of_layers


def _of(number: int, rope: Any) -> tuple[np.ndarray, bool]:
    """Radians per position in fp32, as MLX takes them, and whether pairs are neighbours."""
    if type(rope) is nn.RoPE:
        half = rope.dims // 2
        inverse = mx.exp(mx.arange(0, -half, -1, mx.float32) * (np.log(rope.base) / half)) * rope.scale
        return np.array(inverse), bool(rope.traditional)
    if type(rope) in _WITH_TABLE:
        return np.array(mx.reciprocal(rope._freqs.astype(mx.float32))), bool(getattr(rope, "traditional", False))
    if isinstance(rope, rope_utils.DynamicNTKScalingRoPE):
        raise _refused(number, "its RoPE is dynamic: frequencies change with the length, so stored keys would move")
    raise _refused(number, f"how to turn back its position encoding ({type(rope).__name__}) is not known")


def _refused(number: int, why: str) -> AgentmemError:
    return AgentmemError(
        Reason.NOT_REPOSITIONABLE,
        f"Layer {number} of this model cannot be moved to other positions: {why}. Hand over text instead.",
        layer=number,
    )

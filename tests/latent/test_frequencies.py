"""Turning back by the model's own frequencies, and refusing what cannot be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models import rope_utils

from agentmem.errors import AgentmemError, Code, Reason
from agentmem.kv.layout import LayerKind
from agentmem.latent.frequencies import frequencies
from agentmem.model.loader import LoadedModel
from tests.helpers.checkpoints import RECURRENT, WINDOWED
from tests.latent.conftest import Load
from tests.latent.reference import error

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
ROPES = {
    "plain": nn.RoPE(64),
    "neighbours": nn.RoPE(64, traditional=True),
    "partial": nn.RoPE(32),
    "partial neighbours": nn.RoPE(32, traditional=True),
    "linear": nn.RoPE(64, scale=0.25),
    "llama3": rope_utils.Llama3RoPE(64, 512, scaling_config=LLAMA3),
    "longrope": rope_utils.SuScaledRoPE(64, max_position_embeddings=4096, original_max_position_embeddings=256,
                                        long_factor=[1.0 + i / 8 for i in range(32)]),
    "yarn": rope_utils.YarnRoPE(64, scaling_factor=8.0, original_max_position_embeddings=64),
    "proportional": rope_utils.ProportionalRoPE(64, 32),
}  # fmt: skip


def _model(*ropes: Any, kind: LayerKind = LayerKind.FULL) -> LoadedModel:
    layers = [SimpleNamespace(self_attn=SimpleNamespace(rope=rope)) for rope in ropes]
    fake = SimpleNamespace(network=SimpleNamespace(layers=layers), layout=SimpleNamespace(kinds=(kind,) * len(layers)))
    return cast(LoadedModel, fake)


@pytest.mark.parametrize("name", ROPES)
def test_scores_of_turned_queries_are_those_of_keys_there(name: str) -> None:
    rope = ROPES[name]
    (own,) = frequencies(_model(rope))
    q, k = (mx.random.normal((1, 2, 5, 64), key=mx.random.key(i)) for i in (1, 2))
    asking = rope(q, offset=300)
    for shift in (1, 37, 256, -20):
        want = asking @ rope(k, offset=20 + shift).swapaxes(2, 3)
        assert error(own.turn(asking, -shift) @ rope(k, offset=20).swapaxes(2, 3), want) < 1e-5
    assert (
        error(asking @ rope(k, offset=20).swapaxes(2, 3), rope(q, offset=300) @ rope(k, offset=57).swapaxes(2, 3)) > 0.1
    )


def test_half_precision_stays_what_it_is() -> None:
    (own,) = frequencies(_model(nn.RoPE(64)))
    x = mx.random.normal((3, 64)).astype(mx.bfloat16)
    turned = own.turn(x, 7)
    assert turned.dtype == mx.bfloat16
    assert error(own.turn(turned, -7).astype(mx.float32), x.astype(mx.float32)) < 1e-2


def test_equal_layers_share_their_frequencies() -> None:
    one, two, three = frequencies(_model(nn.RoPE(64), nn.RoPE(64), nn.RoPE(64, base=5e5)))
    assert one is two
    assert one is not three


@pytest.mark.parametrize(
    ("model", "layer", "why"),
    [
        (_model(nn.RoPE(64), rope_utils.DynamicNTKScalingRoPE(64, 512, False, 1e4, 2.0)), 1, "dynamic"),
        (_model(nn.RoPE(64), nn.RoPE(64), nn.ALiBi()), 2, "ALiBi"),
        (_model(None), 0, "NoneType"),
    ],
)
def test_what_cannot_be_turned_back_is_refused(model: LoadedModel, layer: int, why: str) -> None:
    _refused(model, layer, why)


@pytest.mark.parametrize(("spec", "why"), [(WINDOWED, "window"), (RECURRENT, "recurrent")])
def test_layers_that_hold_no_positions_are_refused(load: Load, spec: Any, why: str) -> None:
    _refused(load(spec), 0, why)


def _refused(model: LoadedModel, layer: int, why: str) -> None:
    with pytest.raises(AgentmemError) as caught:
        frequencies(model)
    assert caught.value.reason is Reason.NOT_REPOSITIONABLE
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert f"Layer {layer} " in caught.value.message
    assert why in caught.value.message

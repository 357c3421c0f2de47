"""Recurrent layers: the state can be taken back to where it was marked, and only there."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from agentmem.kv.layout import RecurrentLayout
from agentmem.kv.recurrent import RecurrentLayers

LAYOUT = RecurrentLayout(layers=2, shapes=((2, 8), (3,)), dtype=mx.float32)


def advance(layers: RecurrentLayers, count: int, value: float) -> None:
    for i, layer in enumerate(layers.layers):
        for slot, shape in enumerate(LAYOUT.shapes):
            layer[slot] = mx.full((1, *shape), value + i + slot / 2)
        layer.advance(count)


def test_a_snapshot_is_of_the_end_or_of_the_mark() -> None:
    layers = RecurrentLayers(LAYOUT)
    advance(layers, 10, 1.0)
    layers.mark()
    advance(layers, 5, 9.0)
    at_mark, at_end = layers.read(0, 10), layers.read(0, 15)
    assert at_mark["recurrent.0"].shape == (2, 2, 8)
    assert at_mark["recurrent.1"][1].tolist() == [2.5] * 3
    assert at_end["recurrent.1"][1].tolist() == [10.5] * 3
    with pytest.raises(ValueError, match="snapshot"):
        layers.read(0, 12)


def test_trimmed_to_the_mark_it_is_what_it_was() -> None:
    layers = RecurrentLayers(LAYOUT)
    advance(layers, 10, 1.0)
    layers.mark()
    before = layers.read(0, 10)
    advance(layers, 5, 9.0)
    assert not layers.can_trim(12)
    assert layers.can_trim(10)
    layers.trim(10)
    assert layers.offset == 10
    after = layers.read(0, 10)
    assert all(np.array_equal(before[name], after[name]) for name in LAYOUT.tensors)


def test_restored_from_a_snapshot_it_is_the_same() -> None:
    layers, restored = RecurrentLayers(LAYOUT), RecurrentLayers(LAYOUT)
    advance(layers, 10, 1.0)
    restored.restore(layers.read(0, 10), 10)
    assert restored.offset == 10
    a, b = layers.read(0, 10), restored.read(0, 10)
    assert all(np.array_equal(a[name], b[name]) for name in LAYOUT.tensors)
    assert restored.own_bytes == LAYOUT.nbytes
    assert restored.can_trim(10)


def test_before_the_first_position_there_is_no_state() -> None:
    layers = RecurrentLayers(LAYOUT)
    layers.mark()
    advance(layers, 3, 1.0)
    layers.trim(0)
    assert layers.layers[0][0] is None
    assert layers.own_bytes == 0


def test_bfloat16_goes_through_a_snapshot_unchanged() -> None:
    lay = RecurrentLayout(layers=1, shapes=((2,),), dtype=mx.bfloat16)
    layers, restored = RecurrentLayers(lay), RecurrentLayers(lay)
    layers.layers[0][0] = mx.array([[1.1, -0.0]], mx.bfloat16)
    layers.layers[0].advance(1)
    restored.restore(layers.read(0, 1), 1)
    assert restored.layers[0][0].dtype == mx.bfloat16
    assert np.array_equal(layers.read(0, 1)["recurrent.0"], restored.read(0, 1)["recurrent.0"])

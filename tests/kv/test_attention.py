"""Attention state: bits do not depend on how positions were fed, nor on what was restored."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem.kv.attention import attend
from agentmem.kv.batch import Batch
from agentmem.kv.full import TAIL_SEGMENTS
from agentmem.kv.layout import AttentionLayout, StateLayout
from agentmem.kv.state import AgentState
from agentmem.types import BLOCK_TOKENS

LAYOUT = StateLayout.of_full(AttentionLayout(layers=1, kv_heads=2, head_dim=64, group_size=64, dtype=mx.float32))
TOTAL = 900


def _inputs(seed: int = 0, total: int = TOTAL) -> tuple[mx.array, mx.array, mx.array]:
    mx.random.seed(seed)
    q = mx.random.normal((1, 4, total, 64))
    k, v = (mx.random.normal((1, 2, total, 64)) for _ in range(2))
    mx.eval(q, k, v)
    return q, k, v


def _feed(state: AgentState, q: mx.array, k: mx.array, v: mx.array, sizes: list[int]) -> np.ndarray:
    """Outputs of all rows, fed in runs of the given sizes."""
    out, at = [], state.offset
    for size in sizes:
        (layer,) = Batch([state]).layers
        layer.update_and_fetch(k[:, :, at : at + size], v[:, :, at : at + size])
        out.append(np.array(attend(q[:, :, at : at + size], layer, 0.125)))
        state.evaluate()
        at += size
    return np.concatenate(out, axis=2)


def _sizes(cuts: list[int], total: int = TOTAL) -> list[int]:
    edges = [0, *sorted(set(cuts)), total]
    return [b - a for a, b in zip(edges, edges[1:], strict=False) if b > a]


def test_equals_plain_attention_over_the_dequantised_state() -> None:
    q, k, v = _inputs()
    got = _feed(AgentState(LAYOUT), q, k, v, [300, 600])
    kd, vd = (mx.dequantize(*mx.quantize(x, 64, 4), group_size=64, bits=4) for x in (k, v))
    want = mx.fast.scaled_dot_product_attention(q, kd, vd, scale=0.125, mask="causal")
    np.testing.assert_allclose(got, np.array(want), atol=2e-5)


@pytest.mark.reference
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, TOTAL - 1), max_size=5))
def test_feeding_in_any_runs_changes_no_bit(cuts: list[int]) -> None:
    q, k, v = _inputs()
    whole, parts = AgentState(LAYOUT), AgentState(LAYOUT)
    assert np.array_equal(_feed(whole, q, k, v, [TOTAL]), _feed(parts, q, k, v, _sizes(cuts)))
    for start in range(0, TOTAL, BLOCK_TOKENS):
        a, b = (s.read(start, min(start + BLOCK_TOKENS, TOTAL)) for s in (whole, parts))
        assert all(np.array_equal(a[n], b[n]) for n in LAYOUT.full.tensors)


@pytest.mark.reference
@pytest.mark.parametrize("length", [1, 255, 256, 257, 512, 700])
def test_restored_blocks_continue_bit_for_bit(length: int) -> None:
    q, k, v = _inputs()
    stayed, restored = AgentState(LAYOUT), AgentState(LAYOUT)
    _feed(stayed, q, k, v, [length])
    restored.extend([stayed.read(s, min(s + BLOCK_TOKENS, length)) for s in range(0, length, BLOCK_TOKENS)])
    assert restored.offset == length
    rest = _sizes([33], TOTAL - length)
    assert np.array_equal(_feed(stayed, q, k, v, rest), _feed(restored, q, k, v, rest))


@pytest.mark.reference
def test_a_long_tail_freezes_and_changes_no_bit() -> None:
    total = (TAIL_SEGMENTS + 1) * BLOCK_TOKENS + 10
    q, k, v = _inputs(1, total)
    whole, parts = AgentState(LAYOUT), AgentState(LAYOUT)
    a = _feed(whole, q, k, v, [total])
    b = _feed(parts, q, k, v, _sizes(list(range(BLOCK_TOKENS, total, BLOCK_TOKENS)), total))
    assert len(parts.full.spans) == 1
    assert np.array_equal(a, b)


@pytest.mark.reference
def test_trim_goes_back_and_continues_bit_for_bit() -> None:
    q, k, v = _inputs()
    one, two = AgentState(LAYOUT), AgentState(LAYOUT)
    _feed(one, q, k, v, [300])
    _feed(two, q, k, v, [300])
    _feed(two, q * 3, k * 5, v * 7, [200])
    assert two.trim(300)
    assert np.array_equal(_feed(one, q, k, v, [600]), _feed(two, q, k, v, [600]))


def test_trim_into_a_span_is_refused_and_changes_nothing() -> None:
    q, k, v = _inputs()
    state = AgentState(LAYOUT)
    _feed(state, q, k, v, [600])
    state.extend([])
    blocks = [state.read(0, 256), state.read(256, 512)]
    restored = AgentState(LAYOUT)
    restored.extend(blocks)
    assert not restored.trim(100)
    assert restored.offset == 512


def test_bytes_are_counted() -> None:
    q, k, v = _inputs()
    state = AgentState(LAYOUT)
    _feed(state, q, k, v, [256])
    assert state.nbytes == LAYOUT.full.bytes_per_token * 256


def test_bfloat16_blocks_round_trip() -> None:
    layout = StateLayout.of_full(AttentionLayout(layers=1, kv_heads=2, head_dim=64, group_size=32, dtype=mx.bfloat16))
    k, v = (x.astype(mx.bfloat16) for x in _inputs()[1:])
    state = AgentState(layout)
    Batch([state]).layers[0].update_and_fetch(k[:, :, :100], v[:, :, :100])
    state.evaluate()
    block = state.read(0, 100)
    assert block["attn.k.scales"].dtype == np.uint16
    other = AgentState(layout)
    other.extend([block])
    assert all(np.array_equal(block[n], other.read(0, 100)[n]) for n in LAYOUT.full.tensors)

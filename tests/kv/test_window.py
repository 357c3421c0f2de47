"""Windowed layers: what a query sees, what is held, and that sharing, trimming and restoring change no bit."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem.kv.attention import attend
from agentmem.kv.batch import Batch
from agentmem.kv.layout import AttentionLayout, LayerKind, StateLayout, WindowLayout
from agentmem.kv.pool import BlockPool
from agentmem.kv.state import AgentState
from agentmem.kv.window import WindowLayers, WindowPart
from agentmem.types import BLOCK_TOKENS

TOTAL = 1100
SHAPE = {"layers": 1, "kv_heads": 1, "head_dim": 32, "group_size": 32, "dtype": mx.float32}


def layout(window: int = 300) -> StateLayout:
    kinds = (LayerKind.WINDOW, LayerKind.FULL)
    return StateLayout(kinds, AttentionLayout(**SHAPE), WindowLayout(**SHAPE, window=window))


def inputs(seed: int = 0) -> tuple[mx.array, mx.array, mx.array]:
    mx.random.seed(seed)
    q = mx.random.normal((1, 2, TOTAL, 32))
    k, v = (mx.random.normal((1, 1, TOTAL, 32)) for _ in range(2))
    mx.eval(q, k, v)
    return q, k, v


def feed(state: AgentState, of: tuple[mx.array, mx.array, mx.array], *sizes: int) -> np.ndarray:
    """What the windowed layer's rows attend to, fed in runs of these sizes."""
    q, k, v = of
    out, at = [], state.offset
    for size in sizes:
        layers, rows = Batch([state]).layers, slice(at, at + size)
        for layer in layers:
            layer.update_and_fetch(k[:, :, rows], v[:, :, rows])
        out.append(np.array(attend(q[:, :, rows], layers[0], 0.125)))
        state.evaluate()
        at += size
    return np.concatenate(out, axis=2)


def runs(cuts: list[int], total: int = TOTAL) -> list[int]:
    edges = [0, *sorted(set(cuts)), total]
    return [b - a for a, b in zip(edges, edges[1:], strict=False) if b > a]


def restored(state: AgentState, lay: StateLayout) -> AgentState:
    """A state that was given the window parts of another, as they come from the disk."""
    assert state.window is not None
    assert lay.window is not None
    end, first = state.offset, lay.window.reach(state.offset)
    new = AgentState(lay)
    new.extend([state.read(at, min(at + BLOCK_TOKENS, end)) for at in range(0, end, BLOCK_TOKENS)])
    full = range(first // BLOCK_TOKENS, end // BLOCK_TOKENS)
    parts = {n: WindowPart.of(lay.window, state.window.read(n * 256, n * 256 + 256)) for n in full}
    last = state.window.read(end // 256 * 256, end) if end % 256 else None
    assert new.window is not None
    new.window.restore(parts, last, end)
    return new


@pytest.mark.parametrize("window", [1, 100, 256, 257, 700, 5000])
def test_equals_plain_attention_under_the_windows_mask(window: int) -> None:
    q, k, v = of = inputs()
    got = feed(AgentState(layout(window)), of, 300, 600, 200)
    kd, vd = (mx.dequantize(*mx.quantize(x, 32, 4), group_size=32, bits=4) for x in (k, v))
    at = mx.arange(TOTAL)
    mask = (at[None] <= at[:, None]) & (at[None] > at[:, None] - window)
    want = mx.fast.scaled_dot_product_attention(q, kd, vd, scale=0.125, mask=mask)
    np.testing.assert_allclose(got, np.array(want), atol=2e-5)


@pytest.mark.reference
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([1, 100, 256, 300, 600]), st.lists(st.integers(1, TOTAL - 1), max_size=5))
def test_feeding_in_any_runs_changes_no_bit(window: int, cuts: list[int]) -> None:
    of = inputs()
    whole = feed(AgentState(layout(window)), of, TOTAL)
    assert np.array_equal(whole, feed(AgentState(layout(window)), of, *runs(cuts)))


@pytest.mark.reference
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([1, 100, 257, 600]), st.integers(1, TOTAL - 200), st.integers(1, 199))
def test_restored_or_trimmed_it_goes_on_bit_for_bit(window: int, length: int, more: int) -> None:
    of, lay = inputs(), layout(window)
    stayed, trimmed = AgentState(lay), AgentState(lay)
    for state in (stayed, trimmed):
        feed(state, of, *runs([], length))
        state.mark()
    new = restored(stayed, lay)
    feed(trimmed, inputs(1), more)  # and taken back
    assert trimmed.trim(length)
    rest = TOTAL - length
    want = feed(stayed, of, rest)
    assert np.array_equal(want, feed(new, of, rest))
    assert np.array_equal(want, feed(trimmed, of, rest))


def test_what_no_end_can_see_is_let_go_of() -> None:
    state, of = AgentState(layout(300)), inputs()
    feed(state, of, *[100] * 6)
    state.mark()
    feed(state, of, *[100] * 5)
    assert sorted(state.window.layers[0].segments) == [0, 1, 2, 3, 4], "the marked end still sees the first three"
    assert state.trim(600)
    feed(state, of, *[100] * 5)
    state.mark()
    assert sorted(state.window.layers[0].segments) == [2, 3, 4]
    assert not state.trim(600), "its window reaches into what was let go of"
    assert state.offset == 1100


def test_a_part_that_is_shared_is_never_written_to() -> None:
    (_, k, v), lay = inputs(), layout(300)
    one, two = AgentState(lay), WindowLayers(lay.window)
    feed(one, inputs(1), 1024)
    one.mark()
    two.restore(one.window.parts, None, 1024)
    before = one.window.read(768, 1024)
    two.trim(1000)
    two.layers[0].append(*(mx.quantize(side[:, :, :100], 32, 4) for side in (k, v)))
    mx.eval(two.arrays())
    after = one.window.read(768, 1024)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert two.offset == 1100


def test_parts_are_held_once_and_counted_once() -> None:
    of, lay, pool = inputs(), layout(300), BlockPool()
    keys = [b"0", b"1", b"2", b"3"]
    one = AgentState(lay)
    feed(one, of, 1024)
    one.mark()
    pool.note(one, keys)
    two = AgentState(lay)
    for span in pool.find(keys):
        two.hold(span)
    found = pool.find_parts(dict(enumerate(keys)))
    assert sorted(found) == [2, 3]
    two.window.restore(found, None, 1024)
    alone = pool.nbytes
    two.mark()
    pool.note(two, keys)
    assert pool.nbytes == alone
    assert pool.exclusive_bytes(one) == pool.exclusive_bytes(two) == 0
    pool.release(one)
    del one, found
    assert sorted(pool.find_parts(dict(enumerate(keys)))) == [2, 3]
    assert pool.exclusive_bytes(two) == pool.nbytes == alone
    pool.release(two)
    del two
    assert pool.nbytes == 0
    assert pool.find_parts(dict(enumerate(keys))) == {}

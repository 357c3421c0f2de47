"""Fused attention of a chunk is the reference's but for rounding, however the work is divided."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from agentmem.kv import attention, fused, splicing
from agentmem.kv.batch import Batch, BatchQuantizedKVCache
from agentmem.kv.layout import AttentionLayout, LayerKind, StateLayout, WindowLayout
from agentmem.kv.rotation import Frequencies
from agentmem.kv.splicing import Taken
from agentmem.kv.state import AgentState

FULL = AttentionLayout(layers=1, kv_heads=3, head_dim=64, group_size=64, dtype=mx.float32)
HEADS, SCALE = 6, 0.125


def _windowed(window: int) -> StateLayout:
    return StateLayout((LayerKind.WINDOW, LayerKind.FULL), FULL, WindowLayout(**vars(FULL), window=window))


def _caches(layout: StateLayout, held: int, count: int, freeze: int = 0) -> list[BatchQuantizedKVCache]:
    """Caches of all layers behind an append of `count` positions to `held` ones. freeze: segments in a first span."""
    state = AgentState(layout)
    for positions in (held, count):
        if not positions:
            continue
        caches = Batch([state], fused=True).layers
        for cache in caches:
            keys, values = (mx.random.normal((1, FULL.kv_heads, positions, FULL.head_dim)) for _ in range(2))
            cache.update_and_fetch(keys, values)
        state.evaluate()
        if freeze and positions == held:
            state.full.freeze(freeze)
    return caches


@pytest.mark.parametrize("window", [None, 1, 100, 300])
@pytest.mark.parametrize(
    ("held", "count", "freeze"), [(0, 512, 0), (0, 30, 0), (700, 300, 1), (512, 8, 2), (1, 511, 0)]
)
def test_equals_the_reference_but_for_rounding(window: int | None, held: int, count: int, freeze: int) -> None:
    mx.random.seed(held + count)
    layout = StateLayout.of_full(FULL) if window is None else _windowed(window)
    for cache in _caches(layout, held, count, freeze)[:1]:
        queries = 3 * mx.random.normal((1, HEADS, count, FULL.head_dim))
        want, got = attention.attend(queries, cache, SCALE), fused.attend(queries, cache, SCALE)
        np.testing.assert_allclose(np.array(got), np.array(want), atol=2e-5)


@pytest.mark.parametrize("heads_at_once", [1, 2])
@pytest.mark.parametrize("queries_at_once", [7, 100])
@pytest.mark.parametrize("window", [None, 150])
def test_work_that_is_divided_comes_to_the_same(
    heads_at_once: int, queries_at_once: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mx.random.seed(0)
    layout = StateLayout.of_full(FULL) if window is None else _windowed(window)
    cache = _caches(layout, 400, 300)[0]
    queries = mx.random.normal((1, HEADS, 300, FULL.head_dim))
    want = np.array(attention.attend(queries, cache, SCALE))
    # The first query is that of position 400.
    positions = 700 if window is None else 700 - (400 - window + 1) // 256 * 256
    monkeypatch.setattr(fused, "MOST_BYTES", heads_at_once * 2 * positions * FULL.head_dim * 4)
    monkeypatch.setattr(fused, "MOST_SCORES", queries_at_once * 2 * heads_at_once * positions)
    calls = []
    real = mx.fast.scaled_dot_product_attention

    def spy(q: mx.array, *args, **kwargs):  # type: ignore[no-untyped-def]
        calls.append(q.shape)
        return real(q, *args, **kwargs)

    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", spy)
    np.testing.assert_allclose(np.array(fused.attend(queries, cache, SCALE)), want, atol=2e-5)
    assert max(shape[1] for shape in calls) == 2 * heads_at_once
    assert max(shape[1] * shape[2] for shape in calls) == 2 * heads_at_once * queries_at_once


def test_only_a_chunk_of_one_agent_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(fused, "attend", lambda queries, *_: taken.append(queries.shape[2]) or queries)
    layout = StateLayout.of_full(FULL)
    for agents, count, is_fused in ((1, 8, True), (1, 7, True), (1, 1, True), (1, 64, False), (2, 8, True)):
        states = [AgentState(layout) for _ in range(agents)]
        (cache,) = Batch(states, is_fused).layers
        new = mx.random.normal((agents, FULL.kv_heads, count, FULL.head_dim))
        cache.update_and_fetch(new, new)
        queries = mx.random.normal((agents, HEADS, count, FULL.head_dim))
        attention._dispatch(queries, cache, cache, scale=SCALE, mask=None)
    assert taken == [8]


def _peak(queries: mx.array, cache: BatchQuantizedKVCache, monkeypatch: pytest.MonkeyPatch) -> tuple[mx.array, float]:
    """What comes of it, and the bytes held meanwhile, scores aside, over MOST_BYTES, which two of three heads fill."""
    positions, count = 4096 + 256, queries.shape[2]
    most_bytes, most_scores = 2 * 2 * positions * FULL.head_dim * 4, 1 << 18
    monkeypatch.setattr(fused, "MOST_BYTES", most_bytes)
    monkeypatch.setattr(fused, "MOST_SCORES", most_scores)
    mx.eval(queries)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    got = fused.attend(queries, cache, SCALE)
    mx.eval(got)
    scores = 4 * min(most_scores, 4 * count * positions)
    return got, (mx.get_peak_memory() - before - 4 * scores - 4 * queries.nbytes) / most_bytes


@pytest.mark.parametrize("count", [8, 256])
def test_memory_is_bounded_by_what_is_stated(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache,) = _caches(StateLayout.of_full(FULL), 4096 + 256 - count, count)
    _, peak = _peak(mx.random.normal((1, HEADS, count, FULL.head_dim)), cache, monkeypatch)
    assert peak < 2.1


@pytest.mark.parametrize("count", [8, 250])
def test_turned_keys_are_bounded_too(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, where a piece of 4096 positions lies behind others."""
    donor, state = (AgentState(StateLayout.of_full(FULL)) for _ in range(2))
    for own, held in ((donor, 4096), (state, 256 - count)):
        new = mx.random.normal((1, FULL.kv_heads, held, FULL.head_dim))
        Batch([own]).layers[0].update_and_fetch(new, new)
        own.evaluate()
    splicing.close(state.full)
    turns = Frequencies(1 / 10000 ** np.linspace(0, 1, FULL.head_dim // 2), False)
    moved = [Taken(span, rows + 256 - count, 256 - count) for span, rows, _ in splicing.take(donor.full, 0, 4096)]
    splicing.place(state.full, moved, [turns])
    (cache,) = Batch([state], fused=True).layers
    new = mx.random.normal((1, FULL.kv_heads, count, FULL.head_dim))
    cache.update_and_fetch(new, new)
    queries = mx.random.normal((1, HEADS, count, FULL.head_dim))
    mx.eval(state.arrays())
    got, peak = _peak(queries, cache, monkeypatch)
    assert peak < 2.1
    np.testing.assert_allclose(np.array(got), np.array(attention.attend(queries, cache, SCALE)), atol=2e-5)


def test_half_precision_stays_what_it_is() -> None:
    half = replace(FULL, dtype=mx.float16)
    state = AgentState(StateLayout.of_full(half))
    (cache,) = Batch([state], fused=True).layers
    new = mx.random.normal((1, FULL.kv_heads, 16, FULL.head_dim)).astype(mx.float16)
    cache.update_and_fetch(new, new)
    queries = mx.random.normal((1, HEADS, 16, FULL.head_dim)).astype(mx.float16)
    got, want = fused.attend(queries, cache, SCALE), attention.attend(queries, cache, SCALE)
    assert got.dtype == mx.float16
    np.testing.assert_allclose(np.array(got), np.array(want), atol=2e-2)

"""A batch: what an agent gets does not depend on who else is in it, nor on whose segments it shares."""

from __future__ import annotations

from contextlib import nullcontext

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem.kv import alongside
from agentmem.kv import batch as batch_module
from agentmem.kv.attention import attend
from agentmem.kv.batch import Batch
from agentmem.kv.full import TAIL_SEGMENTS
from agentmem.kv.layout import AttentionLayout, LayerKind, RecurrentLayout, StateLayout, WindowLayout
from agentmem.kv.span import Piece, Span
from agentmem.kv.state import AgentState
from agentmem.types import BLOCK_TOKENS

SHAPE = {"layers": 1, "kv_heads": 2, "head_dim": 32, "group_size": 32, "dtype": mx.float32}
LAYOUT = StateLayout((LayerKind.FULL, LayerKind.WINDOW), AttentionLayout(**SHAPE), WindowLayout(**SHAPE, window=300))
RECURRENT = StateLayout(
    (LayerKind.FULL, LayerKind.RECURRENT),
    AttentionLayout(**SHAPE),
    recurrent=RecurrentLayout(1, ((2, 3),), mx.float32),
)
HEADS = 4


def rows(seed: int, count: int) -> tuple[mx.array, mx.array, mx.array]:
    """Queries, keys and values of so many positions, [1, heads, count, 32], that the seed determines."""
    keys = mx.random.split(mx.random.key(seed), 3)
    shapes = (HEADS, 2, 2)
    return tuple(mx.random.normal((1, n, count, 32), key=keys[i]) for i, n in enumerate(shapes))  # type: ignore[return-value]


def step(states: list[AgentState], seeds: list[int], count: int = 1) -> list[np.ndarray]:
    """What each agent's new positions attend to in each layer, [layers, heads, count, 32]; rows are the seed's."""
    q, k, v = (mx.concatenate(list(side)) for side in zip(*(rows(seed, count) for seed in seeds), strict=True))
    out = []
    for cache in Batch(states).layers:
        cache.update_and_fetch(k, v)
        out.append(attend(q, cache, 0.2))
    mx.eval(out)
    for state in states:
        state.evaluate()
    return list(np.stack([np.array(o) for o in out], axis=1))


def grown(length: int, seed: int = 1, layout: StateLayout = LAYOUT) -> AgentState:
    """The first positions of a timeline that the seed determines."""
    state = AgentState(layout)
    _, k, v = rows(seed, 6000)
    for at in range(0, length, 512):
        for cache in Batch([state]).layers:
            cache.update_and_fetch(k[:, :, at : min(at + 512, length)], v[:, :, at : min(at + 512, length)])
        state.evaluate()
    state.mark()
    return state


def forked(parent: AgentState, donor: AgentState) -> AgentState:
    """An agent at the end of `donor`, which holds the beginning of the parent's timeline: it shares what can be.

    Spans are the parent's, window parts the donor's.
    """
    child, length = AgentState(parent.layout), donor.offset
    while parent.offset - parent.full.tail_start >= BLOCK_TOKENS:
        parent.full.freeze(1)
    for span in parent.full.spans:
        if child.offset + span.segments * BLOCK_TOKENS <= length:
            child.hold(span)
    while child.offset < length:
        child.extend([parent.read(child.offset, min(child.offset + BLOCK_TOKENS, length))])
    assert child.window is not None
    assert donor.window is not None
    border = length // BLOCK_TOKENS * BLOCK_TOKENS
    child.window.restore(donor.window.parts, donor.window.read(border, length) if border < length else None, length)
    return child


@pytest.mark.reference
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 700), min_size=2, max_size=5), st.data())
def test_whoever_else_is_there_changes_no_bit(lengths: list[int], data: st.DataObject) -> None:
    states = [grown(length, seed) for seed, length in enumerate(lengths)]
    alone = [grown(length, seed) for seed, length in enumerate(lengths)]
    for n in range(3):
        there = data.draw(st.lists(st.sampled_from(range(len(lengths))), min_size=1, unique=True))
        got = step([states[i] for i in there], [100 * n + i for i in there])
        for place, i in enumerate(there):
            (want,) = step([alone[i]], [100 * n + i])
            assert np.array_equal(got[place], want)
    for one, other in zip(states, alone, strict=True):
        assert one.offset == other.offset
        start = one.offset // BLOCK_TOKENS * BLOCK_TOKENS
        if start < one.offset:
            mine, theirs = one.read(start, one.offset), other.read(start, other.offset)
            assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.reference
@pytest.mark.parametrize("lengths", [(600, 600, 600), (1024, 600, 512), (512, 1100, 300), (700, 256, 700)])
def test_shared_segments_change_no_bit_and_are_attended_to_once(lengths: tuple[int, ...]) -> None:
    parent = grown(1100)
    donors = {length: grown(length) for length in lengths}
    family = [parent, *(forked(parent, donors[length]) for length in lengths), grown(900, 2)]
    alone = [grown(1100), *(grown(length) for length in lengths), grown(900, 2)]
    for n in range(2):
        seeds = [n * 10 + i for i in range(len(family))]
        got = step(family, seeds)
        for one, state, seed in zip(got, alone, seeds, strict=True):
            assert np.array_equal(one, step([state], [seed])[0])
    full, window = Batch(family).layers
    for cache, expected in ((full, True), (window, len(set(lengths)) < len(lengths))):
        cache.update_and_fetch(*(mx.zeros((len(family), 2, 1, 32)) for _ in "kv"))
        ((_, plan),) = cache.plans(1, HEADS)
        assert any(len(stretch.members) > 1 for stretch in plan.stretches) is expected


@pytest.mark.reference
def test_one_long_among_short_ones() -> None:
    lengths = (1, (TAIL_SEGMENTS + 3) * BLOCK_TOKENS + 5, 255, 256)
    states, alone = ([grown(length, i) for i, length in enumerate(lengths)] for _ in "ab")
    got = step(states, [7, 8, 9, 10])
    assert all(np.array_equal(got[i], step([alone[i]], [7 + i])[0]) for i in range(4))


@pytest.mark.reference
def test_long_queries_are_attended_to_in_parts_and_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = step([grown(700)], [5], count=300)[0]
    monkeypatch.setattr(batch_module, "MOST_SCORES", 5 * HEADS * 256 * 37)
    assert np.array_equal(step([grown(700)], [5], count=300)[0], whole)


@pytest.mark.reference
@pytest.mark.parametrize("lengths", [(2000,), (1400, 300, 1), (300, 300, 300), (1, 1, 1400)])
def test_a_second_stream_changes_no_bit(lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A stretch that lies across the middle is cut, at whatever segment."""
    seeds = [*range(len(lengths))]
    monkeypatch.setattr(alongside, "helps", lambda units: False)
    one = step([grown(n, i) for i, n in enumerate(lengths)], seeds)
    monkeypatch.setattr(alongside, "helps", lambda units: units > 1)
    two = step([grown(n, i) for i, n in enumerate(lengths)], seeds)
    assert np.array_equal(one, two)


def test_each_stream_has_half_of_the_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alongside, "helps", lambda units: True)
    family = [grown(n, i, StateLayout.of_full(AttentionLayout(**SHAPE))) for i, n in enumerate((1400, 300, 200))]
    (cache,) = Batch(family).layers
    cache.update_and_fetch(*(mx.zeros((3, 2, 1, 32)) for _ in "kv"))
    ((_, plan),) = cache.plans(1, HEADS)
    streams = [(stretch.units, isinstance(stream, nullcontext)) for stretch, stream in plan.work()]
    assert streams == [(4, True), (2, False), (2, False), (1, False)]


def test_the_state_of_recurrent_layers_stays_each_agents_own() -> None:
    states = [AgentState(RECURRENT) for _ in range(3)]
    states[1].layers[1][0] = mx.full((1, 2, 3), 5.0)
    cache = Batch(states).layers[1]
    assert cache[0][:, 0, 0].tolist() == [0, 5, 0]
    cache[0] = cache[0] + mx.array([1.0, 2.0, 3.0])[:, None, None]
    cache.advance(4)
    assert [state.layers[1][0][0, 1, 2].item() for state in states] == [1, 7, 3]
    assert [state.layers[1].offset for state in states] == [4, 4, 4]


def test_before_the_first_position_there_is_no_recurrent_state() -> None:
    assert Batch([AgentState(RECURRENT), AgentState(RECURRENT)]).layers[1][0] is None


@pytest.mark.reference
def test_sums_are_in_order_of_position_whatever_is_shared() -> None:
    """The second agent's last segment is numbered before its others, since the first agent has it too."""
    layout = StateLayout.of_full(AttentionLayout(**SHAPE))

    def timeline(seed: int) -> list[Piece]:
        state = grown(768, seed, layout)
        return [state.full.freeze(1).layers[0] for _ in range(3)]

    def held(*pieces: Piece) -> AgentState:
        state = AgentState(layout)
        for piece in pieces:
            state.hold(Span([piece]))
        return state

    a, b = timeline(1), timeline(2)
    got = step([held(*a), held(b[0], b[1], a[2])], [7, 8])
    assert np.array_equal(got[1], step([held(b[0], b[1], a[2])], [8])[0])

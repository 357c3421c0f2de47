"""Prefill-token equivalents: the paper's figures, sums done by hand, and what must hold of any."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.primitives.pte import Call, Cost, DeviceRatio, cost
from agentmem.types import Usage

COUNTS = st.integers(0, 10**6)
RATIOS = st.builds(DeviceRatio, st.floats(0, 1), st.floats(0, 1000))


@st.composite
def calls(draw: st.DrawFn) -> Call:
    new = draw(COUNTS)
    return Call(new, draw(COUNTS), new + draw(COUNTS), draw(COUNTS))


def test_the_formula_by_hand() -> None:
    """Turn 1: 1,000 new positions, 50 tokens. Turn 2: 200 new ones behind 1,050, of which 300 were lost; 10 tokens."""
    turns = [Call(1000, 0, 1000, 50), Call(200, 300, 1250, 10)]
    found = cost(turns, DeviceRatio(0.002))
    assert found == Cost(1200.0, 300.0, pytest.approx(0.002 * 1000 * 50 + 0.002 * 1250 * 10))
    assert found.total == pytest.approx(1200 + 300 + 100 + 25)
    assert cost(turns, DeviceRatio(0.002, 40.0)).decode == pytest.approx(125 + 40 * 60)


def without_reuse(calls: Iterable[Call]) -> list[Call]:
    """The same calls where no cache outlives one: each context is computed whole."""
    return [Call(c.new, c.context - c.new, c.context, c.decoded) for c in calls]


def test_without_reuse_it_is_the_papers() -> None:
    """Section 3.2: the sum of D_prefill + gamma * L_seq * D_decode, D_prefill being the whole context each time."""
    gamma, contexts, decoded = 0.00625, [500, 900, 4000], [120, 30, 700]
    turns = [Call(c // 3, 0, c, d) for c, d in zip(contexts, decoded, strict=True)]
    paper = sum(c + gamma * c * d for c, d in zip(contexts, decoded, strict=True))
    assert cost(without_reuse(turns), DeviceRatio(gamma)).total == pytest.approx(paper)


def test_a_turns_call_counts_hidden_work() -> None:
    usage = Usage(
        prompt_tokens=900, reused_hot_tokens=500, reused_warm_tokens=100, recomputed_tokens=200, prefill_tokens=100,
        generated_tokens=30, latent_steps=20,
    )  # fmt: skip
    assert Call.of(usage) == Call(new=100, nonreusable=200, context=900, decoded=50)


@settings(max_examples=30)
@given(st.lists(calls(), max_size=5), st.lists(calls(), max_size=5), RATIOS)
def test_costs_add_up_and_reuse_never_costs(some: list[Call], more: list[Call], ratio: DeviceRatio) -> None:
    assert cost(some + more, ratio).total == pytest.approx(cost(some, ratio).total + cost(more, ratio).total)
    kept = [Call(c.new, 0, c.context, c.decoded) for c in some]
    assert cost(kept, ratio).total <= cost(without_reuse(some), ratio).total
    assert cost([], ratio).total == 0


@given(calls(), RATIOS)
def test_a_longer_context_never_decodes_for_less(call: Call, ratio: DeviceRatio) -> None:
    longer = Call(call.new, call.nonreusable, call.context + 1, call.decoded)
    assert cost([call], ratio).decode <= cost([longer], ratio).decode


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_ratio_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        DeviceRatio(value)
    with pytest.raises(ValueError, match="ratio"):
        DeviceRatio(0.1, value)


@pytest.mark.parametrize("counts", [(-1, 0, 5, 0), (0, -1, 5, 0), (0, 0, -1, 0), (0, 0, 5, -1), (6, 0, 5, 0)])
def test_a_call_that_cannot_be_is_refused(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"counts|context"):
        Call(*counts)

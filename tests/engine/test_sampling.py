from __future__ import annotations

from collections import Counter

import mlx.core as mx

from agentmem.engine.request import Sampling
from agentmem.engine.sampling import sample

LOGITS = mx.log(mx.array([0.5, 0.25, 0.15, 0.1]))


def _draws(sampling: Sampling, count: int = 400) -> Counter[int]:
    return Counter(sample(LOGITS, position, sampling, 7).item() for position in range(count))


def test_greedy_takes_the_likeliest() -> None:
    assert _draws(Sampling(), 5) == {0: 5}


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    sampling = Sampling(temperature=1.0)
    forward = [sample(LOGITS, p, sampling, 7).item() for p in range(50)]
    backward = [sample(LOGITS, p, sampling, 7).item() for p in reversed(range(50))]
    assert forward == backward[::-1]
    assert forward != [sample(LOGITS, p, sampling, 8).item() for p in range(50)]


def test_frequencies_follow_the_distribution() -> None:
    counts = _draws(Sampling(temperature=1.0))
    assert abs(counts[0] / 400 - 0.5) < 0.1
    assert abs(counts[3] / 400 - 0.1) < 0.06


def test_top_k_and_top_p_cut_the_tail() -> None:
    assert set(_draws(Sampling(temperature=1.0, top_k=2))) == {0, 1}
    assert set(_draws(Sampling(temperature=1.0, top_p=0.7))) == {0, 1}
    assert set(_draws(Sampling(temperature=1.0, top_p=1.0))) == {0, 1, 2, 3}


def test_top_p_counts_after_temperature() -> None:
    assert set(_draws(Sampling(temperature=0.2, top_p=0.9))) == {0}

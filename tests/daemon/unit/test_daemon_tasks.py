"""When an answer is right, and how sure a share is."""

from __future__ import annotations

import pytest
from agentmem_daemon.tasks import Score, Task, wilson


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("It is 7.", True),
        ("7", True),
        ("It is 17.", False),
        ("It is 7b.", False),
        ("it's CEDAR  ash", True),
        ("cedars ash", False),
        ("", False),
    ],
)
def test_an_answer_is_right_as_words_of_their_own(text: str, right: bool) -> None:
    assert Task("a", "?", ("7", "cedar\nash")).is_right(text) is right


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (450, 500, 0.8706, 0.9234), (0, 0, 0, 1)],
)
def test_wilson(right: int, count: int, low: float, high: float) -> None:
    """Against the textbook's figures."""
    assert wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_a_score_of_failures_alone() -> None:
    score = Score("vote", "text", 0)
    score.fail("QUEUE_FULL")
    assert (score.accuracy, score.document()["failed"]) == (0.0, {"QUEUE_FULL": 1})

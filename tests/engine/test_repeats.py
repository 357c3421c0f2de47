"""Calls that are sent again, and calls that expect a turn: nothing is done twice, or behind somebody's back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentmem.engine.engine import Engine
from agentmem.errors import Reason
from agentmem.types import Residency
from tests.engine.runs import PROMPT, A, B, feed, refused


@pytest.mark.parametrize("to", [Residency.WARM, Residency.COLD])
def test_a_repeated_eviction_says_what_the_first_one_freed(engine: Engine, to: Residency) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    freed = engine.evict_agent(A, to, request_id="r")
    assert freed.ram_bytes > 0
    assert (freed.disk_bytes > 0) is (to is Residency.COLD)
    feed(engine, A, 5)
    assert engine.evict_agent(A, to, request_id="r") == freed
    assert engine.get_agent(A).residency is Residency.HOT, "nobody asked for the second turn to go"
    feed(engine, B, 5)
    with refused(Reason.REQUEST_ID_REUSED):
        engine.evict_agent(B, to, request_id="r")


def test_a_dry_run_evicts_nothing_and_uses_no_id_up(engine: Engine) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    would = engine.evict_agent(A, dry_run=True, request_id="r")
    assert engine.evict_agent(A, request_id="r") == would
    assert engine.get_agent(A).residency is Residency.WARM


def test_a_repeated_update_does_not_move_the_expiry(engine: Engine) -> None:
    engine.create_agent(A)
    first = engine.update_agent(A, "r", ttl_s=60)
    assert first.expires is not None
    assert engine.update_agent(A, "r", ttl_s=60).expires == first.expires
    assert engine.update_agent(A, "s", ttl_s=60).expires != first.expires


CHANGES: dict[str, Callable[[Engine, str, int], Any]] = {
    "update": lambda engine, r, turn: engine.update_agent(A, r, turn, pinned=True),
    "evict": lambda engine, r, turn: engine.evict_agent(A, request_id=r, expect_turn=turn),
    "delete": lambda engine, r, turn: engine.delete_agent(A, r, turn),
    "prune": lambda engine, r, turn: engine.prune("default", agent="a", request_id=r, expect_turn=turn),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_may_expect_a_turn(engine: Engine, change: str) -> None:
    for ids in ((5, 6), (7, 8)):
        feed(engine, A, *ids)
    for other in (0, 1, 3):
        with refused(Reason.TURN_MISMATCH):
            CHANGES[change](engine, "r", other)
    assert (engine.get_agent(A).turn, engine.get_agent(A).pinned) == (2, False)
    made = CHANGES[change](engine, "r", 2)
    again = CHANGES[change](engine, "r", 2)  # expects a turn that may be the last one no more
    assert again == made


@pytest.mark.parametrize("change", CHANGES)
def test_an_agent_that_is_not_there_has_no_turn_to_expect(engine: Engine, change: str) -> None:
    with refused(Reason.AGENT_NOT_FOUND):
        CHANGES[change](engine, "r", 0)


def test_prefetching_and_making_a_namespace_can_be_repeated(engine: Engine) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    engine.evict_agent(A)
    assert engine.prefetch_agent(A).warm_tokens == len(PROMPT)
    assert engine.prefetch_agent(A).hot_tokens == len(PROMPT)
    for _ in range(2):
        engine.create_namespace("team")
    assert [one.name for one in engine.list_namespaces()] == ["default", "team"]

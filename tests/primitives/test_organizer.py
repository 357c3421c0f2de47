"""Which plan a query gets, and what is said about where it came from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from agentmem.engine.request import Sampling
from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.agents import Ask, Member
from agentmem.primitives.composing import EXAMPLES, schema
from agentmem.primitives.knowledge import KnowledgePool, Match
from agentmem.primitives.nearness import FLOOR
from agentmem.primitives.organizer import DEFAULT, POOL_UNREAD, PlanSource, choose
from agentmem.primitives.plan import Plan
from agentmem.types import AgentRef
from tests.primitives.plans import document, node, plan

QUERY = "Review this pull request and look for bugs in the diff"


class Composer:
    """Agents of which one writes `text`, or fails; notes what it was asked."""

    def __init__(self, text: str = "", failure: AgentmemError | None = None) -> None:
        self.text, self.failure = text, failure
        self.asked: list[tuple[str, Sampling]] = []

    def fresh(self, role: str, count: int = 1) -> list[Member]:
        return [Member(AgentRef("default", role), role, role)]

    def generate(self, asks: Sequence[Ask], sampling: Sampling) -> list[str]:
        self.asked += [(ask.text, sampling) for ask in asks]
        if self.failure is not None:
            raise self.failure
        return [self.text]


def choice(pool: KnowledgePool, query: str, agents: Any = None) -> Any:
    return choose(query, pool.nearest, agents)


def test_the_nearest_entry_gives_the_plan(pool: KnowledgePool) -> None:
    best, *_ = pool.nearest(QUERY)
    found = choice(pool, QUERY)
    assert (found.source, found.plan, found.entry_id) == (PlanSource.POOL, best.entry.plan, best.entry.id)
    assert found.why == best.entry.why
    assert found.matches == tuple(pool.nearest(QUERY, 5))
    assert found.fallback == ""


def test_a_learned_entry_says_what_it_was_recorded_for(pool: KnowledgePool) -> None:
    for _ in range(8):
        learned = pool.record("zebra husbandry", plan("vote", solvers=5), 1.0)
    found = choice(pool, "zebra husbandry")
    assert (found.entry_id, found.plan) == (learned.id, learned.plan)
    assert "zebra husbandry" in found.why


@pytest.mark.parametrize("query", ["zzzyzx", "?!", "the of and"])
def test_where_nothing_is_near_one_agent_answers(pool: KnowledgePool, query: str) -> None:
    found = choice(pool, query)
    assert (found.source, found.plan, found.entry_id, found.matches) == (PlanSource.DEFAULT, DEFAULT, "", ())
    assert [n.type for n in found.plan.nodes] == ["answer"]
    assert Plan.parse(DEFAULT.json_text()) == DEFAULT


def test_a_near_entry_is_not_hidden_by_well_scored_ones_that_are_not_near(pool: KnowledgePool) -> None:
    for what in ("tennis club", "chess club", "choir board", "parent evening", "garden society", "town hall"):
        for _ in range(8):
            pool.record(f"minutes of {what}", plan("vote"), 1.0)
    found = choice(pool, "Proofread the minutes")
    assert (found.source, found.entry_id) == (PlanSource.POOL, found.matches[0].entry.id)
    assert found.matches[0].similarity >= FLOOR
    assert any(m.similarity < FLOOR and m.rank > found.matches[0].rank for m in found.matches)


def test_the_model_is_asked_under_a_grammar_with_the_nearest_as_examples(pool: KnowledgePool) -> None:
    own = plan("plan_execute", executors=2)
    agents = Composer(own.json_text())
    found = choice(pool, QUERY, agents)
    assert (found.source, found.plan, found.entry_id, found.fallback) == (PlanSource.MODEL, own, "", "")
    ((text, sampling),) = agents.asked
    assert json.loads(sampling.json_schema) == schema()
    assert sampling.max_tokens
    assert text.endswith(f"Task: {QUERY}\nPlan:")
    for match in pool.nearest(QUERY, EXAMPLES):
        assert match.entry.title in text


CYCLE = document(node("a", "b"), node("b", "a"), output="a")


@pytest.mark.parametrize(
    ("agents", "why"),
    [
        (Composer('{"version": 1, "nodes": [{"id": "a"'), "not JSON"),
        (Composer(CYCLE), "waits for itself"),
        (Composer(failure=AgentmemError(Reason.SCHEMA_UNSUPPORTED, "this model cannot do it")), "This model cannot"),
        (Composer(failure=AgentmemError(Reason.CONTEXT_OVERFLOW, "the context is full")), "The context is full."),
    ],
    ids=["cut", "cycle", "unsupported", "overflow"],
)
def test_what_the_model_cannot_do_gives_way_to_the_pool_and_says_so(
    pool: KnowledgePool, agents: Composer, why: str
) -> None:
    found = choice(pool, QUERY, agents)
    assert (found.source, found.entry_id) == (PlanSource.POOL, pool.nearest(QUERY)[0].entry.id)
    assert why in found.fallback
    nothing = choice(pool, "zzzyzx", agents)
    assert (nothing.source, nothing.plan) == (PlanSource.DEFAULT, DEFAULT)
    assert why in nothing.fallback


def test_the_models_plan_is_no_fallback_where_the_pool_cannot_be_read(pool: KnowledgePool) -> None:
    def unreadable(query: str, k: int) -> list[Match]:
        raise AgentmemError(Reason.KNOWLEDGE_UNREADABLE, "the pool is damaged")

    own = plan("plan_execute", executors=2)
    found = choose(QUERY, unreadable, Composer(own.json_text()))  # type: ignore[arg-type]
    assert (found.source, found.plan, found.fallback) == (PlanSource.MODEL, own, "")
    assert found.notes == ("The model was shown no examples. The pool is damaged.",)
    cut = choose(QUERY, unreadable, Composer("{"))  # type: ignore[arg-type]
    assert (cut.source, cut.why, cut.notes) == (PlanSource.DEFAULT, POOL_UNREAD, ())
    assert cut.fallback.startswith("The pool is damaged. The model's plan was not used.")


def test_other_failures_are_no_reason_for_another_plan(pool: KnowledgePool) -> None:
    with pytest.raises(AgentmemError) as caught:
        choice(pool, QUERY, Composer(failure=AgentmemError(Reason.REQUEST_CANCELLED, "cancelled")))
    assert caught.value.reason is Reason.REQUEST_CANCELLED

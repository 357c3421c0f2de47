"""What a call to Run asks for, checked before any work starts."""

from __future__ import annotations

from typing import Any

import pytest
from agentmem_daemon import orders

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.organizer import DEFAULT, Choice, PlanSource
from agentmem.primitives.plan import Plan
from agentmem.types import Priority
from agentmem.v1 import primitives_pb2 as pb
from agentmem.v1 import types_pb2 as pb_types
from tests.primitives.plans import document, node

PLAN = document(node("a"), node("b", "a", type="vote"))


def order(**fields: Any) -> orders.Order:
    return orders.order(pb.RunRequest(**{"query": "who?", **fields}))


def fitted(**fields: Any) -> Plan:
    asked = order(**fields)
    assert asked.plan is not None
    return asked.fitted(asked.plan)


def test_with_nothing_said_the_organizer_chooses() -> None:
    asked = order(medium=pb.MEDIUM_TEXT, max_tokens=7)
    assert (asked.plan, asked.compose, asked.params) == (None, False, {"medium": "text", "max_tokens": 7})
    assert order(compose=True).compose


def test_a_primitive_is_a_plan_of_one_node() -> None:
    plan = fitted(primitive=pb.PRIMITIVE_VOTE, solvers=5)
    (only,) = plan.nodes
    assert (only.type, only.params.medium, only.calls) == ("vote", "latent", 6)


def test_a_plan_takes_parameters_where_it_has_them() -> None:
    plan = fitted(plan=PLAN, solvers=5, max_tokens=7, medium=pb.MEDIUM_BOTH)
    assert [n.params.model_dump() for n in plan.nodes] == [
        {"medium": "both", "max_tokens": 7, "latent_steps": 20, "temperature": 0.0},
        {"medium": "both", "max_tokens": 7, "latent_steps": 20, "temperature": 0.7, "solvers": 5},
    ]
    assert fitted(plan=PLAN) == Plan.parse(PLAN) != plan


@pytest.mark.parametrize("compose", [True, False])
def test_what_the_organizers_plan_has_no_use_for_is_told_and_nothing_more(compose: bool) -> None:
    """Whether it is refused must not depend on which plan is chosen."""
    asked, plan = order(solvers=5, rounds=1, max_tokens=7, compose=compose), Plan.parse(PLAN)
    assert [n.params.model_dump().get("solvers") for n in asked.fitted(plan).nodes] == [None, 5]
    assert [n.params.max_tokens for n in asked.fitted(plan).nodes] == [7, 7]
    assert asked.notes(plan) == ("rounds was not used: it is of a review, and the plan has none.",)
    assert len(asked.notes(DEFAULT)) == 2
    assert order(max_tokens=7, medium=pb.MEDIUM_TEXT).notes(DEFAULT) == ()


def test_what_does_not_fit_the_organizers_plan_is_told_and_the_plan_keeps_its_own() -> None:
    """Eight votes of 16 solvers would call the model more often than a plan may, though 16 are allowed."""
    votes = [node(f"v{n}", type="vote", solvers=3) for n in range(8)]
    plan = Plan.parse(document(*votes, node("out", *(f"v{n}" for n in range(8))), output="out"))
    asked = order(solvers=16, rounds=2, max_tokens=7)
    chosen = Choice(plan, PlanSource.POOL, "why", "an-entry", notes=("Known.",))
    found = asked.settled(chosen)
    assert [n.params.model_dump().get("solvers") for n in found.plan.nodes] == [3] * 8 + [None]
    assert {n.params.max_tokens for n in found.plan.nodes} == {7}
    assert (found.source, found.why, found.entry_id) == (PlanSource.POOL, "why", "an-entry")
    known, told = found.notes
    assert known == "Known."
    assert told == (
        "Not used, so that the plan keeps its own: solvers. "
        "The plan is invalid: it calls the model up to 137 times; 128 are the most."
    )
    few = order(solvers=4).settled(chosen)
    assert [n.params.model_dump().get("solvers") for n in few.plan.nodes] == [4] * 8 + [None]
    assert few.notes == chosen.notes
    with pytest.raises(AgentmemError) as caught:
        order(plan=plan.json_text(), solvers=16)
    assert caught.value.reason is Reason.PLAN_INVALID


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"query": " "}, Reason.EMPTY_INPUT),
        ({"max_tokens": 0}, Reason.PLAN_INVALID),
        ({"compose": True, "temperature": -1.0}, Reason.PLAN_INVALID),
        ({"plan": "{}"}, Reason.PLAN_INVALID),
        ({"solvers": 17}, Reason.PLAN_INVALID),
        ({"compose": True, "rounds": 0}, Reason.PLAN_INVALID),
        ({"plan": PLAN, "solvers": 17}, Reason.PLAN_INVALID),
        ({"primitive": pb.PRIMITIVE_REVIEW, "solvers": 2}, Reason.INPUT_INVALID),
        ({"plan": PLAN, "rounds": 2}, Reason.INPUT_INVALID),
        ({"primitive": pb.PRIMITIVE_VOTE, "plan": PLAN}, Reason.INPUT_INVALID),
        ({"compose": True, "plan": PLAN}, Reason.INPUT_INVALID),
        ({"plan": PLAN, "temperature": float("nan")}, Reason.PLAN_INVALID),
        ({"medium": 9}, Reason.INPUT_INVALID),
        ({"primitive": 9}, Reason.INPUT_INVALID),
        ({"priority": 9}, Reason.INPUT_INVALID),
        ({"agent": "a\nb"}, Reason.AGENT_NAME_INVALID),
        ({"namespace": "n" * 300}, Reason.NAMESPACE_INVALID),
    ],
    ids=str,
)
def test_each_mistake_has_its_reason(fields: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(AgentmemError) as caught:
        order(**fields)
    assert caught.value.reason is reason


def test_what_the_agents_are_given() -> None:
    given = order(agent="alice", context="known", seed=0, priority=pb_types.PRIORITY_HIGH).given
    assert (given.agent, given.context, given.seed, given.priority) == ("alice", "known", 0, Priority.HIGH)
    plain = order().given
    assert (plain.namespace, plain.agent, plain.context) == ("default", None, "")
    assert plain.seed != order().given.seed

"""What a Run asks for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agentmem_daemon import orders

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.plan import Plan
from agentmem.types import Priority
from agentmem.v1 import primitives_pb2, types_pb2

MIXED = json.dumps(
    {
        "version": 1,
        "nodes": [
            {"id": "a", "type": "vote", "params": {"solvers": 2, "temperature": 0.9}},
            {"id": "b", "type": "review", "params": {"medium": "text"}, "inputs": ["a"]},
        ],
        "output": "b",
    }
)


def order(**fields: Any) -> orders.Order:
    return orders.order(primitives_pb2.RunRequest(**{"query": "what?", **fields}))


def params(plan: Plan) -> list[dict[str, Any]]:
    return [node.params.model_dump() for node in plan.nodes]


def test_nothing_set_leaves_it_to_the_organizer() -> None:
    made = order()
    assert (made.plan, made.compose, made.params) == (None, False, {})
    assert (made.given.namespace, made.given.agent, made.given.context) == ("default", None, "")
    assert made.given.seed != order().given.seed


def test_a_primitive_is_a_plan_of_one_node() -> None:
    made = order(primitive=primitives_pb2.PRIMITIVE_VOTE, solvers=4, seed=0, priority=types_pb2.PRIORITY_HIGH)
    assert made.plan is not None
    (node,) = made.fitted(made.plan).nodes
    assert (node.type, node.params.medium, node.calls) == ("vote", "latent", 5)
    assert (made.given.seed, made.given.priority) == (0, Priority.HIGH)


def test_parameters_hold_for_the_nodes_that_have_them() -> None:
    made = order(plan=MIXED, solvers=5, rounds=1, max_tokens=9, temperature=0.0, medium=primitives_pb2.MEDIUM_BOTH)
    assert made.plan is not None
    common = {"medium": "both", "max_tokens": 9, "latent_steps": 20, "temperature": 0.0}
    assert params(made.fitted(made.plan)) == [common | {"solvers": 5}, common | {"rounds": 1}]
    unchanged = order(plan=MIXED)
    assert unchanged.plan is not None
    assert [p["medium"] for p in params(unchanged.fitted(unchanged.plan))] == ["latent", "text"]


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        (Reason.EMPTY_INPUT, {"query": " \n"}),
        (Reason.INPUT_INVALID, {"primitive": 99}),
        (Reason.INPUT_INVALID, {"medium": 99}),
        (Reason.INPUT_INVALID, {"priority": 99}),
        (Reason.INPUT_INVALID, {"primitive": primitives_pb2.PRIMITIVE_VOTE, "compose": True}),
        (Reason.INPUT_INVALID, {"primitive": primitives_pb2.PRIMITIVE_VOTE, "plan": MIXED}),
        (Reason.INPUT_INVALID, {"plan": MIXED, "executors": 3}),
        (Reason.INPUT_INVALID, {"primitive": primitives_pb2.PRIMITIVE_ANSWER, "rounds": 1}),
        (Reason.PLAN_INVALID, {"plan": "{"}),
        (Reason.PLAN_INVALID, {"plan": MIXED, "solvers": 17}),
        (Reason.PLAN_INVALID, {"plan": MIXED, "temperature": float("nan")}),
        (Reason.PLAN_INVALID, {"plan": MIXED, "max_tokens": 0}),
        (Reason.PLAN_INVALID, {"max_tokens": 0}),
        (Reason.PLAN_INVALID, {"compose": True, "temperature": -1.0}),
        (Reason.AGENT_NAME_INVALID, {"agent": "a\nb"}),
        (Reason.NAMESPACE_INVALID, {"namespace": "n" * 300}),
    ],
)
def test_what_is_refused(reason: Reason, fields: dict[str, Any]) -> None:
    with pytest.raises(AgentmemError) as caught:
        order(**fields)
    assert caught.value.reason is reason

"""A plan's nodes run as soon as their inputs are there, read them in order, and end together when one fails."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.flow import FlowResult, Medium
from agentmem.primitives.plan import Node, Plan
from agentmem.primitives.runner import PlanResult, run_plan
from agentmem.types import Exactness
from tests.primitives.plans import document, documents, node


def result(text: str, *notes: str) -> FlowResult:
    return FlowResult(text, Medium.TEXT, Exactness.REPOSITIONED, (), 0.0, notes)


class Hall:
    """Crews that are but their node's id, and are counted in and out."""

    def __init__(self) -> None:
        self.inside: set[str] = set()
        self.seen: list[str] = []
        self.cancelled = threading.Event()
        self._lock = threading.Lock()

    @contextmanager
    def crew(self, node: Node) -> Iterator[Any]:
        with self._lock:
            assert node.id not in self.seen
            self.inside.add(node.id)
            self.seen.append(node.id)
        try:
            yield node.id
        finally:
            with self._lock:
                self.inside.remove(node.id)

    def run(self, plan: str, flow: Callable[..., FlowResult]) -> PlanResult:
        flows = dict.fromkeys(("answer", "review", "vote", "plan_execute"), flow)
        return run_plan(Plan.parse(plan), "the question", self.crew, self.cancelled.set, flows)


def spell(agents: Any, question: str, inputs: Sequence[str], params: Any, medium: Medium) -> FlowResult:
    assert question == "the question"
    return result(f"{agents}({','.join(inputs)})", "said by all", f"said by {agents}")


def expected(plan: Mapping[str, Any], id: str) -> str:
    (one,) = (n for n in plan["nodes"] if n["id"] == id)
    return f"{id}({','.join(expected(plan, i) for i in one.get('inputs', ()))})"


@given(documents())
@settings(max_examples=40, deadline=None)
def test_each_node_reads_what_its_inputs_made(plan: Mapping[str, Any]) -> None:
    hall = Hall()
    made = hall.run(json.dumps(plan), spell)
    assert made.text == expected(plan, plan["output"])
    assert list(made.nodes) == [n["id"] for n in plan["nodes"]]
    assert sorted(hall.seen) == sorted(made.nodes)
    assert (hall.inside, hall.cancelled.is_set()) == (set(), False)


def test_the_result_is_the_outputs_with_the_notes_of_all() -> None:
    made = Hall().run(document(node("a"), node("b", "a"), output="b"), spell)
    assert made.exactness is Exactness.REPOSITIONED
    assert made.notes == ("said by all", "said by a", "said by b")


def test_params_and_medium_are_the_nodes_own() -> None:
    seen = []

    def flow(agents: Any, question: str, inputs: Any, params: Mapping[str, Any], medium: Medium) -> FlowResult:
        seen.append((params["solvers"], params["max_tokens"], medium))
        return result("")

    Hall().run(document(node("a", type="vote", solvers=5, medium="both"), output="a"), flow)
    assert seen == [(5, 512, Medium.BOTH)]


def test_nodes_whose_inputs_are_ready_run_at_once() -> None:
    """Three that only go on together, beside one that takes longer and that the last one alone waits for."""
    together, slow = threading.Barrier(3), threading.Event()

    def flow(agents: Any, question: str, inputs: Any, params: Any, medium: Medium) -> FlowResult:
        if agents in ("a", "b", "c"):
            together.wait(10)
        if agents == "slow":
            assert slow.wait(10)
        if agents == "behind":  # of a, b and c: it does not wait for the slow one
            slow.set()
        return result(agents)

    nodes = [node(id) for id in ("a", "b", "c", "slow")]
    nodes += [node("behind", "a", "b", "c"), node("last", "behind", "slow")]
    assert Hall().run(document(*nodes, output="last"), flow).text == "last"


def test_when_one_fails_the_others_are_cancelled_and_nothing_more_begins() -> None:
    hall = Hall()

    def flow(agents: Any, question: str, inputs: Any, params: Any, medium: Medium) -> FlowResult:
        if agents == "bad":
            raise AgentmemError(Reason.CONTEXT_OVERFLOW, "too long")
        if agents == "long":
            assert hall.cancelled.wait(10)
            raise AgentmemError(Reason.REQUEST_CANCELLED, "cancelled")
        return result(agents)

    plan = document(node("bad"), node("long"), node("next", "bad", "long"), output="next")
    began = time.monotonic()
    with pytest.raises(AgentmemError) as caught:
        hall.run(plan, flow)
    assert caught.value.reason is Reason.CONTEXT_OVERFLOW
    assert time.monotonic() - began < 9
    assert sorted(hall.seen) == ["bad", "long"]
    assert hall.inside == set()


def test_a_node_that_becomes_ready_behind_a_failure_does_not_begin() -> None:
    hall, began = Hall(), threading.Event()

    def flow(agents: Any, question: str, inputs: Any, params: Any, medium: Medium) -> FlowResult:
        if agents == "bad":
            raise AgentmemError(Reason.CONTEXT_OVERFLOW, "too long")
        if agents == "good":
            assert hall.cancelled.wait(10)
        if agents == "long":
            began.wait(0.5)
        if agents == "next":
            began.set()
        return result(agents)

    nodes = [node("bad"), node("good"), node("long"), node("next", "good"), node("end", "bad", "next", "long")]
    with pytest.raises(AgentmemError):
        hall.run(document(*nodes), flow)
    assert sorted(hall.seen) == ["bad", "good", "long"]

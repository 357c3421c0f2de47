"""Runs a plan: each node as soon as its inputs are there, so that those that do not wait for others share batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from graphlib import TopologicalSorter

from agentmem.primitives.agents import Agents
from agentmem.primitives.flow import Flow, FlowResult, Medium
from agentmem.primitives.flows import FLOWS
from agentmem.primitives.plan import Node, Plan
from agentmem.types import Exactness

Crews = Callable[[Node], AbstractContextManager[Agents]]
"""The agents of a node; they go when it ends."""


@dataclass(frozen=True)
class PlanResult:
    """text, exactness: of the output. nodes: what each of the plan made, by id. seconds: by the clock."""

    text: str
    exactness: Exactness
    nodes: Mapping[str, FlowResult]
    seconds: float

    @property
    def notes(self) -> tuple[str, ...]:
        """Of all nodes, each once."""
        return tuple(dict.fromkeys(note for result in self.nodes.values() for note in result.notes))


def run_plan(
    plan: Plan, question: str, crews: Crews, cancel: Callable[[], None], flows: Mapping[str, Flow] = FLOWS
) -> PlanResult:
    """Blocks until all nodes are done.

    cancel: ends the work of all crews; called when a node fails. Raises what the first that failed did, once all ended.
    """
    began = time.monotonic()
    results: dict[str, FlowResult] = {}

    def work(node: Node) -> FlowResult:
        params = node.params
        with crews(node) as agents:
            inputs = [results[id].text for id in node.inputs]
            return flows[node.type](agents, question, inputs, params.model_dump(), Medium(params.medium))

    order = TopologicalSorter({node.id: node.inputs for node in plan.nodes})
    order.prepare()
    failure: BaseException | None = None
    running: dict[Future[FlowResult], str] = {}
    with ThreadPoolExecutor(len(plan.nodes), "agentmem-node") as threads:
        while running or (order.is_active() and failure is None):
            if failure is None:
                running |= {threads.submit(work, plan.node(id)): id for id in order.get_ready()}
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                id = running.pop(done)
                if (error := done.exception()) is None:
                    results[id] = done.result()
                    order.done(id)
                elif failure is None:  # the others fail for the same reason, or because of it
                    failure = error
                    cancel()
    if failure is not None:
        raise failure
    output = results[plan.output]
    return PlanResult(
        output.text, output.exactness, {node.id: results[node.id] for node in plan.nodes}, time.monotonic() - began
    )

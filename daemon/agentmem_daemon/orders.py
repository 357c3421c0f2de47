"""What a Run asks for, checked; and what became of it, as messages."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.agents import RoleUsage
from agentmem.primitives.crew import Given
from agentmem.primitives.organizer import DEFAULT, Choice
from agentmem.primitives.plan import VERSION, Plan
from agentmem.primitives.pte import DeviceRatio, cost
from agentmem.v1 import primitives_pb2, types_pb2
from agentmem_daemon import knowledge, requests

if TYPE_CHECKING:
    from agentmem_daemon.runs import NodeProgress, Outcome

_OF_ALL = ("max_tokens", "latent_steps", "temperature")
_OF = {"rounds": "review", "solvers": "vote", "executors": "plan_execute"}
"""Parameters, and the type of node that has each."""


@dataclass(frozen=True)
class Order:
    """plan: None leaves it to the organizer; compose: it is to ask the model. params: for all nodes that have them."""

    query: str
    plan: Plan | None
    compose: bool
    given: Given
    params: dict[str, Any] = field(default_factory=dict)

    def fitted(self, plan: Plan) -> Plan:
        """The plan with this order's parameters in every node that has them. Raises PLAN_INVALID."""
        if not self.params:
            return plan
        document = plan.model_dump(mode="json")
        for node in document["nodes"]:
            node["params"] |= {n: value for n, value in self.params.items() if _OF.get(n, node["type"]) == node["type"]}
        return Plan.parse(json.dumps(document))

    def settled(self, choice: Choice) -> Choice:
        """The organizer's choice with this order's parameters in its plan, and a note on those that cannot be.

        Each value is one that a node may have (see `order`), but many nodes of many agents may call the model too
        often: then the plan keeps its own numbers of agents and rounds. What is refused must not depend on the choice.
        """
        try:
            return replace(choice, plan=self.fitted(choice.plan))
        except AgentmemError as error:
            if error.reason is not Reason.PLAN_INVALID:
                raise
            names = ", ".join(name for name in self.params if name in _OF and name not in self.unused(choice.plan))
            rest = replace(self, params={name: value for name, value in self.params.items() if name not in _OF})
            note = f"Not used, so that the plan keeps its own: {names}. {error.message}"
            return replace(choice, plan=rest.fitted(choice.plan), notes=(*choice.notes, note))

    def unused(self, plan: Plan) -> list[str]:
        """Parameters that no node of the plan has."""
        types = {node.type for node in plan.nodes}
        return [name for name in self.params if name in _OF and _OF[name] not in types]

    def notes(self, plan: Plan) -> tuple[str, ...]:
        """On what was asked for and the organizer's plan has no use for, for people."""
        unused = self.unused(plan)
        return tuple(f"{name} was not used: it is of a {_OF[name]}, and the plan has none." for name in unused)


def order(request: primitives_pb2.RunRequest) -> Order:
    """Raises EMPTY_INPUT, INPUT_INVALID, PLAN_INVALID, and as `requests` does."""
    if not request.query.strip():
        raise AgentmemError(Reason.EMPTY_INPUT, "The query is empty; there is nothing to work on.")
    kind, medium = requests.primitive(request.primitive), requests.medium(request.medium)
    if (kind is not None) + bool(request.plan) + request.compose > 1:
        raise AgentmemError(Reason.INPUT_INVALID, "Give one of primitive, plan and compose at most.")
    plan = Plan.parse(request.plan) if request.plan else None
    if kind is not None:
        plan = _alone(kind)
    params: dict[str, Any] = {} if medium is None else {"medium": medium.value}
    params |= {name: getattr(request, name) for name in (*_OF_ALL, *_OF) if request.HasField(name)}
    given = Given(
        namespace=requests.namespace(request.namespace),
        agent=requests.agent_name(request.agent) if request.agent else None,
        context=request.context,
        seed=request.seed if request.HasField("seed") else secrets.randbits(63),
        priority=requests.priority(request.priority),
    )
    made = Order(request.query, plan, request.compose, given, params)
    if plan is None:  # nobody knows yet what it has: each value must do for a node that has it; the rest is settled
        for one in (DEFAULT, *(_alone(kind) for name, kind in _OF.items() if name in params)):
            made.fitted(one)
        return made
    made.fitted(plan)  # refused before anything is done
    if unused := made.unused(plan):
        message = f"{unused[0]} is of a {_OF[unused[0]]}, and the plan has none: leave it out."
        raise AgentmemError(Reason.INPUT_INVALID, message, field=unused[0])
    return made


def _alone(kind: str) -> Plan:
    node = {"id": kind, "type": kind, "params": {}, "inputs": []}
    return Plan.parse(json.dumps({"version": VERSION, "nodes": [node], "output": kind}))


def started(choice: Choice) -> primitives_pb2.RunResponse:
    source = primitives_pb2.PlanSource.Value(f"PLAN_SOURCE_{choice.source.value}")
    return primitives_pb2.RunResponse(
        started=primitives_pb2.RunStarted(
            plan=choice.plan.json_text(),
            why=choice.why,
            source=source,
            entry_id=choice.entry_id,
            nearest=[knowledge.entry(match.entry, match.similarity) for match in choice.matches],
            fallback=choice.fallback,
        )
    )


def progress(event: NodeProgress) -> primitives_pb2.RunResponse:
    now = event.progress
    return primitives_pb2.RunResponse(
        progress=primitives_pb2.RunProgress(
            node=event.node,
            role=now.role,
            agent=now.label,
            activity=primitives_pb2.RunActivity.Value(f"RUN_ACTIVITY_{now.activity.value}"),
            text=now.text,
        )
    )


def finished(order: Order, outcome: Outcome) -> primitives_pb2.RunResponse:
    choice, result = outcome.choice, outcome.result
    notes = [*filter(None, [choice.fallback]), *choice.notes, *order.notes(choice.plan), *result.notes, *outcome.notes]
    roles = [_role("", role, outcome.ratio) for role in outcome.organizing]
    roles += [_role(node, role, outcome.ratio) for node, made in result.nodes.items() for role in made.roles]
    return primitives_pb2.RunResponse(
        finished=primitives_pb2.RunFinished(
            text=result.text,
            exactness=types_pb2.Exactness.Value(f"EXACTNESS_{result.exactness.value}"),
            roles=roles,
            notes=notes,
            seconds=outcome.seconds,
            seed=order.given.seed,
            plan=choice.plan.json_text(),
            entry_id=choice.entry_id,
        )
    )


def _role(node: str, usage: RoleUsage, ratio: DeviceRatio | None) -> primitives_pb2.RoleUsage:
    counts = {name: value for name, value in vars(usage).items() if name != "calls"}
    pte = None if ratio is None else cost(usage.calls, ratio).total
    return primitives_pb2.RoleUsage(node=node, pte=pte, **counts)

"""Plans: which primitives work on a query, and who reads whose result.

A plan is a small directed graph without cycles, as JSON:

    {"version": 1, "nodes": [{"id": "draft", "type": "answer", "params": {}, "inputs": []},
                             {"id": "check", "type": "review", "params": {"rounds": 2}, "inputs": ["draft"]}],
     "output": "check"}

Every node reads the query, and behind it what its inputs made, in their order. The output's result is the plan's.
The classes here are the format: they check what comes in, and `schema` derives the JSON Schema for a grammar from them.
"""

from __future__ import annotations

import json
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.strict import Refused, Strict, load, shown

VERSION = 1
MAX_BYTES = 16 << 10
MAX_NODES = 16
MAX_INPUTS = 8
MAX_CALLS = 128
"""Of the model, by all nodes of a plan."""

NodeId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Inputs = Annotated[
    tuple[NodeId, ...], Field(max_length=MAX_INPUTS, description="Nodes whose results this one reads, in this order.")
]
Temperature = Annotated[float, Field(ge=0, le=2)]


class Common(Strict):
    """Parameters that every node has."""

    medium: Literal["latent", "text", "both"] = "latent"
    """How agents hand over: as state, as text, or as state with the text behind it."""
    max_tokens: Annotated[int, Field(ge=1, le=32768)] = 512
    """The most tokens of text that one agent writes at a time."""
    latent_steps: Annotated[int, Field(ge=0, le=256)] = 20
    """Steps that an agent thinks before it hands over or writes; none are taken where the medium is text."""
    temperature: Temperature = 0.0
    """Of sampling; 0 is greedy."""


class AnswerParams(Common):
    """Of a single agent."""


class ReviewParams(Common):
    """Of a solver and its critic."""

    rounds: Annotated[int, Field(ge=1, le=8)] = 2
    """The most times that the critic reads and the solver refines; they stop where they agree."""


class VoteParams(Common):
    """Of solvers and a selector."""

    solvers: Annotated[int, Field(ge=1, le=16)] = 3
    """How many work on their own; each samples with a seed of its own."""
    temperature: Temperature = 0.7
    """Of sampling; at 0 all solvers that write text write the same."""


class PlanExecuteParams(Common):
    """Of a planner, executors and an aggregator."""

    executors: Annotated[int, Field(ge=1, le=16)] = 3
    """How many parts of the plan are worked on side by side."""


class Answer(Strict):
    """One agent answers."""

    id: NodeId
    type: Literal["answer"]
    params: AnswerParams = AnswerParams()
    inputs: Inputs = ()

    @property
    def calls(self) -> int:
        return 1


class Review(Strict):
    """A solver answers, a critic reads it, the solver refines; repeated."""

    id: NodeId
    type: Literal["review"]
    params: ReviewParams = ReviewParams()
    inputs: Inputs = ()

    @property
    def calls(self) -> int:
        return 1 + 2 * self.params.rounds


class Vote(Strict):
    """Solvers answer on their own, a selector chooses."""

    id: NodeId
    type: Literal["vote"]
    params: VoteParams = VoteParams()
    inputs: Inputs = ()

    @property
    def calls(self) -> int:
        return self.params.solvers + 1


class PlanExecute(Strict):
    """A planner divides the task, executors do the parts, an aggregator puts them together."""

    id: NodeId
    type: Literal["plan_execute"]
    params: PlanExecuteParams = PlanExecuteParams()
    inputs: Inputs = ()

    @property
    def calls(self) -> int:
        return self.params.executors + 2


Node = Annotated[Answer | Review | Vote | PlanExecute, Field(discriminator="type")]
"""`calls` of each: how often it calls the model at most."""


class Plan(Strict):
    """A valid plan: whoever holds one need not check it."""

    version: Annotated[int, Field(ge=VERSION, le=VERSION)]  # a Literal[1] lets true pass
    nodes: Annotated[tuple[Node, ...], Field(min_length=1, max_length=MAX_NODES)]
    output: NodeId
    """The node whose result is the plan's."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """A plan of JSON text. Raises AgentmemError PLAN_INVALID, which says in which node and why."""
        try:
            return load(cls, text, MAX_BYTES)
        except Refused as refused:
            raise _misformed(text, refused) from None

    def json_text(self) -> str:
        """The plan with all parameters in place; equal plans have equal texts, and `parse` makes them equal again."""
        return self.model_dump_json()

    def node(self, id: str) -> Node:
        """Raises KeyError."""
        return {node.id: node for node in self.nodes}[id]

    def order(self) -> tuple[Node, ...]:
        """The nodes, each behind its inputs."""
        return tuple(self.node(id) for id in TopologicalSorter({n.id: n.inputs for n in self.nodes}).static_order())

    @property
    def calls(self) -> int:
        """How often the plan calls the model at most."""
        return sum(node.calls for node in self.nodes)

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        known = {node.id for node in self.nodes}
        if len(known) < len(self.nodes):
            ids = [node.id for node in self.nodes]
            raise _invalid(next(id for id in ids if ids.count(id) > 1), "several nodes have this id")
        for node in self.nodes:
            if unknown := [i for i in node.inputs if i not in known]:
                raise _invalid(node.id, f"its input {unknown[0]!r} is no node of the plan")
            if len(set(node.inputs)) < len(node.inputs):
                raise _invalid(node.id, "it names an input twice")
        if self.output not in known:
            raise _invalid("", f"its output {self.output!r} is no node of the plan")
        try:
            self.order()
        except CycleError as error:
            cycle = error.args[1]
            raise _invalid(cycle[0], f"it waits for itself: {' <- '.join(cycle)}") from None
        if idle := next((n.id for n in self.nodes if n.id not in self._needed()), None):
            raise _invalid(idle, "the output does not depend on it; leave it out, or make it an input")
        if self.calls > MAX_CALLS:
            raise _invalid("", f"it calls the model up to {self.calls} times; {MAX_CALLS} are the most")
        return self

    def _needed(self) -> set[str]:
        """The output and all that it depends on."""
        needed: set[str] = set()
        waiting = [self.output]
        while waiting:
            if (id := waiting.pop()) not in needed:
                needed.add(id)
                waiting += self.node(id).inputs
        return needed


def schema() -> dict[str, Any]:
    """The plan's JSON Schema (2020-12). Ids, cycles and what leads nowhere are beyond it: `Plan.parse` checks those."""
    return Plan.model_json_schema()


def _invalid(node: str, why: str) -> AgentmemError:
    """node: an id, or a place, or empty for the plan as a whole."""
    subject = f"The plan's node {node!r} is invalid" if node else "The plan is invalid"
    return AgentmemError(Reason.PLAN_INVALID, f"{subject}: {why}.", node=node)


def _misformed(text: str, refused: Refused) -> AgentmemError:
    """Names the node by its id if it has one that may be shown, else by its place."""
    path = [str(p) for p in refused.path]
    why = str(refused)
    if path[:1] != ["nodes"] or len(path) < 2:
        return _invalid("", f"{path[-1]}: {why}" if path and path[-1] not in why else why)
    index = int(path[1])
    node = json.loads(text)["nodes"][index]
    id = node.get("id") if isinstance(node, dict) else None
    field = ".".join(p for p in path[3:] if p not in why)  # path[2] is the type
    return _invalid(str(id) if shown(id) else f"#{index + 1}", f"{field}: {why}" if field else why)

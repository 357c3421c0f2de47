"""How a model is asked for a plan: what it reads, and a grammar of which every document is a valid plan.

Beside the plan's form, the grammar knows what the format's own schema cannot say: nodes are called n1 to n4, each reads
only earlier ones, and the last one reads all, so that none is idle, unknown, or waits for itself. Parameters that a
model has no reason to choose keep their defaults.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any, get_args

from agentmem.primitives.knowledge import Match
from agentmem.primitives.plan import VERSION, Answer, Common, Node, Plan, PlanExecute, Review, Vote

NODES = 4
"""The most that a model composes."""
EXAMPLES = 3
QUERY_CHARACTERS = 2000
"""Of a query that is read: what is to be done stands at the beginning or at the end."""

_KINDS: tuple[type[Node], ...] = (Answer, Review, Vote, PlanExecute)


def schema() -> dict[str, Any]:
    """The JSON Schema of plans that a model may compose."""
    return {"anyOf": [_plan(count) for count in range(1, NODES + 1)]}


def prompt(query: str, matches: Sequence[Match]) -> str:
    """matches: of the knowledge pool, as examples."""
    examples = [f"Task: {match.entry.title}\nPlan: {brief(match.entry.plan)}" for match in matches[:EXAMPLES]]
    if len(query) > QUERY_CHARACTERS:
        half = QUERY_CHARACTERS // 2
        query = f"{query[:half]}\n…\n{query[-half:]}"
    kinds = (
        "Write a plan, as JSON, for agents that work on a task. Types of nodes: answer (one agent), review (a critic "
        "and refinement), vote (several solvers and a selector), plan_execute (parts done side by side). A node reads "
        "what its inputs made; the output is the last node."
    )
    return "\n\n".join([kinds, *examples, f"Task: {query}\nPlan:"])


def brief(plan: Plan) -> str:
    """A plan in the form that the model is to write."""
    nodes = plan.order()
    names = {node.id: f"n{number}" for number, node in enumerate(nodes, 1)}
    written = [
        {
            "id": names[node.id],
            "type": node.type,
            "params": {name: getattr(node.params, name) for name in _own(type(node))},
            "inputs": [names[id] for id in node.inputs],
        }
        for node in nodes
    ]
    return json.dumps({"version": VERSION, "nodes": written, "output": names[plan.output]}, separators=(",", ":"))


def _plan(count: int) -> dict[str, Any]:
    nodes = [{"anyOf": [_node(kind, number, count) for kind in _KINDS]} for number in range(1, count + 1)]
    return _object(
        version={"const": VERSION},
        nodes={"type": "array", "prefixItems": nodes, "items": False, "minItems": count, "maxItems": count},
        output={"const": f"n{count}"},
    )


def _node(kind: type[Node], number: int, count: int) -> dict[str, Any]:
    earlier = [f"n{n}" for n in range(1, number)]
    some = [list(chosen) for size in range(number) for chosen in itertools.combinations(earlier, size)]
    return _object(
        id={"const": f"n{number}"},
        type={"const": get_args(kind.model_fields["type"].annotation)[0]},
        params=_object(**_own(kind)),
        inputs={"const": earlier} if number == count else {"enum": some},
    )


def _own(kind: type[Node]) -> dict[str, Any]:
    """Schemas of the parameters that nodes of this kind have beside the common ones."""
    params: Any = kind.model_fields["params"].annotation
    known = params.model_json_schema()["properties"]
    return {
        name: {key: known[name][key] for key in ("type", "minimum", "maximum")}
        for name in known
        if name not in Common.model_fields
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip

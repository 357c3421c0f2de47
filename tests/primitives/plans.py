"""Plans for tests: small ones, and any that is valid."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from agentmem.primitives.plan import Plan

IDS = st.sampled_from(["a", "b", "c_2", "solve", "x" * 32, "check9", "z_", "review"])
COMMON = {
    "medium": st.sampled_from(["latent", "text", "both"]),
    "max_tokens": st.integers(1, 32768),
    "latent_steps": st.integers(0, 256),
    "temperature": st.floats(0, 2) | st.integers(0, 2),
}
OWN = {
    "answer": {},
    "review": {"rounds": st.integers(1, 8)},
    "vote": {"solvers": st.integers(1, 16)},
    "plan_execute": {"executors": st.integers(1, 16)},
}
TYPES = st.sampled_from(sorted(OWN))
PARAMS = {type: st.fixed_dictionaries({}, optional={**COMMON, **own}) for type, own in OWN.items()}
CALLS = {
    "answer": lambda p: 1,
    "review": lambda p: 1 + 2 * p.get("rounds", 2),
    "vote": lambda p: p.get("solvers", 3) + 1,
    "plan_execute": lambda p: p.get("executors", 3) + 2,
}
"""How often each calls the model at most, written once more."""


def document(*nodes: dict[str, Any], output: str = "", **more: Any) -> str:
    """JSON of a plan. output: the last node unless named."""
    return json.dumps({"version": 1, "nodes": list(nodes), "output": output or nodes[-1]["id"], **more})


def node(id: str, *inputs: str, type: str = "answer", **params: Any) -> dict[str, Any]:
    return {"id": id, "type": type, "params": params, "inputs": list(inputs)}


def plan(type: str = "answer", **params: Any) -> Plan:
    return Plan.parse(document(node("one", type=type, **params)))


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Valid plans as JSON values, nodes in order or not; defaults given or left out."""
    ids = draw(st.lists(IDS, min_size=1, max_size=6, unique=True))
    nodes: list[dict[str, Any]] = []
    for place, id in enumerate(ids):
        type = draw(TYPES)
        made: dict[str, Any] = {"id": id, "type": type}
        if params := draw(PARAMS[type]):
            made["params"] = params
        if inputs := draw(st.lists(st.sampled_from(ids[:place]), unique=True) if place else st.just([])):
            made["inputs"] = inputs
        nodes.append(made)
    read = {i for n in nodes for i in n.get("inputs", [])}
    nodes[-1]["inputs"] = [*nodes[-1].get("inputs", []), *(id for id in ids[:-1] if id not in read)]
    if draw(st.booleans()):
        nodes.reverse()
    return {"version": 1, "nodes": nodes, "output": ids[-1]}

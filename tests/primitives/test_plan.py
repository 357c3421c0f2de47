"""Plans: what is valid stays what it is, and what is not is refused with the node and the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.errors import AgentmemError, Code, Reason
from agentmem.primitives.plan import MAX_BYTES, Plan, schema
from tests.primitives.jsonschema import fulfils
from tests.primitives.plans import CALLS, COMMON, OWN, document, documents, node, plan

SCHEMA = schema()


def refused(text: str) -> AgentmemError:
    with pytest.raises(AgentmemError) as caught:
        Plan.parse(text)
    assert caught.value.reason is Reason.PLAN_INVALID
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value


@given(documents())
@settings(max_examples=60, deadline=None)
def test_a_valid_plan_is_read_as_it_is_and_written_so_that_it_stays(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    found = Plan.parse(text)
    assert [n.id for n in found.nodes] == [n["id"] for n in value["nodes"]]
    for made, given_ in zip(found.nodes, value["nodes"], strict=True):
        assert made.type == given_["type"]
        assert list(made.inputs) == given_.get("inputs", [])
        assert made.params.model_dump().items() >= given_.get("params", {}).items()
    again = found.json_text()
    assert len(again) <= MAX_BYTES
    assert Plan.parse(again) == found
    assert Plan.parse(again).json_text() == again
    assert found.calls == sum(CALLS[n["type"]](n.get("params", {})) for n in value["nodes"])


@given(documents())
@settings(max_examples=40, deadline=None)
def test_the_order_has_every_node_once_and_behind_its_inputs(value: dict[str, Any]) -> None:
    found = Plan.parse(json.dumps(value))
    order = [n.id for n in found.order()]
    assert sorted(order) == sorted(n.id for n in found.nodes)
    for made in found.nodes:
        assert all(order.index(i) < order.index(made.id) for i in made.inputs)
    assert order[-1] == found.output


@given(documents(), st.data())
@settings(max_examples=80, deadline=None)
def test_the_schema_says_what_the_parser_says(value: dict[str, Any], data: st.DataObject) -> None:
    """Of a plan with one thing changed at random; where they differ, only names and links are wrong."""
    assert fulfils(value, SCHEMA, SCHEMA)
    places = [value, *value["nodes"], *(n["params"] for n in value["nodes"] if "params" in n)]
    place = data.draw(st.sampled_from(places))
    junk = st.sampled_from([None, True, -1, 0, 9, 40000, 1.5, "x", "Two words", [], {}, ["a"], {"id": "a"}])
    keys = st.sampled_from([*place, "rounds", "solvers", "medium", "temperature", "new"])
    place[data.draw(keys)] = data.draw(junk)
    try:
        Plan.parse(json.dumps(value))
        valid = True
    except AgentmemError as error:
        links = ("this id", "no node of", "an input twice", "waits for itself", "does not depend", "calls the model")
        valid = any(words in error.message for words in links)
    assert fulfils(value, SCHEMA, SCHEMA) == valid


A, B = node("a"), node("b", "a", type="review", rounds=2)


@pytest.mark.parametrize(
    ("text", "subject", "why"),
    [
        ("", "The plan is", "not JSON"),
        ("[1]", "The plan is", "object"),
        ("[" * 15_000, "The plan is", "not JSON"),
        ('{"version":' * 1_000, "The plan is", "not JSON"),
        ("\ud800", "The plan is", "Unicode"),
        (" " * (MAX_BYTES + 1), "The plan is", "bytes"),
        (document(A, B).replace('"version": 1', '"version": 2'), "The plan is", "version"),
        (document(A, B).replace('"version": 1', '"version": 1, "version": 1'), "The plan is", "twice"),
        (document(A, B, notes=""), "The plan is", "'notes' is not a field"),
        (document(A, B, output="c"), "The plan is", "'c' is no node"),
        ('{"version": 1, "nodes": [], "output": "a"}', "The plan is", "nodes: it has fewer than 1"),
        ('{"version": 1, "nodes": [{"id": "a", "type": "answer"}]}', "The plan is", "'output' is missing"),
        (document(*(node(f"n{i}") for i in range(17))), "The plan is", "more than 16"),
        (document(A, {**B, "inputs": ["c"]}), "node 'b'", "its input 'c' is no node"),
        (document(A, {**B, "inputs": ["a", "a"]}), "node 'b'", "an input twice"),
        (document(A, {**B, "inputs": ["b", "a"]}), "node 'b'", "waits for itself: b <- b"),
        (document(node("a", "c"), B, node("c", "b")), "node 'a'", "waits for itself"),
        (document(A, node("a")), "node 'a'", "several nodes"),
        (document(A, node("b")), "node 'a'", "does not depend on it"),
        (document(A, {**B, "weight": 1}), "node 'b'", "'weight' is not a field"),
        (document(A, {**B, "type": "debate"}), "node 'b'", "'type' must be one of 'answer', 'review', 'vote'"),
        (document(A, {"id": "b"}), "node 'b'", "'type' is missing"),
        (document(A, {"type": "answer"}, output="a"), "node '#2'", "'id' is missing"),
        (document(A, 7, output="a"), "node '#2'", "object"),  # type: ignore[arg-type]
        (document(A, {**A, "id": "B"}), "node '#2'", "id: "),
        (document(A, {**A, "id": "b\n"}), "node '#2'", "id: "),
        (document(A, {**A, "id": "x" * 33}), "node '#2'", "id: "),
        (document(*(node(f"n{i}") for i in range(9)), node("z", *(f"n{i}" for i in range(9)))), "node 'z'", "than 8"),
        (document(node("a", type="vote", rounds=2)), "node 'a'", "params: 'rounds' is not a field"),
        (document(node("a", medium="smoke")), "node 'a'", "'latent', 'text' or 'both'"),
        (document(node("a", max_tokens=True)), "node 'a'", "params.max_tokens"),
        (document(node("a", max_tokens="5")), "node 'a'", "params.max_tokens"),
        (document(node("a", max_tokens=5.0)), "node 'a'", "params.max_tokens"),
        (document(node("a", temperature=float("nan"))), "node 'a'", "params.temperature"),
        (document(node("a", temperature=float("inf"))), "node 'a'", "params.temperature"),
        (document(node("a", temperature=None)), "node 'a'", "params.temperature"),
    ],
)
def test_what_is_wrong_is_said_with_the_node_and_the_reason(text: str, subject: str, why: str) -> None:
    message = refused(text).message
    assert subject in message
    assert why in message


RANGES = {
    "answer": {"max_tokens": (1, 32768), "latent_steps": (0, 256), "temperature": (0, 2)},
    "review": {"rounds": (1, 8)},
    "vote": {"solvers": (1, 16)},
    "plan_execute": {"executors": (1, 16)},
}


@pytest.mark.parametrize(("type", "field"), [(t, f) for t, fields in RANGES.items() for f in fields])
def test_ranges_end_where_they_say(type: str, field: str) -> None:
    low, high = RANGES[type][field]
    for value in (low, high):
        assert getattr(plan(type, **{field: value}).nodes[0].params, field) == value
    for value in (low - 1, high + 1):
        assert f"params.{field}" in refused(document(node("a", type=type, **{field: value}))).message


def test_every_parameter_is_tried_above() -> None:
    assert {f for fields in RANGES.values() for f in fields} | {"medium"} == {*COMMON} | {
        f for o in OWN.values() for f in o
    }


def test_the_calls_of_all_nodes_together_are_bounded() -> None:
    voters = [node(f"v{i}", type="vote", solvers=16) for i in range(8)]
    assert (
        "calls the model up to 137 times; 128 are the most"
        in refused(document(*voters, node("z", *"v0 v1 v2 v3 v4 v5 v6 v7".split()))).message
    )
    assert Plan.parse(document(*voters[:7], node("z", *"v0 v1 v2 v3 v4 v5 v6".split()))).calls == 120


@pytest.mark.parametrize(
    "text",
    [
        document({**A, "id": "My bank PIN is 1234"}),
        document({**A, "type": "My bank PIN is 1234"}),
        document({**A, "My bank PIN is 1234": 1}),
        document({**A, "params": {"medium": "My bank PIN is 1234"}}),
        document({**A, "params": {"My bank PIN is 1234": 1}}),
        document({**A, "inputs": ["My bank PIN is 1234"]}),
        document(A, output="My bank PIN is 1234"),
        "My bank PIN is 1234",
        '{"My bank PIN is 1234',
    ],
)
def test_a_complaint_quotes_no_text(text: str) -> None:
    """A model without a grammar may answer with anything, the prompt's text included."""
    error = refused(text)
    assert "1234" not in f"{error.message} {error.metadata} {error.__cause__}"

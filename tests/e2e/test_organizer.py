"""`run` without a primitive: the organizer's plan, where it came from, and what was learned from the last one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agentmem_client import AgentmemError, Client, InvalidRequest

from agentmem.primitives.library import FILE
from agentmem.primitives.nearness import FLOOR
from agentmem.primitives.organizer import DEFAULT, NOTHING_NEAR
from agentmem.primitives.plan import Plan
from tests.helpers.checkpoints import ALL, Spec
from tests.helpers.daemon import Daemon

QUERY = "Review this pull request and look for bugs in the diff"
SMALL = {"max_tokens": 4, "latent_steps": 2}
DIAMOND = {
    "version": 1,
    "nodes": [
        {"id": "a", "type": "answer"},
        {"id": "b", "type": "vote", "params": {"solvers": 2}},
        {"id": "c", "type": "vote", "params": {"solvers": 2}},
        {"id": "end", "type": "answer", "inputs": ["a", "b", "c"], "params": {"medium": "text"}},
    ],
    "output": "end",
}


@pytest.fixture(autouse=True)
def nothing_is_left(client: Client) -> Iterator[None]:
    yield
    assert not [agent.name for agent in client.agents() if agent.name.startswith("run-")]


def test_the_pools_nearest_plan_is_run(client: Client) -> None:
    nearest = client.pool.nearest(QUERY)
    with client.run(QUERY, stream=True, **SMALL) as stream:
        started, result = stream.started, stream.drain()
    assert (started.source, started.entry_id, started.fallback) == ("POOL", nearest[0].id, "")
    assert started.why == nearest[0].why
    assert list(started.nearest) == nearest
    asked = Plan.parse(nearest[0].plan)
    ran = Plan.parse(result.plan)
    assert [(n.id, n.type, n.params.medium) for n in ran.nodes] == [
        (n.id, n.type, n.params.medium) for n in asked.nodes
    ]
    assert {n.params.max_tokens for n in ran.nodes} == {4}
    assert result.entry_id == started.entry_id
    assert {role.node for role in result.roles} == {n.id for n in ran.nodes}
    assert result.pte is not None
    assert all(role.pte for role in result.roles)


def test_what_did_well_is_chosen_the_next_time(client: Client) -> None:
    query = "zebra husbandry in winter"
    first = client.run(query, **SMALL)
    assert first.entry_id == ""
    assert Plan.parse(first.plan).nodes[0].type == "answer"
    better = Plan.parse(json.dumps(DIAMOND)).json_text()
    learned = client.pool.record(query, better, 1.0)
    with client.run("husbandry of a zebra", stream=True) as stream:
        assert (stream.started.source, stream.started.entry_id) == ("POOL", learned.id)
        assert query in stream.started.why
        stream.cancel()
    assert client.pool.forget(learned.id)
    with client.run(query, stream=True, medium="text", max_tokens=2) as stream:
        assert (stream.started.source, stream.started.plan) != ("POOL", better)
        stream.drain()


def test_what_shares_one_common_word_with_an_entry_is_answered_by_one_agent(client: Client) -> None:
    with client.run("Who wrote the code of Hammurabi?", stream=True, max_tokens=2, medium="text") as stream:
        assert (stream.started.source, stream.started.entry_id, stream.started.why) == ("DEFAULT", "", NOTHING_NEAR)
        assert stream.started.nearest[0].similarity < FLOOR
        result = stream.drain()
    assert [(role.role, role.agents) for role in result.roles] == [("answer", 1)]


def test_nothing_near_is_answered_by_one_agent(client: Client) -> None:
    with client.run("zzzyzx", stream=True, max_tokens=4, medium="text") as stream:
        assert (stream.started.source, stream.started.nearest) == ("DEFAULT", ())
        stream.drain()
    (node,) = Plan.parse(stream.started.plan).nodes
    assert (node.type, node.params.medium, node.id) == ("answer", "text", DEFAULT.output)


@pytest.mark.reference
@pytest.mark.slow
def test_a_plan_of_ones_own(client: Client) -> None:
    with client.run("who?", plan=DIAMOND, stream=True, latent_steps=2, max_tokens=3, seed=3) as stream:
        progress = list(stream)
        result = stream.result
    assert stream.started.source == "GIVEN"
    assert [role.node for role in result.roles] == ["a", *["b"] * 3, *["c"] * 3, "end"]
    ends = [one.node for one in progress]
    assert set(ends) == {"a", "b", "c", "end"}
    assert ends.index("end") > max(ends.index(id) for id in ("a", "b", "c"))
    assert ends.index("c") < len(ends) - ends[::-1].index("b")  # b and c at once
    again = client.run("who?", plan=json.dumps(DIAMOND), latent_steps=2, max_tokens=3, seed=3)
    assert again.text == result.text


def test_nodes_that_are_alike_sample_differently(client: Client) -> None:
    nodes = [{"id": id, "type": "answer", "params": {"temperature": 2.0, "medium": "text"}} for id in ("a", "b")]
    end = {"id": "end", "type": "answer", "inputs": ["a", "b"], "params": {"medium": "text"}}
    plan = {"version": 1, "nodes": [*nodes, end], "output": "end"}
    with client.run("who?", plan=plan, stream=True, max_tokens=12, seed=1) as stream:
        written = {id: "".join(one.text for one in list_) for id, list_ in _by_node(list(stream)).items()}
    assert written["a"] != written["b"]


def _by_node(progress: list) -> dict:
    return {id: [one for one in progress if one.node == id] for id in {one.node for one in progress}}


def test_even_a_random_model_composes_a_plan_when_it_is_asked(client: Client) -> None:
    with client.run(QUERY, compose=True, stream=True, **SMALL) as stream:
        started, result = stream.started, stream.drain()
    assert (started.source, started.entry_id, started.fallback) == ("MODEL", "", "")
    assert [entry.id for entry in started.nearest] == [entry.id for entry in client.pool.nearest(QUERY)]
    organizer = result.roles[0]
    assert (organizer.node, organizer.role, organizer.agents) == ("", "organizer", 1)
    assert organizer.generated_tokens > 10
    assert result.seconds > organizer.seconds
    assert {role.node for role in result.roles[1:]} == {n.id for n in Plan.parse(result.plan).nodes}


def test_parameters_hold_for_the_organizers_plan_and_those_without_use_are_told(client: Client) -> None:
    result = client.run(QUERY, solvers=2, rounds=1, medium="text", max_tokens=2)
    assert result.entry_id == "code-review"
    (node,) = Plan.parse(result.plan).nodes
    assert (node.type, node.params.medium) == ("review", "text")
    assert node.params.model_dump()["rounds"] == 1
    assert [note for note in result.notes if "solvers" in note]
    assert not [note for note in result.notes if "rounds" in note]


def test_a_number_that_is_too_much_for_the_organizers_plan_is_told_and_the_plan_runs(client: Client) -> None:
    votes = [{"id": f"v{number}", "type": "vote", "params": {"solvers": 1}} for number in range(8)]
    end = {"id": "end", "type": "answer", "inputs": [vote["id"] for vote in votes]}
    plan = json.dumps({"version": 1, "nodes": [*votes, end], "output": "end"})
    query = "walrus husbandry in autumn"
    learned = client.pool.record(query, plan, 1.0)
    result = client.run(query, solvers=16, medium="text", max_tokens=2)
    assert client.pool.forget(learned.id)
    assert result.entry_id == learned.id
    assert {n.params.model_dump().get("solvers") for n in Plan.parse(result.plan).nodes} == {1, None}
    assert [note for note in result.notes if "solvers" in note and "137 times" in note]


@pytest.mark.slow
def test_a_plan_in_place_of_the_models_takes_the_callers_parameters(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    """In a context that a request for a plan does not fit into."""
    client = daemon_on(checkpoint(replace(ALL[0], context=800))).start()
    options = {"rounds": 1, "executors": 2, "medium": "text", "max_tokens": 3, "temperature": 0.5}
    with client.run(QUERY, compose=True, stream=True, **options) as stream:
        started, result = stream.started, stream.drain()
    assert (started.source, started.entry_id) == ("POOL", "code-review")
    assert "The model's plan was not used." in started.fallback
    (node,) = Plan.parse(started.plan).nodes
    assert node.params.model_dump() == {
        "medium": "text", "max_tokens": 3, "latent_steps": 20, "temperature": 0.5, "rounds": 1,
    }  # fmt: skip
    assert result.plan == started.plan
    assert result.latent_steps == 0
    assert {role.node for role in result.roles} <= {"", node.id}
    assert result.notes[0] == started.fallback
    assert "executors was not used" in result.notes[1]


@pytest.mark.parametrize(
    "options",
    [
        {"plan": {"version": 1}},
        {"plan": DIAMOND, "primitive": "vote"},
        {"plan": DIAMOND, "compose": True},
        {"primitive": "vote", "compose": True},
        {"max_tokens": 0},
        {"solvers": 17},
        {"plan": DIAMOND, "solvers": 17},
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused_at_once(client: Client, options: dict) -> None:
    with pytest.raises(InvalidRequest):
        client.run("who?", **options)


@pytest.mark.slow
def test_a_damaged_pool_keeps_nobody_from_an_answer(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    daemon = daemon_on(checkpoint(ALL[0]))
    daemon.state.mkdir(parents=True, exist_ok=True)
    (daemon.state / FILE).write_bytes(b"no database")
    client = daemon.start()
    with client.run(QUERY, stream=True, **SMALL) as stream:
        assert stream.started.source == "DEFAULT"
        assert "knowledge pool is damaged" in stream.started.fallback
        result = stream.drain()
    assert stream.started.fallback in result.notes
    with pytest.raises(AgentmemError) as caught:
        client.pool.nearest(QUERY)
    assert caught.value.reason == "KNOWLEDGE_UNREADABLE"

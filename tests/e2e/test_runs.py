"""Agents that work together, on real daemons."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from agentmem_client import (
    AgentmemError,
    AsyncClient,
    Cancelled,
    Client,
    DeadlineExceeded,
    InvalidRequest,
    RunProgress,
    Unavailable,
)

from tests.helpers.checkpoints import ALL, Spec
from tests.helpers.daemon import Daemon

QUERY = "what does the quick brown fox jump over?"
PLAN = json.dumps(
    {
        "version": 1,
        "nodes": [
            {"id": "first", "type": "vote", "params": {"solvers": 2}},
            {"id": "second", "type": "answer"},
            {"id": "last", "type": "review", "params": {"rounds": 1}, "inputs": ["first", "second"]},
        ],
        "output": "last",
    }
)


def wait_until_none(client: Client, space: str, seconds: float = 10.0) -> None:
    """No agent is left in the namespace, and nothing runs."""
    end = time.monotonic() + seconds
    while list(client.agents(space)) or client.stats().running:
        assert time.monotonic() < end, "agents of a run are left"
        time.sleep(0.02)


def test_a_plan_streams_and_is_accounted_for(client: Client, space: str) -> None:
    client.create_namespace(space)
    with client.run(QUERY, plan=PLAN, namespace=space, max_tokens=4, latent_steps=2, seed=3, stream=True) as run:
        assert (run.started.source, run.started.entry_id) == ("GIVEN", "")
        events = list(run)
    result = run.result
    assert {node["id"] for node in json.loads(run.started.plan)["nodes"]} == {event.node for event in events}
    assert {node["params"]["max_tokens"] for node in json.loads(result.plan)["nodes"]} == {4}
    assert [(r.node, r.role, r.agents) for r in result.roles][:2] == [("first", "reader", 1), ("first", "solver", 2)]
    last = [event for event in events if event.node == "last" and event.text]
    assert "".join(event.text for event in last if event.agent == last[-1].agent) == result.text
    assert result.exactness == "LATENT"
    assert all(role.pte is not None and role.pte > 0 for role in result.roles)
    assert list(client.agents(space)) == []
    again = client.run(QUERY, plan=result.plan, namespace=space, seed=result.seed)
    assert again.text == result.text


def test_an_agent_is_begun_with_and_stays(client: Client, space: str) -> None:
    client.create_namespace(space)
    agent = client.agent("mine", space)
    agent.append("the quick brown fox jumps over the lazy dog")
    before = agent.info()
    result = client.run(QUERY, primitive="review", agent="mine", namespace=space, max_tokens=4, rounds=1)
    assert result.roles[0].saved_tokens >= before.tokens
    after = agent.info()
    assert (after.turn, after.tokens, after.blocks) == (before.turn, before.tokens, before.blocks)
    assert [info.name for info in client.agents(space)] == ["mine"]


def test_without_a_primitive_the_pool_chooses(client: Client, space: str) -> None:
    client.create_namespace(space)
    nearest = client.pool.nearest("Fix a failing unit test")[0]
    result = client.run("Fix a failing unit test", namespace=space, max_tokens=2, latent_steps=1)
    assert result.entry_id == nearest.id
    assert client.run("zzzz", namespace=space, max_tokens=2, latent_steps=1).entry_id == ""


@pytest.mark.parametrize("primitive", ["answer", "vote", "plan_execute"])
def test_cancelling_the_stream_ends_the_run(client: Client, space: str, primitive: str) -> None:
    client.create_namespace(space)
    run = client.run(QUERY, primitive=primitive, medium="text", namespace=space, stream=True)  # type: ignore[call-overload]
    for event in run:
        if event.text:
            run.cancel()
    with pytest.raises(Cancelled):
        _ = run.result
    wait_until_none(client, space)


def test_a_deadline_ends_the_run(client: Client, space: str) -> None:
    client.create_namespace(space)
    with pytest.raises(DeadlineExceeded):
        client.run(QUERY, primitive="vote", medium="text", solvers=4, max_tokens=3000, namespace=space, timeout=0.5)
    wait_until_none(client, space)


def test_what_cannot_be_is_refused_before_anything_is_done(client: Client, space: str) -> None:
    client.create_namespace(space)
    made = client.stats().requests_total
    for options in (
        {"primitive": "answer", "solvers": 3},
        {"primitive": "vote", "solvers": 99},
        {"primitive": "vote", "compose": True},
        {"plan": '{"version": 1}'},
        {"primitive": "answer", "temperature": -1.0},
    ):
        with pytest.raises(InvalidRequest):
            client.run(QUERY, namespace=space, **options)  # type: ignore[call-overload]
    with pytest.raises(InvalidRequest, match="empty"):
        client.run("  ", namespace=space)
    assert client.stats().requests_total == made


def test_the_async_client(shared: Daemon, space: str) -> None:
    async def work() -> tuple[str, list[RunProgress]]:
        async with AsyncClient(socket=shared.socket) as client:
            await client.create_namespace(space)
            whole = await client.run(QUERY, primitive="answer", namespace=space, max_tokens=4, seed=1)
            seen = []
            async with await client.run(
                QUERY, primitive="answer", namespace=space, max_tokens=4, seed=1, stream=True
            ) as run:
                async for event in run:
                    seen.append(event)
            assert run.result.text == whole.text
            return whole.text, seen

    text, seen = asyncio.run(work())
    assert "".join(event.text for event in seen) == text


def test_a_run_that_a_crash_cut_short_leaves_nothing(
    daemon_on: Callable[..., Daemon], checkpoint: Callable[[Spec], Path]
) -> None:
    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    client.agent("mine").append("the lazy dog")
    run = client.run(QUERY, primitive="vote", max_tokens=2000, medium="text", stream=True)
    for event in run:
        if event.text:
            break
    left = [info.name for info in client.agents() if re.fullmatch(r"run-[0-9a-f]{32}/.*", info.name)]
    assert left
    daemon.kill()
    with pytest.raises(AgentmemError):
        run.drain()
    client = daemon.start()
    assert [info.name for info in client.agents()] == ["mine"]


def test_stopping_the_daemon_ends_a_run_at_once(
    daemon_on: Callable[..., Daemon], checkpoint: Callable[[Spec], Path]
) -> None:
    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    run = client.run(QUERY, primitive="vote", max_tokens=3000, medium="text", stream=True)
    for event in run:
        if event.text:
            break
    began = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - began < 6  # of a grace of 10
    with pytest.raises(Unavailable) as caught:
        run.drain()
    assert caught.value.reason == "SHUTTING_DOWN"


def test_a_query_is_not_logged(daemon_on: Callable[..., Daemon], checkpoint: Callable[[Spec], Path]) -> None:
    daemon = daemon_on(checkpoint(ALL[0]))
    with daemon.start() as client:
        client.run("xyzzy-query", context="xyzzy-context", primitive="review", max_tokens=3, rounds=1)
        with pytest.raises(AgentmemError):
            client.run("xyzzy-query", agent="nobody")
        with pytest.raises(AgentmemError):
            client.run("xyzzy-query", context="xyzzy " * 5000, primitive="answer")
    assert "xyzzy" not in daemon.log.read_text()

"""Forks and rewinds: no copy, no recomputation, and every continuation is what a cold run would say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from agentmem_client import AgentmemError, Client, Reply

from tests.helpers.checkpoints import ALL, Spec
from tests.helpers.daemon import Daemon

pytestmark = pytest.mark.reference

IDS = [5 + i % 470 for i in range(900)]


def said(client: Client, name: str, ids: list[int], space: str = "default", new: int = 8) -> Reply:
    """A greedy reply, of a known length unless the model ends it."""
    return client.agent(name, space).generate(token_ids=ids, max_tokens=new, include_token_ids=True)


def block_files(daemon: Daemon) -> set[str]:
    return {path.name for path in daemon.state.glob("blocks/**/*.safetensors")}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("length", [100, 256, 300, 600])
def test_a_fork_and_its_source_go_on_apart(
    length: int, restart: bool, checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    client.agent("source").append(token_ids=IDS[:length])
    first = said(client, "source", [3])
    fork = client.agent("source").fork("fork", at_turn=1)
    assert fork.tokens_to_recompute == 0
    if restart:
        daemon.kill()
        client = daemon.start()
    info = client.agent("fork").info()
    assert (info.tokens, info.turn) == (length, 1)
    other, on = said(client, "fork", [7]), said(client, "source", [9])
    for reply, ids in ((other, [*IDS[:length], 7]), (on, [*IDS[:length], 3, *first.token_ids, 9])):
        assert reply.usage.recomputed_tokens == 0
        assert reply.token_ids == said(client, f"cold-{ids[-1]}", ids).token_ids
    assert [t.kind for t in client.agent("source").turns()] == ["APPEND", "GENERATE", "GENERATE"]
    assert [(t.kind, t.start) for t in client.agent("fork").turns()] == [("FORK", 0), ("GENERATE", length)]


def test_a_fork_copies_one_block_at_most(client: Client, shared: Daemon, space: str) -> None:
    source = client.agent("source", space)
    source.append(token_ids=IDS[:512])
    source.append(token_ids=IDS[512:600])
    source.append(token_ids=IDS[600:700])
    before = block_files(shared)
    source.fork("whole")
    source.fork("on-a-border", at_turn=1)
    assert block_files(shared) == before
    source.fork("inside", at_turn=2)  # turn 3 went on inside this block
    assert len(block_files(shared) - before) <= 1
    assert client.agent("inside", space).info().tokens == 600


def test_a_fork_outlives_its_source_and_nothing_said_later_outlives_it(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    client.agent("source").chat("the quick brown fox " * 20, max_tokens=8)
    client.agent("source").fork("fork")
    client.agent("source").chat("xyzzy-plugh-4711", max_tokens=8)
    client.agent("source").delete()
    held = [p for p in daemon.state.rglob("*") if p.is_file() and b"xyzzy-plugh-4711" in p.read_bytes()]
    assert not held
    daemon.kill()
    client = daemon.start()
    reply = client.agent("fork").chat("and then", max_tokens=8)
    assert reply.usage.recomputed_tokens == 0
    cold = client.agent("cold")
    cold.chat("the quick brown fox " * 20, max_tokens=8)
    assert reply.text == cold.chat("and then", max_tokens=8).text


def test_a_fork_remembers_what_was_said(client: Client, space: str) -> None:
    source = client.agent("source", space)
    source.chat("the memory of an agent", system="is what remains", max_tokens=4)
    source.chat("of it", max_tokens=4)
    (turn,) = source.fork("fork", at_turn=1).turns(include_messages=True)
    assert [(m.message.role, m.message.content) for m in turn.messages[:2]] == [
        ("system", "is what remains"), ("user", "the memory of an agent"),
    ]  # fmt: skip
    assert len(turn.messages) == 3
    assert [(m.start, m.end) for m in turn.messages] == [
        (m.start, m.end) for m in source.turns(include_messages=True)[0].messages
    ]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("length", [100, 256, 300, 600])
def test_asking_again_after_a_rewind_equals_a_cold_run(
    length: int, restart: bool, checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    client.agent("a").append(token_ids=IDS[:length])
    first = said(client, "a", [3, 4, 5])
    rewound = client.agent("a").rewind(1)
    assert (rewound.agent.tokens, rewound.agent.turn, rewound.tokens_to_recompute) == (length, 3, 0)
    if restart:
        daemon.kill()
        client = daemon.start()
    again = said(client, "a", [7])
    assert again.usage.recomputed_tokens == 0
    assert again.token_ids == said(client, "cold", [*IDS[:length], 7]).token_ids
    assert [t.kind for t in client.agent("a").turns()] == ["APPEND", "GENERATE", "REWIND", "GENERATE"]

    undone = client.agent("a").rewind(2)  # a rewind takes nothing away
    assert undone.agent.tokens == length + 3 + len(first.token_ids)
    if restart:
        daemon.kill()
        client = daemon.start()
    on = said(client, "a", [9])
    assert on.usage.recomputed_tokens == 0
    assert on.token_ids == said(client, "cold-2", [*IDS[:length], 3, 4, 5, *first.token_ids, 9]).token_ids


def test_a_rewind_to_0_empties_the_agent(client: Client, space: str) -> None:
    agent = client.agent("a", space)
    wanted = agent.chat("the quick brown fox", max_tokens=6).text
    assert agent.rewind(0).agent.tokens == 0
    reply = agent.chat("the quick brown fox", max_tokens=6)
    assert (reply.text, reply.turn) == (wanted, 3)
    assert agent.info().tokens == agent.turns()[0].end


def test_a_rewound_turn_can_be_forked(client: Client, space: str) -> None:
    agent = client.agent("a", space)
    agent.append(token_ids=IDS[:300])
    agent.append(token_ids=[3, 4])
    agent.rewind(1)
    agent.append(token_ids=[7])
    fork = agent.fork("b", at_turn=2)
    assert fork.info().tokens == 302
    assert said(client, "b", [9], space).token_ids == said(client, "cold", [*IDS[:300], 3, 4, 9], space).token_ids


@pytest.mark.parametrize(
    ("reason", "call"),
    [
        ("TURN_NOT_FOUND", lambda a: a.fork("new", at_turn=9)),
        ("TURN_NOT_FOUND", lambda a: a.rewind(9)),
        ("AGENT_EXISTS", lambda a: a.fork("taken")),
        ("AGENT_EXISTS", lambda a: a.fork("a")),
        ("TURN_MISMATCH", lambda a: a.fork("new", expect_turn=1)),
        ("TURN_MISMATCH", lambda a: a.rewind(1, expect_turn=1)),
        ("AGENT_NAME_INVALID", lambda a: a.fork("")),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    reason: str, call: Callable[[object], object], client: Client, space: str
) -> None:
    agent = client.agent("a", space)
    agent.append(token_ids=IDS[:20])
    agent.append(token_ids=[3])
    client.agent("taken", space).append(token_ids=[1])
    before = [*client.agents(space)]
    with pytest.raises(AgentmemError) as caught:
        call(agent)
    assert caught.value.reason == reason
    assert len(caught.value.message) > 10
    assert [*client.agents(space)] == before


@pytest.mark.parametrize("call", [lambda a: a.fork("b"), lambda a: a.rewind(0), lambda a: a.diff("b")])
def test_nobody_cannot_be_forked(call: Callable[[object], object], client: Client, space: str) -> None:
    with pytest.raises(AgentmemError) as caught:
        call(client.agent("nobody", space))
    assert caught.value.reason == "AGENT_NOT_FOUND"


def test_forks_and_rewinds_can_be_repeated(client: Client, space: str) -> None:
    agent = client.agent("a", space)
    agent.append(token_ids=IDS[:20])
    agent.append(token_ids=[3])
    for _ in range(2):
        agent.fork("b", request_id="r-1")
        assert agent.rewind(1, request_id="r-2").agent.turn == 3
    assert len(agent.turns()) == 3
    with pytest.raises(AgentmemError) as caught:
        agent.fork("c", request_id="r-2")
    assert caught.value.reason == "REQUEST_ID_REUSED"


def test_diff(client: Client, space: str) -> None:
    a = client.agent("a", space)
    a.append(token_ids=IDS[:200])
    a.append(token_ids=IDS[200:300])
    b = a.fork("b")
    assert a.diff("b").same
    a.append(token_ids=[3, 4, 5])
    b.append(token_ids=[3, 4, 7, 8])
    parting = a.diff(b)
    assert (parting.position, parting.a_turn, parting.b_turn) == (302, 3, 2)
    assert (parting.a_tokens, parting.b_tokens, parting.same) == (303, 304, False)
    shorter = a.fork("c", at_turn=1)
    parting = a.diff(shorter)
    assert (parting.position, parting.a_turn, parting.b_turn) == (200, 2, 0)
    client.agent("stranger", space).append(token_ids=[499])
    assert a.diff("stranger").position == 0


def test_an_agent_without_history_goes_on_but_not_back(client: Client, space: str) -> None:
    agent = client.agent("a", space)
    agent.append(token_ids=IDS[:300])
    agent.append(token_ids=IDS[300:400])
    agent.append(token_ids=IDS[400:410])
    would_go = client.prune(space, history_of="a", dry_run=True)
    assert [t.number for t in agent.turns()] == [1, 2, 3]
    assert client.prune(space, history_of="a") == would_go
    assert [(p.kind, p.agent, p.turn) for p in would_go if p.kind == "TURN"] == [
        ("TURN", "a", 1), ("TURN", "a", 2), ("TURN", "a", 3),
    ]  # fmt: skip
    assert [(t.number, t.kind, t.end) for t in agent.turns()] == [(4, "FORK", 410)]  # one stands for all
    with pytest.raises(AgentmemError) as caught:
        agent.rewind(1)
    assert caught.value.reason == "TURN_NOT_FOUND"
    agent.evict()
    reply = said(client, "a", [3], space)
    assert reply.usage.recomputed_tokens == 0
    assert reply.token_ids == said(client, "cold", [*IDS[:410], 3], space).token_ids

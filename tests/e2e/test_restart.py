"""Warm equals cold, token for token: SIGKILL, restart, and a cold run over the recorded ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from agentmem_client import Client

from agentmem.store.store import Store
from tests.helpers.checkpoints import ALL, Spec
from tests.helpers.daemon import Daemon

SOME_IN_THE_GATE = [spec if spec in ALL[1::3] else pytest.param(spec, marks=pytest.mark.slow) for spec in ALL]

pytestmark = pytest.mark.reference

TURNS = (
    [10 + i % 400 for i in range(240)],  # with 16 generated: ends on a block border
    [20 + i % 300 for i in range(100)],
    [30 + i % 300 for i in range(140)],  # on a border again
    [7],
    [40 + i % 200 for i in range(255)],
    [50 + i % 450 for i in range(300)],
    [9, 8, 7],
)
NEW = 16


def _turn(client: Client, agent: str, ids: list[int]) -> tuple[int, ...]:
    """One greedy turn; no reply ends early, so that turn ends lie where the test wants them."""
    reply = client.agent(agent).generate(token_ids=ids, max_tokens=NEW, include_token_ids=True)
    assert reply.durable
    assert reply.usage.recomputed_tokens == 0
    assert reply.usage.prefill_tokens == len(ids)
    return reply.token_ids


def _create_alone(client: Client, *agents: str) -> None:
    """Agents that take over nothing of what others computed: all they know, they computed or restored."""
    for agent in agents:
        client.agent(agent).create(share="private")


@pytest.mark.parametrize("spec", SOME_IN_THE_GATE, ids=lambda s: s.name)
def test_sigkill_and_restart_change_no_token(
    spec: Spec, checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    daemon = daemon_on(checkpoint(spec))
    client = daemon.start()
    _create_alone(client, "stayed", "killed")
    stayed = [_turn(client, "stayed", ids) for ids in TURNS]
    killed = []
    for ids in TURNS:
        killed.append(_turn(client, "killed", ids))
        daemon.kill()
        client = daemon.start()
    assert killed == stayed
    info = client.agent("killed").info()
    assert info.tokens == sum(len(t) for t in TURNS) + sum(len(r) for r in stayed)

    assert daemon.terminate() == 0
    recorded = _recorded_ids(daemon, "killed")
    assert recorded == _recorded_ids(daemon, "stayed")
    client = daemon.start()
    at = 0
    for number, (ids, said) in enumerate(zip(TURNS, stayed, strict=True)):
        at += len(ids)
        _create_alone(client, f"cold-{number}")
        cold = client.agent(f"cold-{number}").generate(token_ids=recorded[:at], max_tokens=NEW, include_token_ids=True)
        assert cold.token_ids == said
        assert cold.usage.prefill_tokens == at
        at += len(said)


def _recorded_ids(daemon: Daemon, agent: str) -> list[int]:
    store = Store.open(daemon.state)
    try:
        row = store.agent("default", agent)
        assert row is not None
        return [int(i) for i in store.history(row.id).ids()]
    finally:
        store.close()


@pytest.mark.parametrize("spec", [ALL[0], ALL[3]], ids=lambda s: s.name)
def test_chat_over_restarts_equals_one_conversation(
    spec: Spec, checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    """No second BOS, no missing generated token: chat turns across kills are what an unbroken run says."""
    said = ["the quick brown fox " * 30, "jumps", "over the lazy dog " * 20, "and", "the memory", "remains"]
    daemon = daemon_on(checkpoint(spec))
    client = daemon.start()
    _create_alone(client, "stayed", "killed")
    stayed = [client.agent("stayed").chat(text, max_tokens=20).text for text in said]
    killed = []
    for text in said:
        killed.append(client.agent("killed").chat(text, max_tokens=20).text)
        daemon.kill()
        client = daemon.start()
    assert killed == stayed
    daemon.terminate()
    ids = _recorded_ids(daemon, "killed")
    assert ids == _recorded_ids(daemon, "stayed")
    assert ids.count(0) == (1 if spec.bos else 0)


def test_five_phases_prefill_only_what_is_new(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    remembered = 0
    for phase in range(5):
        new = [5 + (phase * 37 + i) % 500 for i in range(180 + phase)]
        appended = client.agent("detective").append(token_ids=new)
        assert appended.usage.prefill_tokens == len(new)
        assert appended.usage.reused_warm_tokens == remembered
        reply = client.agent("detective").generate(token_ids=[11, 12], max_tokens=5)
        assert reply.usage.prefill_tokens == 2
        assert reply.usage.reused_hot_tokens == remembered + len(new)
        assert reply.usage.recomputed_tokens == appended.usage.recomputed_tokens == 0
        remembered += len(new) + 2 + reply.usage.generated_tokens
        daemon.kill()
        client = daemon.start()
    assert client.agent("detective").info().tokens == remembered


def test_sampled_replies_depend_on_seed_and_position_alone(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    daemon = daemon_on(checkpoint(ALL[4]))
    client = daemon.start()
    options = {"include_token_ids": True, "max_tokens": 12, "temperature": 1.0, "top_p": 0.9, "seed": 5}
    one = client.agent("a").generate(token_ids=[9] * 50, **options).token_ids
    client.agent("b").append(token_ids=[9] * 20)
    daemon.kill()
    client = daemon.start()
    assert client.agent("b").generate(token_ids=[9] * 30, **options).token_ids == one
    assert client.agent("c").generate(token_ids=[9] * 50, **{**options, "seed": 6}).token_ids != one

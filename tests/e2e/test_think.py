"""Agents that think, over gRPC: what was thought outlives SIGKILL, and is listed for what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from agentmem_client import AsyncClient, Client, InvalidRequest

from tests.helpers.checkpoints import Spec
from tests.helpers.daemon import Daemon

pytestmark = pytest.mark.reference

PROMPT = [10 + i % 400 for i in range(250)]
MORE = [20 + i % 300 for i in range(30)]


def said(client: Client, agent: str) -> tuple[int, ...]:
    reply = client.agent(agent).generate(token_ids=MORE, max_tokens=16, include_token_ids=True)
    assert reply.usage.recomputed_tokens == 0
    assert reply.usage.exactness == "LATENT"
    return reply.token_ids


def test_a_thought_outlives_the_daemon(checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]) -> None:
    daemon = daemon_on(checkpoint(Spec()))
    client = daemon.start()
    for name in ("stayed", "killed"):
        client.agent(name).create(share="private")
        thought = client.agent(name).think(20, token_ids=PROMPT, projection="softmax")
        assert (thought.turn, thought.usage.latent_steps, thought.durable, thought.finish_reason) == (1, 20, True, "")
    stayed = said(client, "stayed")
    daemon.kill()
    client = daemon.start()
    assert said(client, "killed") == stayed
    again = client.agent("killed").think(3)
    assert (again.turn, again.usage.prompt_tokens, again.usage.prefill_tokens) == (3, 316, 0)
    info, turns = client.agent("killed").info(), client.agent("killed").turns()
    assert (info.exactness, [block.kind for block in info.blocks]) == ("LATENT", ["LATENT", "LATENT"])
    assert [(turn.kind, turn.exactness, turn.end) for turn in turns] == [
        ("THINK", "LATENT", 270),
        ("GENERATE", "LATENT", 316),
        ("THINK", "LATENT", 319),
    ]
    assert client.verify().problems == ()
    with pytest.raises(InvalidRequest):
        client.agent("killed").think(0)
    with pytest.raises(InvalidRequest):
        client.agent("new").think(3)


def test_several_think_at_once(checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]) -> None:
    daemon = daemon_on(checkpoint(Spec()))
    client = daemon.start()

    async def think() -> None:
        async with AsyncClient(socket=daemon.socket) as several:
            thoughts = (several.agent(f"t{n}").think(20, token_ids=PROMPT[n:]) for n in range(4))
            assert [thought.usage.latent_steps for thought in await asyncio.gather(*thoughts)] == [20] * 4

    asyncio.run(think())
    for n in range(4):
        client.agent(f"alone{n}").think(20, token_ids=PROMPT[n:])
        assert said(client, f"t{n}") == said(client, f"alone{n}")

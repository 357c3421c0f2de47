"""SIGKILL at random moments under load: every turn acknowledged as durable is there, token for token."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from agentmem_client import AgentmemError, Client

from tests.helpers.checkpoints import ALL, Spec
from tests.helpers.daemon import Daemon

AGENTS = ("a", "b", "c")


@pytest.mark.reference
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "kills", [3, pytest.param(15, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.soak)]
)
def test_acknowledged_turns_survive_kills(
    kills: int, checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    rng = random.Random(kills)
    daemon = daemon_on(checkpoint(ALL[0]))
    acknowledged: dict[str, list[tuple[int, int]]] = {name: [] for name in AGENTS}
    for _ in range(kills):
        client = daemon.start()
        stop = threading.Event()
        work = [threading.Thread(target=_load, args=(client, n, acknowledged[n], stop), daemon=True) for n in AGENTS]
        for thread in work:
            thread.start()
        stop.wait(rng.uniform(0.05, 1.5))
        daemon.kill()
        stop.set()
        for thread in work:
            thread.join(30)
            assert not thread.is_alive()
    client = daemon.start()
    assert any(acknowledged.values())
    for name, turns in acknowledged.items():
        listed = {t.number: t.end for t in client.agent(name).turns()} if turns else {}
        for number, end in turns:
            assert listed[number] == end
        if turns:
            reply = client.agent(name).generate(token_ids=[3], max_tokens=1)
            assert reply.usage.recomputed_tokens == 0
            assert not reply.warnings
    assert not list(daemon.state.glob("**/*.tmp"))


def _load(client: Client, name: str, acknowledged: list[tuple[int, int]], stop: threading.Event) -> None:
    """Short turns until the daemon dies; a full agent is begun anew under the same name."""
    agent = client.agent(name)
    while not stop.is_set():
        try:
            reply = agent.generate(token_ids=[9, 8, len(acknowledged) % 500], max_tokens=4, timeout=20)
            end = reply.usage.prompt_tokens + reply.usage.generated_tokens
            acknowledged.append((reply.turn, end))
            if end > 3000:
                acknowledged.clear()
                agent.delete()
        except AgentmemError:
            return

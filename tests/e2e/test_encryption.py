"""An encrypted state folder under a real daemon: killed, started again with its key, and refused without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from agentmem_client import AgentmemError, Client, Message

from agentmem.primitives.organizer import DEFAULT
from agentmem.store import masterkey
from tests.helpers.checkpoints import ALL, Spec
from tests.helpers.daemon import Daemon

pytestmark = pytest.mark.reference

SAID = "the marker that nobody may find"
IDS = [20 + i % 300 for i in range(300)]


def talk(client: Client, ids: list[int]) -> tuple[int, ...]:
    """One greedy turn."""
    reply = client.agent("alice").generate(token_ids=ids, max_tokens=8, include_token_ids=True)
    assert reply.durable
    assert not reply.warnings
    return reply.token_ids


def test_an_encrypted_daemon_is_killed_and_goes_on(
    checkpoint: Callable[[Spec], Path],
    daemon_on: Callable[..., Daemon],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = daemon_on(checkpoint(ALL[0]), "plain")
    client = plain.start()
    wanted = [talk(client, IDS), talk(client, [7, 8, 9])]
    plain.kill()

    masterkey.create(tmp_path / "key")
    monkeypatch.setenv("AGENTMEM_ENCRYPT", str(tmp_path / "key"))
    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    assert talk(client, IDS) == wanted[0]
    client.agent("bob").append([Message("user", SAID)])
    daemon.kill()

    monkeypatch.setenv("AGENTMEM_ENCRYPT", "")
    code, error = daemon.refusal()
    assert (code, "is encrypted: say where its key is" in error) == (1, True)
    monkeypatch.setenv("AGENTMEM_ENCRYPT", str(tmp_path / "key"))
    client = daemon.start()
    reply = client.agent("alice").generate(token_ids=[7, 8, 9], max_tokens=8, include_token_ids=True)
    assert reply.token_ids == wanted[1]
    assert (reply.usage.recomputed_tokens, reply.usage.reused_warm_tokens > 300) == (0, True)
    assert client.agent("bob").turns(include_messages=True)[0].messages[0].message.content == SAID
    assert client.verify().ok
    with pytest.raises(AgentmemError) as caught:
        client.pool.record(SAID, DEFAULT.json_text(), 1.0)
    assert caught.value.reason == "KNOWLEDGE_NOT_ENCRYPTED"
    assert client.pool.nearest("code")
    client.agent("bob").export(tmp_path / "bob.agentmem")
    client.import_agent(tmp_path / "bob.agentmem", "copy")
    assert SAID.encode() in (tmp_path / "bob.agentmem").read_bytes()
    daemon.kill()
    for path in daemon.state.rglob("*"):
        assert not path.is_file() or SAID.encode() not in path.read_bytes()
    assert SAID not in daemon.log.read_text()

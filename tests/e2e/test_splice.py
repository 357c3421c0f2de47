"""Documents that are read once and spliced into others' memories, over gRPC: they outlive SIGKILL, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from agentmem_client import AgentNotFound, Client, FailedPrecondition, InvalidRequest, Slice, SplicedPart

from tests.helpers.checkpoints import WINDOWED, Spec
from tests.helpers.daemon import Daemon

pytestmark = pytest.mark.reference

DOCS = {"rules": [10 + i % 400 for i in range(300)], "facts": [9 + i * 7 % 300 for i in range(120)]}
MORE = [20 + i % 300 for i in range(30)]


def said(client: Client, agent: str, label: str) -> tuple[int, ...]:
    reply = client.agent(agent).generate(token_ids=MORE, max_tokens=16, include_token_ids=True)
    assert (reply.usage.recomputed_tokens, reply.usage.exactness) == (0, label)
    return reply.token_ids


def test_documents_are_read_once(checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]) -> None:
    daemon = daemon_on(checkpoint(Spec()))
    client = daemon.start()
    for name, ids in DOCS.items():
        client.agent(name).append(token_ids=ids)
    parts = ["facts", Slice("rules", 5, 290)]
    stayed = {}
    for how, label in (("reposition", "REPOSITIONED"), ("blend", "BLENDED"), ("exact", "EXACT")):
        for name in (f"stayed-{how}", f"killed-{how}"):
            client.agent(name).append(token_ids=MORE)
            spliced = client.agent(name).splice(parts, reposition=how)  # type: ignore[arg-type]
            assert spliced.parts == (SplicedPart(0, 30), SplicedPart(1, 150))
            assert (spliced.usage.exactness, spliced.usage.prompt_tokens) == (label, 435)
        stayed[how, label] = said(client, f"stayed-{how}", label)
    assert len(set(stayed.values())) == 3
    daemon.kill()
    client = daemon.start()
    for (how, label), words in stayed.items():
        assert said(client, f"killed-{how}", label) == words
    info, turns = client.agent("killed-blend").info(), client.agent("killed-blend").turns()
    assert [block.kind for block in info.blocks] == ["TEXT", *["SPLICE"] * (len(info.blocks) - 2), "TEXT"]
    assert [(turn.kind, turn.exactness) for turn in turns] == [
        ("APPEND", "EXACT"),
        ("SPLICE", "BLENDED"),
        ("GENERATE", "BLENDED"),
    ]
    assert client.verify().problems == ()
    with pytest.raises(AgentNotFound):
        client.agent("new").splice(["nobody"])
    with pytest.raises(InvalidRequest):
        client.agent("new").splice([Slice("rules", 5, 999)])
    with pytest.raises(InvalidRequest):
        client.agent("new").splice([])


def test_layers_that_cannot_be_moved_are_named(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    client = daemon_on(checkpoint(WINDOWED)).start()
    client.agent("rules").append(token_ids=DOCS["rules"])
    client.agent("bob").append(token_ids=MORE)
    with pytest.raises(FailedPrecondition, match="Layer 0 of this model") as caught:
        client.agent("bob").splice(["rules"])
    assert caught.value.reason == "NOT_REPOSITIONABLE"
    assert client.agent("bob").splice(["rules"], reposition="exact").usage.exactness == "EXACT"

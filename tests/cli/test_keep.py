"""How agents are kept, and spans of time as people write them."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import typer
from agentmem_daemon.cli.durations import NEVER, duration, duration_or_none
from google.protobuf.timestamp_pb2 import Timestamp

from agentmem.v1 import agents_pb2, types_pb2
from tests.cli.conftest import Agentmem
from tests.cli.test_commands import AGENT_KEYS, an_agent
from tests.client.scripted import ScriptedDaemon


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)), ("30m", timedelta(minutes=30)), ("1.5h", timedelta(minutes=90)),
        (" 7D ", timedelta(days=7)), ("2w", timedelta(days=14)), ("0s", timedelta()),
    ],
)  # fmt: skip
def test_durations(text: str, span: timedelta) -> None:
    assert duration(text) == duration_or_none(text) == span


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1d2h", "7 days", "1e9d", "999999w", "9" * 400 + "d", "٣d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="90s"):
        duration(text)


def test_none_is_a_choice_where_it_can_be() -> None:
    assert duration_or_none("none") == NEVER
    with pytest.raises(typer.BadParameter):
        duration("none")


def test_create(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["CreateAgent"] = lambda r, c: agents_pb2.CreateAgentResponse(agent=an_agent())
    assert agentmem("create", "bob").err == "bob is there.\n"
    document = json.loads(agentmem("create", "bob", "--private", "--ttl", "1h", "--pin", "--json").out)
    assert list(document["agent"]) == AGENT_KEYS
    plain, full = daemon.seen
    assert (plain.share, plain.HasField("ttl"), plain.pinned) == (types_pb2.SHARE_NAMESPACE, False, False)
    assert (full.share, full.ttl.seconds, full.pinned) == (types_pb2.SHARE_PRIVATE, 3600, True)


def test_updates_change_one_thing_each(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    answers = [
        an_agent(pinned=True), an_agent(), an_agent(expire_time=Timestamp(seconds=86_400 * 365)), an_agent(),
        an_agent(share=types_pb2.SHARE_PRIVATE),
    ]  # fmt: skip
    daemon.answers["UpdateAgent"] = lambda r, c: agents_pb2.UpdateAgentResponse(agent=answers.pop(0))
    assert agentmem("pin", "bob").err == "bob is pinned.\n"
    assert agentmem("unpin", "bob").err == "bob is not pinned.\n"
    assert agentmem("ttl", "bob", "7d").err.startswith("bob expires at 197")
    assert agentmem("ttl", "bob", "none").err == "bob never expires.\n"
    result = agentmem("share", "bob", "private", "--json")
    assert (result.err, json.loads(result.out)["agent"]["share"]) == ("bob is private.\n", "PRIVATE")
    sent = [
        (r.pinned if r.HasField("pinned") else None, r.ttl.seconds if r.HasField("ttl") else None, r.share)
        for r in daemon.seen
    ]
    assert sent == [
        (True, None, 0), (False, None, 0), (None, 7 * 86_400, 0), (None, 0, 0), (None, None, types_pb2.SHARE_PRIVATE),
    ]  # fmt: skip


def test_evicting_to_disk_asks_nothing(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["EvictAgent"] = lambda r, c: agents_pb2.EvictAgentResponse(ram_bytes=5000)
    rehearsed, done = agentmem("evict", "bob", "--dry-run"), agentmem("evict", "bob")
    assert done.out.splitlines()[1].split() == ["bob", "5.0", "kB", "0", "B"]
    assert (rehearsed.code, rehearsed.out) == (done.code, done.out) == (0, done.out)
    assert (rehearsed.err, done.err) == ("A dry run: nothing was freed.\n", "")
    assert [(r.to, r.dry_run) for r in daemon.seen] == [
        (types_pb2.RESIDENCY_WARM, True),
        (types_pb2.RESIDENCY_WARM, False),
    ]


def test_evicting_from_disk_must_be_meant(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["EvictAgent"] = lambda r, c: agents_pb2.EvictAgentResponse(ram_bytes=1, disk_bytes=2)
    refused = agentmem("evict", "bob", "--to", "cold")
    assert (refused.code, "--yes" in refused.err, daemon.seen) == (2, True, [])
    document = json.loads(agentmem("evict", "bob", "--to", "cold", "--yes", "--json").out)
    assert document == {"agent": "bob", "ram_bytes": 1, "disk_bytes": 2}
    assert [(r.to, r.dry_run) for r in daemon.seen] == [(types_pb2.RESIDENCY_COLD, False)]


def test_prefetch(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    answer = agents_pb2.PrefetchAgentResponse(warm_tokens=300, bytes_read=9000)
    daemon.answers["PrefetchAgent"] = lambda r, c: answer
    result = agentmem("prefetch", "bob")
    assert result.err == "bob is in RAM: 300 tokens from disk (9.0 kB read), 0 were there.\n"
    assert json.loads(agentmem("prefetch", "bob", "--json").out) == {
        "agent": "bob", "hot_tokens": 0, "warm_tokens": 300, "recomputed_tokens": 0, "bytes_read": 9000,
    }  # fmt: skip

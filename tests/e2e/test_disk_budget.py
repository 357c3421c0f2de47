"""`--disk-budget` and `agentmem events`, through the command line and a real daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agentmem_client import ResourceExhausted

from tests.helpers.checkpoints import ALL, Spec
from tests.helpers.daemon import Daemon

pytestmark = pytest.mark.reference

PROMPTS = {name: [5 + (i * n + i // 3) % 400 for i in range(300)] for name, n in (("a", 7), ("b", 11), ("c", 13))}


def agentmem(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agentmem_daemon.cli", "--socket", str(daemon.socket), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def shown(daemon: Daemon, *arguments: str) -> Any:
    done = agentmem(daemon, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_small_budget_is_kept_and_events_say_how(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    daemon = daemon_on(checkpoint(ALL[0]), options=("--disk-budget", "320kB"))
    with daemon.start() as client:
        for name, ids in PROMPTS.items():
            client.agent(name).append(token_ids=ids)
        usage = shown(daemon, "df")
        assert usage["budget_bytes"] == client.stats().disk_budget_bytes == 320_000
        assert client.stats().disk_bytes <= 320_000
        assert {agent.name: agent.residency for agent in client.agents()} == {"a": "COLD", "b": "HOT", "c": "HOT"}
        with pytest.raises(ResourceExhausted) as caught:
            client.agent("huge").append(token_ids=PROMPTS["a"] * 7)
        assert caught.value.reason == "DISK_BUDGET_EXCEEDED"
        assert "--disk-budget" in str(caught.value)
        assert [agent.name for agent in client.agents()] == ["a", "b", "c"]
        assert client.agent("a").generate(token_ids=[9], max_tokens=2).usage.recomputed_tokens == 300
        events = list(client.events())
        assert [event.kind for event in events] == [
            "STARTED", "DISK_EVICTED", "DISK_REFUSED", "DISK_EVICTED", "BLOCK_RECOMPUTED",
        ]  # fmt: skip
        assert list(client.events(page_size=2)) == events
        assert list(client.events(since=events[2].time)) == events[2:]
        first, second = shown(daemon, "events", "--agent", "a")["events"]
        assert (first["kind"], first["agent"], first["namespace"]) == ("DISK_EVICTED", "a", "default")
        assert first["bytes"] > 50_000
        assert (second["kind"], second["reason"]) == ("BLOCK_RECOMPUTED", "BLOCK_EVICTED")
        assert (second["start"], second["end"]) == (0, 300)
        assert agentmem(daemon, "rm", "a", "--yes").returncode == 0
        left = [line.split()[2:] for line in agentmem(daemon, "events").stdout.splitlines()]
        assert [line[:3] for line in left] == [
            ["NAMESPACE", "AGENT", "BYTES"], ["STARTED", "-", "-"], ["DISK_REFUSED", "-", "-"],
            ["DISK_EVICTED", "default", "b"],
        ]  # fmt: skip
        assert [event.agent for event in client.events("default")] == ["b"]

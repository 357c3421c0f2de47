"""Prometheus figures over HTTP: what they are, whom they name (nobody), and where they are offered."""

from __future__ import annotations

import socket
import sys
import urllib.request
from types import SimpleNamespace
from typing import Any

import pytest
from agentmem_daemon import metrics
from agentmem_daemon.errors import StartError
from agentmem_daemon.readiness import Readiness
from prometheus_client.parser import text_string_to_metric_families

from agentmem.engine.request import Phase, Priority
from agentmem.engine.status import EngineStats, RequestView
from agentmem.engine.steptimes import StepTimes
from agentmem.types import AgentRef

STEPS = StepTimes(schedule_s=1.5, device_s=2.5, steps=40, tokens=160)
NUMBERS = {name: place for place, name in enumerate(EngineStats.__annotations__, 1)}
STATS = EngineStats(**(NUMBERS | {"steps": STEPS}))  # type: ignore[arg-type]


def view(name: str, phase: Phase) -> RequestView:
    return RequestView(AgentRef("a-namespace", name), "an-id", phase, 0, Priority.NORMAL, 1, 2, 3, 0.5, 0.5, 3)


class Engine:
    def stats(self) -> EngineStats:
        return STATS

    def requests(self) -> list[RequestView]:
        return [view("alice", Phase.DECODING), view("bob", Phase.DECODING), view("carol", Phase.QUEUED)]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def scrape(port: int) -> tuple[str, dict[str, float]]:
    """The text, and its samples by name and label."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        text = response.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return text, {":".join((one.name, *one.labels.values())): one.value for one in samples}


def test_what_is_told(port: int) -> None:
    readiness = Readiness()
    with metrics.endpoint(port, readiness):
        _, loading = scrape(port)
        assert loading["agentmem_up"] == 0
        assert [name for name in loading if name.startswith("agentmem")] == ["agentmem_up"]
        model: Any = SimpleNamespace()
        readiness.serving(Engine(), model)  # type: ignore[arg-type]
        text, samples = scrape(port)
        readiness.stuck("one step")
        assert scrape(port)[1]["agentmem_up"] == 0
        readiness.stopping()
        assert "agentmem_agents" not in scrape(port)[1]
    assert samples["agentmem_up"] == 1
    for field in set(NUMBERS) - {"running", "queued", "steps", "oldest_unsaved_s", "restore_s_total"}:
        name = f"agentmem_{field}".replace("_s_total", "_seconds_total")
        assert samples[name] == NUMBERS[field], name
    assert samples["agentmem_restore_seconds_total"] == NUMBERS["restore_s_total"]
    assert samples["agentmem_oldest_unsaved_seconds"] == NUMBERS["oldest_unsaved_s"]
    assert (samples["agentmem_step_seconds_total:schedule"], samples["agentmem_step_seconds_total:device"]) == (
        1.5,
        2.5,
    )
    assert (samples["agentmem_steps_total"], samples["agentmem_step_tokens_total"]) == (40, 160)
    phases = {phase: samples[f"agentmem_requests_now:{phase.value.lower()}"] for phase in Phase}
    assert phases == dict.fromkeys(Phase, 0) | {Phase.DECODING: 2, Phase.QUEUED: 1}
    assert not any(secret in text for secret in ("alice", "a-namespace", "an-id"))
    with pytest.raises(OSError, match="refused"):
        scrape(port)


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=f"port {port} .* in use"), metrics.endpoint(port, Readiness()):
            pass


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)  # type: ignore[arg-type]
    with pytest.raises(StartError) as caught, metrics.endpoint(port, Readiness()):
        pass
    assert caught.value.exit_code == 4
    assert "pip install 'agentmem[metrics]'" in caught.value.message

"""`status`, `stats`, `top` and `events --follow`: what a daemon does, seen from outside."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from agentmem_client import RunningRequest, Stats, Status, StepTimes
from agentmem_client.convert import stats as to_stats
from agentmem_client.convert import status as to_status
from agentmem_daemon.cli import events
from agentmem_daemon.cli.sample import Rates, Sample, steps_between

from agentmem.v1 import admin_pb2, maintenance_pb2, types_pb2
from tests.cli.conftest import Agentmem
from tests.client.scripted import ScriptedDaemon

STEPS = admin_pb2.StepTimes(
    schedule_s=0.1, graph_s=0.2, device_s=0.5, sample_s=0.1, stream_s=0.1, prefill_s=1.0, steps=100, tokens=400
)
STATS = admin_pb2.GetStatsResponse(
    running=1, queued=1, hot_agents=2, agents=5, hot_bytes=500, ram_budget_bytes=1000, disk_bytes=9000,
    disk_budget_bytes=10_000, reused_hot_tokens_total=50, reused_warm_tokens_total=25, prefill_tokens_total=20,
    recomputed_tokens_total=5, generated_tokens_total=10, steps=STEPS, queue_limit=256, max_batch=32,
    restores_total=3, restore_s_total=2.0, restore_hidden_s_total=1.5,
)  # fmt: skip
STATUS = admin_pb2.GetStatusResponse(version="9", phase="SERVING", pid=7, model=admin_pb2.ModelInfo(name="a-model"))


def a_request(name: str, phase: str, generated: int = 0, **fields: Any) -> admin_pb2.RunningRequest:
    return admin_pb2.RunningRequest(
        agent=types_pb2.AgentRef(namespace="default", name=name),
        request_id=name,
        phase=admin_pb2.RequestPhase.Value(f"REQUEST_PHASE_{phase}"),
        tokens_generated=generated,
        **fields,
    )


def serve(daemon: ScriptedDaemon, status: admin_pb2.GetStatusResponse = STATUS, per_look: int = 0) -> None:
    """per_look: tokens that bob's reply grows by between two looks."""
    generated = [10]

    def requests(request: Any, context: Any) -> admin_pb2.ListRequestsResponse:
        bob = a_request("b\u202eob", "DECODING", generated[0], tokens_fed=130, prompt_tokens=120, running_s=1.5)
        generated[0] += per_look
        eve = a_request("eve", "QUEUED", queue_position=1, waited_s=2.5)
        return admin_pb2.ListRequestsResponse(requests=[bob, eve])

    daemon.answers |= {"GetStatus": lambda r, c: status, "GetStats": lambda r, c: STATS, "ListRequests": requests}


def test_status(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    serve(daemon)
    result = agentmem("status")
    assert (result.code, result.err) == (0, "")
    assert [line.split() for line in result.out.splitlines()][:2] == [["phase", "serving"], ["model", "a-model"]]
    assert json.loads(agentmem("status", "--json").out)["phase"] == "SERVING"


@pytest.mark.parametrize("phase", ["LOADING", "STUCK", "STOPPING"])
def test_status_of_a_daemon_that_does_not_serve(daemon: ScriptedDaemon, agentmem: Agentmem, phase: str) -> None:
    serve(daemon, admin_pb2.GetStatusResponse(phase=phase, message="one step has lasted since noon"))
    result = agentmem("status")
    assert (result.code, "one step has lasted since noon" in result.err) == (1, True)
    result = agentmem("status", "--json")
    assert (result.code, json.loads(result.out)["phase"]) == (1, phase)


def test_stats(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    serve(daemon)
    result = agentmem("stats")
    lines = [line.split("  ") for line in result.out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert ["requests", "1 of 32 running, 1 of 256 queued"] in cells
    assert ["RAM", "500 B of 1.0 kB"] in cells
    assert ["of all prompts", "50% hot, 25% warm, 25% computed"] in cells
    assert ["restores", "3 in 2.00 s, 75% of it hidden"] in cells
    assert ["decode steps", "100, 4.0 tokens each"] in cells
    assert ["DECODE STEP", "EACH", "TOTAL", "SHARE"] in cells
    assert ["schedule", "1.000 ms", "100 ms", "5%"] in cells
    assert ["all of it", "10.000 ms", "1.00 s", "50%"] in cells
    assert ["prompts", "-", "1.00 s", "50%"] in cells
    document = json.loads(agentmem("stats", "--json").out)
    assert document["steps"]["device_s"] == 0.5
    assert list(document["steps"]) == list(StepTimes.__annotations__)


def test_stats_of_a_daemon_that_did_nothing(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["GetStats"] = lambda r, c: admin_pb2.GetStatsResponse()
    result = agentmem("stats")
    assert (result.code, "STEP" in result.out) == (0, False)


def test_one_look(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    """In a pipe there is one frame, --once or not."""
    serve(daemon, per_look=50)
    result = agentmem("top", "--interval", "0.1")
    assert (result.code, result.err) == (0, "")
    title, _, agents, requests, speed, ram, disk, prompts, steps, _, header, bob, eve = result.out.splitlines()
    assert title == "agentmem 9  a-model  up 0:00:00  SERVING"
    assert agents == "agents    2 of 5 hot"
    assert requests == "requests  1 decoding, 0 in prefill, 0 restoring, 1 queued, 0 set aside"
    assert 0 < float(speed.split()[1]) <= 500
    assert ram == f"RAM       {'█' * 15}{'░' * 15} 500 B of 1.0 kB, 50%"
    assert disk.split()[1] == "█" * 27 + "░" * 3
    assert prompts == "prompts   50% hot, 25% warm, 25% computed"
    assert steps == (
        "steps     10.0 ms each for 4.0 tokens: 5% schedule, 10% graph, 25% device, 5% sample, 5% stream, 50% prompts"
    )
    assert header.split() == ["AGENT", "PHASE", "QUEUE", "FED", "PROMPT", "GENERATED", "TOKENS/S", "WAITED", "RUNNING"]
    name, phase, queue, fed, prompt, generated, rate, *_ = bob.split()
    assert (name, phase, queue, fed, prompt, generated) == ("b\ufffdob", "decoding", "-", "130", "120", "60")
    assert 0 < float(rate) <= 500
    assert eve.split() == ["eve", "queued", "1", "0", "-", "0", "-", "2.50", "s", "-"]


def test_one_look_as_json(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    serve(daemon, per_look=50)
    document = json.loads(agentmem("top", "--json", "--interval", "0.1").out)
    assert list(document) == ["status", "stats", "requests", "rates"]
    assert list(document["requests"][0]) == list(RunningRequest.__annotations__)
    assert 0 < document["rates"]["generated"] == document["rates"]["requests"]["b\u202eob"] <= 500


def test_a_look_at_a_stuck_daemon_says_why(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    serve(daemon, admin_pb2.GetStatusResponse(version="9", phase="STUCK", message="one step has lasted since noon"))
    first, second, *_ = agentmem("top", "--once", "--interval", "0.1").out.splitlines()
    assert (first.endswith("STUCK"), second) == (True, "one step has lasted since noon")


def sample(at: float, generated: int, *requests: tuple[str, int], prefill: int = 0, pid: int = 7) -> Sample:
    """Tokens of turns that have ended, and of those that run."""
    stats: Stats = to_stats(admin_pb2.GetStatsResponse(generated_tokens_total=generated, prefill_tokens_total=prefill))
    status: Status = to_status(admin_pb2.GetStatusResponse(pid=pid))
    running = tuple(
        RunningRequest(id, "", id, "DECODING", 0, "", 0, count, 0, 0.0, 0.0, 2 * count) for id, count in requests
    )
    return Sample(at, status, stats, running)


def test_rates_are_differences_over_turns_that_run_and_turns_that_ended() -> None:
    before = sample(10.0, 100, ("a", 50), ("b", 5), prefill=1000)
    now = sample(12.0, 160, ("b", 25), ("c", 8), prefill=1600)  # a ended with 60
    assert Rates.between(before, now) == Rates(19.0, (600 + 2 * (33 - 55)) / 2, {"b": 10.0})
    assert Rates.between(None, now) == Rates(0.0, 0.0, {})
    assert Rates.between(before, sample(12.0, 100)).generated == 0, "dropped turns"
    assert Rates.between(before, sample(12.0, 900, pid=8)).generated == 0, "another daemon"


def test_steps_are_those_between_two_looks() -> None:
    def looked(steps: int, device_s: float) -> Sample:
        stats = to_stats(admin_pb2.GetStatsResponse(steps=admin_pb2.StepTimes(steps=steps, device_s=device_s)))
        return Sample(0.0, to_status(STATUS), stats, ())

    before, now = looked(10, 1.0), looked(14, 3.0)
    between = steps_between(before, now)
    assert (between.steps, between.device_s) == (4, 2.0)
    for other in (None, now, looked(99, 9.0)):  # the first look, nothing done, a new daemon
        assert steps_between(other, now).steps == 14


@pytest.fixture
def on_terminal(daemon: ScriptedDaemon) -> Callable[..., tuple[int, str]]:
    """Runs a command on a terminal of its own, sends SIGINT once it shows `sign`; its exit code and what it showed."""

    def run(sign: str, *arguments: str) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "agentmem_daemon.cli", "--socket", str(daemon.socket), *arguments]
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "LINES": "40", "PYTHONUTF8": "1"}
        process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment)
        os.close(theirs)
        shown, told, deadline = b"", False, time.monotonic() + 30
        with suppress(OSError):  # how Linux says that the other side hung up
            while (chunk := os.read(ours, 65536)) and time.monotonic() < deadline:
                shown += chunk
                if not told and sign.encode() in shown:
                    told = True
                    process.send_signal(signal.SIGINT)
        os.close(ours)
        return process.wait(10), shown.decode(errors="replace")

    return run


def test_ctrl_c_leaves_the_terminal_as_it_was(daemon: ScriptedDaemon, on_terminal) -> None:
    serve(daemon, per_look=5)
    code, shown = on_terminal("DECODING".lower(), "top", "--interval", "0.1")
    assert code == 130
    assert shown.index("\x1b[?1049h") < shown.index("SERVING") < shown.index("\x1b[?1049l")
    assert shown.rindex("\x1b[?25l") < shown.rindex("\x1b[?25h"), "the cursor is back"
    assert not any(word in shown for word in ("Traceback", "Abort"))


def test_events_are_followed(daemon: ScriptedDaemon, agentmem: Agentmem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, in order, and on until Ctrl-C."""
    monkeypatch.setattr(events, "FOLLOW_S", 0.01)

    def answer(request: maintenance_pb2.ListEventsRequest, context: Any) -> maintenance_pb2.ListEventsResponse:
        looks = len(daemon.seen)
        if looks == 4:
            os.kill(os.getpid(), signal.SIGINT)
        known = [maintenance_pb2.Event(number=n, kind=f"KIND_{n}", reason="WHY") for n in range(1, 3 + looks // 2)]
        return maintenance_pb2.ListEventsResponse(events=[event for event in known if event.number > request.after])

    daemon.answers["ListEvents"] = answer
    result = agentmem("events", "--follow")
    assert (result.code, result.out.splitlines()) == (130, [f"KIND_{n}  WHY" for n in range(1, 5)])
    assert [request.after for request in daemon.seen] == [0, 2, 3, 3]
    daemon.seen.clear()
    result = agentmem("events", "-f", "--json")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert (result.code, [one["number"] for one in lines]) == (130, [1, 2, 3, 4])


def test_who_follows_hears_that_the_daemon_is_gone(tmp_path: Path, agentmem: Agentmem, daemon: ScriptedDaemon) -> None:
    daemon.answers["ListEvents"] = lambda r, c: maintenance_pb2.ListEventsResponse()
    daemon.stop()
    for command in (["events", "--follow"], ["top"], ["stats"], ["status"]):
        result = agentmem(*command)
        assert (result.code, "[DAEMON_NOT_RUNNING]" in result.err) == (3, True)

"""Bad input, cancelled streams, repeated requests, and what the log may say."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from agentmem_client import (
    AgentmemError,
    Client,
    DaemonNotRunning,
    DeadlineExceeded,
    InvalidRequest,
    TurnMismatch,
    Unauthenticated,
)
from agentmem_client.discovery import socket_target, token_path

from tests.helpers.checkpoints import ALL, Spec
from tests.helpers.daemon import Daemon

MARKER = "xyzzy-plugh-4711"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all tests of this module, with an agent that must stay untouched."""
    from tests.helpers.checkpoints import write

    folder = tmp_path_factory.mktemp("shared")
    daemon = Daemon(folder, write(folder / "model", ALL[0]))
    client = daemon.start()
    client.agent("witness").append(token_ids=[1, 2, 3])
    yield daemon
    daemon.stop()


@pytest.fixture
def client(shared: Daemon) -> Iterator[Client]:
    with shared.client() as client:
        yield client
        assert shared.alive
        assert client.agent("witness").info().turn == 1


LONG = "a" * 10_000_000


@pytest.mark.parametrize(
    ("reason", "call"),
    [
        ("AGENT_NOT_FOUND", lambda c: c.agent("nobody").info()),
        ("AGENT_NOT_FOUND", lambda c: c.agent("nobody").generate("x", create=False)),
        ("AGENT_NOT_FOUND", lambda c: c.agent("nobody").delete()),
        ("EMPTY_INPUT", lambda c: c.agent("new").chat("")),
        ("EMPTY_INPUT", lambda c: c.agent("new").generate("")),
        ("EMPTY_INPUT", lambda c: c.agent("new").generate(token_ids=[])),
        ("TOKEN_ID_OUT_OF_RANGE", lambda c: c.agent("new").generate(token_ids=[1, 512])),
        ("TOKEN_ID_OUT_OF_RANGE", lambda c: c.agent("new").generate(token_ids=[2**31])),
        ("SAMPLING_INVALID", lambda c: c.agent("new").chat("x", temperature=-1)),
        ("SAMPLING_INVALID", lambda c: c.agent("new").chat("x", temperature=float("nan"))),
        ("SAMPLING_INVALID", lambda c: c.agent("new").chat("x", top_p=0.0)),
        ("SAMPLING_INVALID", lambda c: c.agent("new").chat("x", max_tokens=0)),
        ("SAMPLING_INVALID", lambda c: c.agent("new").chat("x", stop=[""])),
        ("PROMPT_TOO_LARGE", lambda c: c.agent("new").chat(LONG)),
        ("CONTEXT_OVERFLOW", lambda c: c.agent("new").generate(token_ids=[5] * 4096)),
        ("AGENT_NAME_INVALID", lambda c: c.agent("n" * 257).chat("x")),
        ("AGENT_NAME_INVALID", lambda c: c.agent("").chat("x")),
        ("AGENT_NAME_INVALID", lambda c: c.agent("a\nb").chat("x")),
        ("ROLE_INVALID", lambda c: c.agent("new").chat([{"role": "oracle", "content": "x"}])),
    ],
)
def test_bad_input_is_a_clear_error(reason: str, call: Callable[[Client], object], client: Client) -> None:
    with pytest.raises(AgentmemError) as caught:
        call(client)
    assert caught.value.reason == reason
    assert len(caught.value.message) > 10
    assert "new" not in [a.name for a in client.agents()]


@pytest.mark.parametrize(
    "name", ["a/b", "../../etc/passwd", "..", ".", "🦊 fox", "n" * 256, "Bob", "bob", "con", "日本"]
)
def test_any_name_is_a_name(name: str, client: Client, shared: Daemon) -> None:
    client.agent(name).append(token_ids=[4, 5])
    assert client.agent(name).info().tokens == 2
    assert name in [a.name for a in client.agents()]
    assert not [p for p in shared.state.rglob("*") if len(name) > 2 and name in p.name]
    client.agent(name).delete()
    assert name not in [a.name for a in client.agents()]


def test_bob_is_not_bob(client: Client) -> None:
    client.agent("Bob").append(token_ids=[4, 5])
    client.agent("bob").append(token_ids=[6])
    client.agent("bob").append(token_ids=[7])
    assert [client.agent(name).info().tokens for name in ("Bob", "bob")] == [2, 2]
    assert [client.agent(name).info().turn for name in ("Bob", "bob")] == [1, 2]
    client.agent("Bob").delete()
    assert client.agent("bob").info().turn == 2


def test_malformed_bytes_and_wrong_tokens_leave_the_daemon_alive(client: Client, shared: Daemon) -> None:
    token = token_path(shared.socket).read_text().strip()
    method = "/agentmem.v1.GenerationService/Append"
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(socket_target(shared.socket), options=options) as channel:
        send = channel.unary_unary(method)  # no serialiser: raw bytes
        for data in (
            b"\xff\xff\xff\xff",
            b"\x0a\x05\x12\x03\xff\xfe\xfd",
            b"\x0a",
        ):  # the second: invalid UTF-8 in a name
            with pytest.raises(grpc.RpcError) as caught:
                send(data, metadata=[("authorization", f"Bearer {token}")], timeout=10)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert b"INPUT_INVALID" in dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
        with pytest.raises(grpc.RpcError) as caught:
            send(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with Client(socket=shared.socket, token="0" * 64) as wrong, pytest.raises(Unauthenticated):
        wrong.status()


def test_expect_turn(client: Client) -> None:
    agent = client.agent("careful")
    agent.append(token_ids=[1])
    with pytest.raises(TurnMismatch) as caught:
        agent.append(token_ids=[2], expect_turn=0)
    assert caught.value.reason == "TURN_MISMATCH"
    assert agent.append(token_ids=[2], expect_turn=1).turn == 2


def test_a_repeated_request_returns_the_committed_result(client: Client) -> None:
    agent = client.agent("repeater")
    options = {"max_tokens": 9, "request_id": "r-1", "include_token_ids": True, "temperature": 1.0}
    first = agent.generate("the quick brown", **options)
    second = agent.generate("the quick brown", **options)
    assert second.repeated_result
    assert (second.text, second.token_ids, second.turn) == (first.text, first.token_ids, first.turn)
    assert agent.info().turn == 1
    with pytest.raises(AgentmemError) as caught:
        client.agent("another").append("x", request_id="r-1")
    assert caught.value.reason == "REQUEST_ID_REUSED"


def test_stop_sequence_is_not_sent(client: Client) -> None:
    said = client.agent("free").generate(token_ids=[9, 30], max_tokens=40).text
    stop = said[len(said) // 2 :][:4]
    reply = client.agent("stopped").generate(token_ids=[9, 30], max_tokens=40, stop=[stop])
    assert reply.finish_reason == "STOP_SEQUENCE"
    assert reply.stop_sequence == stop
    assert said.startswith(reply.text)
    assert stop not in reply.text


def test_a_reply_fulfils_its_schema(client: Client) -> None:
    schema = {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 1, "maxItems": 3}
    reply = client.agent("schema").chat("Which colours?", json_schema=schema, temperature=1.0, seed=3)
    assert 1 <= len(json.loads(reply.text)) <= 3
    with pytest.raises(InvalidRequest) as caught:
        client.agent("schema").chat("Which?", json_schema={"not": schema})
    assert caught.value.reason == "SCHEMA_INVALID"
    assert client.agent("schema").info().turn == 1


@pytest.mark.parametrize("on_cancel", ["commit", "discard"])
def test_a_client_that_goes_away_stops_the_generation(on_cancel: str, client: Client) -> None:
    agent = client.agent(f"leaver-{on_cancel}")
    agent.append(token_ids=[6, 7, 8])
    stream = agent.generate(token_ids=[9], max_tokens=3000, stream=True, on_cancel=on_cancel, include_token_ids=True)
    for n, _ in enumerate(stream):
        if n == 4:
            stream.cancel()
            break
    deadline = time.monotonic() + 10
    while client.stats().running and time.monotonic() < deadline:
        time.sleep(0.02)
    turns = agent.turns()
    if on_cancel == "discard":
        assert len(turns) == 1
        wanted = client.agent("fresh").generate(token_ids=[6, 7, 8, 5], max_tokens=5, include_token_ids=True)
        after = agent.generate(token_ids=[5], max_tokens=5, include_token_ids=True)
        assert after.token_ids == wanted.token_ids  # nothing of the dropped turn is left in RAM
    else:
        assert turns[-1].finish_reason == "CANCELLED"
        assert 4 + 5 <= turns[-1].end < 500


def test_agents_wait_their_turn_and_see_their_place(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    """Those that are worth more go first."""
    client = daemon_on(checkpoint(ALL[0]), options=("--max-batch", "1")).start()
    busy = client.agent("busy").generate(token_ids=[9], max_tokens=4000, stream=True)
    next(iter(busy))
    low = client.agent("low").generate(token_ids=[9], max_tokens=2, stream=True, priority="low")
    assert low.started.queue_position == 1
    high = client.agent("high").generate(token_ids=[9], max_tokens=2, stream=True, priority="high")
    assert high.started.queue_position == 1
    listed = [(request.agent, request.queue_position, request.priority) for request in client.requests()]
    assert listed == [("busy", 0, "NORMAL"), ("high", 1, "HIGH"), ("low", 2, "LOW")]
    busy.cancel()
    assert low.drain().durable
    assert high.drain().durable
    deadline = time.monotonic() + 10
    while client.requests():  # one that has said its last word leaves a moment later
        assert time.monotonic() < deadline


def test_health_and_reflection(client: Client, shared: Daemon) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    token = [("authorization", f"Bearer {token_path(shared.socket).read_text().strip()}")]
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(socket_target(shared.socket), options=options) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), metadata=token)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = next(
            iter(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]), metadata=token))
        )
        names = {s.name for s in answer.list_services_response.service}
        assert {f"agentmem.v1.{s}Service" for s in ("Agent", "Generation", "Admin", "Maintenance")} <= names


def test_no_prompt_text_in_the_log(checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]) -> None:
    daemon = daemon_on(checkpoint(ALL[0]), log_level="DEBUG")
    client = daemon.start()
    client.agent("a").chat(f"my password is {MARKER}", max_tokens=3)
    client.agent("a").append(f"raw {MARKER}")
    for bad in ({"role": "oracle", "content": MARKER}, {"role": "tool", "content": MARKER}):
        with pytest.raises(AgentmemError):
            client.agent("a").chat([bad, {"role": MARKER, "content": MARKER}])
    with pytest.raises(AgentmemError):
        client.agent("a").chat(MARKER * 300_000)
    stream = client.agent("a").generate(f"{MARKER} again", max_tokens=2000, stream=True, stop=[MARKER])
    next(iter(stream))
    stream.cancel()
    ids = [301, 302, 303, 304, 305]
    reply = client.agent("b").generate(token_ids=ids, max_tokens=100, include_token_ids=True)
    assert "<unused" in reply.text  # no word of ours: whoever logs replies, whole or in pieces, logs this
    assert daemon.terminate() == 0
    text = daemon.log.read_text()
    assert text
    assert MARKER not in text
    assert "<unused" not in text
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    for said in (ids, list(reply.token_ids[:5])):
        assert not any(numbers[i : i + 5] == said for i in range(len(numbers)))


@pytest.mark.reference
def test_a_deadline_in_a_batch_ends_that_call_alone(client: Client) -> None:
    """What it said is kept; who decodes along says what it would have alone."""
    ids, more = [7, 8, 9], {"max_tokens": 150, "temperature": 1.0, "seed": 5, "include_token_ids": True}
    alone = client.agent("deadline-solo").generate(token_ids=ids, **more)
    first = client.agent("deadline-long").generate(token_ids=ids, max_tokens=4000, stream=True, timeout=2)
    next(iter(first))
    reply = client.agent("deadline-other").generate(token_ids=ids, **more)
    assert reply.token_ids == alone.token_ids
    with pytest.raises(DeadlineExceeded):
        list(first)
    deadline = time.monotonic() + 10
    while client.stats().running and time.monotonic() < deadline:
        time.sleep(0.02)
    (turn,) = client.agent("deadline-long").turns()
    assert (turn.finish_reason, client.agent("deadline-long").info().tokens) == ("DEADLINE", turn.end)
    assert turn.end < 4000


def test_sigterm_finishes_or_commits_what_runs_and_exits_0(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    stream = client.agent("a").generate(token_ids=[9], max_tokens=60, stream=True)
    next(iter(stream))
    assert daemon.terminate() == 0
    assert not daemon.socket.exists()
    with pytest.raises(DaemonNotRunning):
        client.agent("a").info()
    client = daemon.start()
    assert client.agent("a").turns()[0].finish_reason in ("LENGTH", "STOP", "DEADLINE")


def test_a_second_daemon_is_refused_and_the_first_lives(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    first = daemon_on(checkpoint(ALL[0]))
    client = first.start()
    code, said = daemon_on(checkpoint(ALL[0])).refusal()
    assert code == 1
    assert "another" in said.lower() or "already" in said.lower()
    assert client.status().phase == "SERVING"


def test_files_and_folders_are_private(shared: Daemon) -> None:
    assert shared.socket.parent.stat().st_mode & 0o777 == 0o700
    assert token_path(shared.socket).stat().st_mode & 0o777 == 0o600
    for path in shared.state.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentmem_client import (
    Client,
    DaemonNotRunning,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    Slice,
    SplicedPart,
    StreamUnfinished,
    Unavailable,
    errors,
)

from agentmem.v1 import admin_pb2, agents_pb2, generation_pb2, latent_pb2, types_pb2

from .scripted import ScriptedDaemon, delta, fail, opening, say


def test_a_chat_is_one_reply(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.answers["Generate"] = lambda request, context: say("teal", "-42")
    reply = client.agent("alice").chat("What is my badge?")
    assert (reply.text, str(reply), reply.turn, reply.finish_reason) == ("teal-42", "teal-42", 1, "STOP")
    assert (reply.durable, reply.seed, reply.token_ids) == (True, 7, (4, 3))
    assert (reply.usage.reused_warm_tokens, reply.usage.exactness) == (300, "EXACT")
    assert (reply.usage.misses[0].reason, reply.warnings[0].reason) == ("BLOCK_CORRUPT", "BLOCK_CORRUPT")
    assert reply.timings.ttft_s == 0.25
    request = daemon.seen[0]
    assert (request.agent.namespace, request.agent.name, request.create) == ("default", "alice", True)
    assert reply.request_id == request.request_id != ""


def test_a_stream_brings_its_text_piece_by_piece(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.answers["Generate"] = lambda request, context: [opening(5, 2), *say("a", "b", turn=5)]
    stream = client.agent("alice").chat("Hi", stream=True)
    assert (stream.started.turn, stream.started.queue_position) == (5, 2)
    with pytest.raises(StreamUnfinished):
        _ = stream.result
    assert next(stream).text == "a"
    assert stream.text == "a"
    assert [piece.text for piece in stream] == ["b"]
    assert stream.started.queue_position == 2
    assert (stream.result.text, stream.result.turn) == ("ab", 5)
    assert list(stream) == []


def test_generate_and_append_take_all_inputs(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.answers["Generate"] = lambda request, context: say("x")
    daemon.answers["Append"] = lambda request, context: generation_pb2.AppendResponse(turn=4, durable=True)
    alice = client.agent("alice", namespace="team")
    alice.generate(text="raw")
    alice.generate(token_ids=[1, 2, 3], max_tokens=8)
    alice.generate(messages=[{"role": "user", "content": "Hi"}])
    appended = alice.append("prose", expect_turn=3)
    kinds = [request.input.WhichOneof("content") for request in daemon.seen]
    assert kinds == ["text", "token_ids", "chat", "text"]
    assert (appended.turn, appended.durable, appended.request_id) == (4, True, daemon.seen[3].request_id)
    assert {request.agent.namespace for request in daemon.seen} == {"team"}


def test_splice(daemon: ScriptedDaemon, client: Client) -> None:
    parts = [latent_pb2.SplicedPart(part=1, start=7), latent_pb2.SplicedPart(part=0, start=19)]
    daemon.answers["Splice"] = lambda request, context: latent_pb2.SpliceResponse(turn=4, durable=True, parts=parts)
    alice = client.agent("alice")
    spliced = alice.splice(["one", Slice("two", 3, 9, turn=2)], order="canonical", expect_turn=3)
    alice.splice([Slice("one", 5)], reposition="blend", ratio=0.5, check_layer=2, create=False)
    assert (spliced.turn, spliced.durable, spliced.request_id) == (4, True, daemon.seen[0].request_id)
    assert spliced.parts == (SplicedPart(1, 7), SplicedPart(0, 19))
    first, second = daemon.seen
    assert [(p.agent, p.start, p.HasField("end"), p.HasField("turn")) for p in first.parts] == [
        ("one", 0, False, False),
        ("two", 3, True, True),
    ]
    assert (first.reposition, first.order) == (latent_pb2.REPOSITION_REPOSITION, latent_pb2.PART_ORDER_CANONICAL)
    assert (first.HasField("ratio"), first.create, first.expect_turn) == (False, True, 3)
    assert (second.reposition, second.ratio, second.check_layer) == (latent_pb2.REPOSITION_BLEND, 0.5, 2)
    for bad in ({"reposition": "none"}, {"order": "none"}):
        with pytest.raises(InvalidRequest):
            alice.splice(["one"], **bad)  # type: ignore[arg-type]


def test_think(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.answers["Think"] = lambda request, context: latent_pb2.ThinkResponse(turn=4, durable=True)
    alice = client.agent("alice")
    thought = alice.think(5, "prose", projection="identity", expect_turn=3)
    alice.think(5, [{"role": "user", "content": "Hi"}])
    alice.think(5, token_ids=[1])
    alice.think(5)
    assert (thought.turn, thought.durable, thought.request_id) == (4, True, daemon.seen[0].request_id)
    assert [request.input.WhichOneof("content") for request in daemon.seen] == ["text", "chat", "token_ids", None]
    assert [request.HasField("input") for request in daemon.seen] == [True, True, True, False]
    assert daemon.seen[0].projection == latent_pb2.PROJECTION_IDENTITY
    with pytest.raises(InvalidRequest):
        alice.think(5, projection="none")  # type: ignore[arg-type]


@pytest.mark.parametrize("leave", ["cancel", "exit"])
def test_cancelling_a_stream_reaches_the_daemon(daemon: ScriptedDaemon, client: Client, leave: str) -> None:
    gone = threading.Event()

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(gone.set)
        yield opening()
        yield delta("a")
        gone.wait(5)

    daemon.answers["Generate"] = answer
    with client.agent("alice").chat("Hi", stream=True) as stream:
        assert next(stream).text == "a"
        if leave == "cancel":
            stream.cancel()
            assert list(stream) == []
            with pytest.raises(errors.Cancelled):
                _ = stream.result
            assert stream.text == "a"
    assert gone.wait(5)


def test_an_error_in_mid_stream_is_raised_once_and_kept(daemon: ScriptedDaemon, client: Client) -> None:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        yield opening()
        yield delta("a")
        fail(context, "UNAVAILABLE", "SHUTTING_DOWN", "Stopping.")

    daemon.answers["Generate"] = answer
    stream = client.agent("alice").chat("Hi", stream=True)
    assert next(stream).text == "a"
    with pytest.raises(Unavailable, match="Stopping"):
        next(stream)
    assert list(stream) == []
    with pytest.raises(Unavailable):
        _ = stream.result
    assert len(daemon.seen) == 1, "a stream that has begun is never sent again"


def test_a_stream_without_its_last_message_is_an_error(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.answers["Generate"] = lambda request, context: [opening(), delta("a")]
    with pytest.raises(InternalError, match="final message"):
        client.agent("alice").chat("Hi")


def test_a_lost_call_is_repeated_with_the_same_request_id(daemon: ScriptedDaemon, client: Client) -> None:
    def busy_twice(result: Any) -> Any:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            if len(daemon.seen) < 3:
                fail(context, "UNAVAILABLE", "MODEL_LOADING", "Not yet.")
            return result

        return answer

    daemon.answers["Append"] = busy_twice(generation_pb2.AppendResponse(turn=1))
    daemon.answers["Generate"] = busy_twice(say("a"))
    for send in (client.agent("alice").append, client.agent("alice").chat):
        daemon.seen.clear()
        assert send("Hi").turn == 1
        assert len(daemon.seen) == 3
        assert len({request.request_id for request in daemon.seen}) == 1
        assert daemon.seen[0].request_id


def test_a_daemon_that_stays_unavailable_is_given_up_on(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.answers["GetStats"] = lambda request, context: fail(context, "UNAVAILABLE", "MODEL_LOADING", "Not yet.")
    with pytest.raises(Unavailable) as caught:
        client.stats()
    assert not isinstance(caught.value, DaemonNotRunning)
    assert caught.value.reason == "MODEL_LOADING"
    assert len(daemon.seen) == 4


def test_a_restarted_daemon_is_found_again_with_its_new_token(daemon: ScriptedDaemon) -> None:
    daemon.answers["GetStats"] = lambda request, context: admin_pb2.GetStatsResponse(agents=1)
    with Client(socket=daemon.socket) as client:
        assert client.stats().agents == 1
        daemon.stop()
        with pytest.raises(DaemonNotRunning):
            client.stats()
        successor = ScriptedDaemon(daemon.socket, token="another-token")
        successor.answers["GetStatus"] = lambda request, context: admin_pb2.GetStatusResponse(phase="SERVING")
        successor.start()
        client.wait_until_ready(5)
        successor.stop()


def test_deadlines(daemon: ScriptedDaemon, client: Client) -> None:
    limits: list[float] = []

    def slow(request: Any, context: grpc.ServicerContext) -> Any:
        limits.append(context.time_remaining())
        yield opening()
        time.sleep(0.4)

    daemon.answers["Generate"] = slow
    with pytest.raises(DeadlineExceeded, match="longer than its timeout"):
        client.agent("alice").chat("Hi", timeout=0.2)
    assert limits[0] < 0.25  # gRPC rounds up

    def note(request: Any, context: grpc.ServicerContext) -> Any:
        limits.append(context.time_remaining())
        return admin_pb2.GetStatsResponse()

    daemon.answers["GetStats"] = note
    client.stats()
    with Client(socket=daemon.socket, timeout=7) as hurried:
        hurried.stats()
        hurried.stats(timeout=2)
    assert [round(limit) for limit in limits[1:]] == [30, 7, 2]


def test_large_messages_pass(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.answers["Append"] = lambda request, context: generation_pb2.AppendResponse(turn=len(request.input.text))
    with pytest.raises(errors.ResourceExhausted):  # the scripted daemon keeps gRPC's limit of 4 MiB
        client.agent("alice").append("x" * (5 << 20))
    assert client.agent("alice").append("x" * (3 << 20)).turn == 3 << 20


def test_agents_come_page_by_page(daemon: ScriptedDaemon, client: Client) -> None:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        page = int(request.page_token or 0)
        agents = [agents_pb2.Agent(ref=types_pb2.AgentRef(name=f"{page}{letter}")) for letter in "ab"]
        return agents_pb2.ListAgentsResponse(agents=agents, next_page_token=str(page + 1) if page < 2 else "")

    daemon.answers["ListAgents"] = answer
    pages = client.agents(hot_only=True, page_size=2)
    assert next(pages).name == "0a"
    assert len(daemon.seen) == 1, "the next page is asked for when it is needed"
    assert [agent.name for agent in pages] == ["0b", "1a", "1b", "2a", "2b"]
    assert all(request.hot_only and request.page_size == 2 for request in daemon.seen)


def test_an_agents_history(daemon: ScriptedDaemon, client: Client) -> None:
    agent = agents_pb2.Agent(ref=types_pb2.AgentRef(name="alice"), turn=1)
    turns = [types_pb2.Turn(number=1), types_pb2.Turn(number=2)]
    daemon.answers |= {
        "CreateAgent": lambda request, context: agents_pb2.CreateAgentResponse(agent=agent),
        "GetAgent": lambda request, context: agents_pb2.GetAgentResponse(agent=agent),
        "ListTurns": lambda request, context: agents_pb2.ListTurnsResponse(turns=turns),
        "ForkAgent": lambda request, context: agents_pb2.ForkAgentResponse(agent=agent, tokens_to_recompute=5),
        "RewindAgent": lambda request, context: agents_pb2.RewindAgentResponse(agent=agent, tokens_to_recompute=3),
        "DeleteAgent": lambda request, context: agents_pb2.DeleteAgentResponse(freed_bytes=99),
    }
    alice = client.agent("alice")
    assert alice.create().name == alice.info().name == "alice"
    assert [turn.number for turn in alice.turns(include_messages=True)] == [1, 2]
    fork = alice.fork("new", at_turn=2)
    assert (fork.name, fork.tokens_to_recompute) == ("new", 5)
    assert alice.rewind(to_turn=1).tokens_to_recompute == 3
    assert alice.delete(expect_turn=1) == 99
    create, _, listing, forking, rewind, delete = daemon.seen
    assert all(request.request_id for request in (create, forking, rewind, delete))
    assert (listing.include_messages, forking.at_turn, rewind.to_turn, delete.expect_turn) == (True, 2, 1, 1)


def test_waiting_for_a_daemon_that_starts_and_loads(socket: Path) -> None:
    daemon = ScriptedDaemon(socket.with_name("late.sock"))
    phases = iter(["LOADING", "LOADING", "SERVING"])
    daemon.answers["GetStatus"] = lambda request, context: admin_pb2.GetStatusResponse(phase=next(phases))
    with Client(socket=daemon.socket) as client:
        starter = threading.Timer(0.2, daemon.start)
        starter.start()
        assert client.wait_until_ready(5).phase == "SERVING"
        starter.join()
        phases = iter(["LOADING"] * 99)
        with pytest.raises(Unavailable, match="LOADING"):
            client.wait_until_ready(0.3)
    daemon.stop()


def test_waiting_in_vain(socket: Path) -> None:
    with Client(socket=socket) as client, pytest.raises(DaemonNotRunning):
        client.wait_until_ready(0.2)

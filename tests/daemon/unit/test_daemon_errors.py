"""Errors reach the caller with a reason, and what is unexpected is logged without what was said."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest
from agentmem_daemon.errors import status_of
from google.rpc import error_details_pb2, status_pb2

from agentmem.errors import AgentmemError, Code, Reason
from agentmem.v1 import agents_pb2, agents_pb2_grpc, generation_pb2, generation_pb2_grpc, types_pb2

ALICE = types_pb2.AgentRef(name="alice")


@pytest.mark.parametrize("code", list(Code))
def test_every_code_is_a_grpc_status(code: Code) -> None:
    assert grpc.StatusCode[code.value].name == code.value


def test_status_details() -> None:
    status = status_of(AgentmemError(Reason.QUEUE_FULL, "Too many wait.", retry_after_s=1.5, queued=3))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert (status.code, status.message) == (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "Too many wait.")
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, info.domain, info.metadata["queued"]) == ("QUEUE_FULL", "agentmem", "3")
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_no_retry_info_where_nothing_says_when() -> None:
    assert len(status_of(AgentmemError(Reason.EMPTY_INPUT, "Nothing.")).details) == 1


def details_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    raw = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status_pb2.Status.FromString(raw).details[0].Unpack(info)
    return info


def test_refusals_arrive_with_reason_and_metadata(served) -> None:
    async def scenario() -> None:
        async with served() as it:
            get_agent = agents_pb2_grpc.AgentServiceStub(it.channel).GetAgent
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await get_agent(agents_pb2.GetAgentRequest(agent=types_pb2.AgentRef(name="é")), metadata=it.metadata)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert caught.value.details() == "There is no agent é."
            info = details_of(caught.value)
            assert (info.reason, info.metadata["agent"]) == ("AGENT_NOT_FOUND", "é")

    asyncio.run(scenario())


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x0a", b"\x0a\x05\x12\x03\xff\xfe\xfd"])
@pytest.mark.parametrize("method", ["AgentService/GetAgent", "GenerationService/Append", "MaintenanceService/Prune"])
def test_bytes_that_are_no_message_are_refused_as_such(served, method: str, data: bytes) -> None:
    async def scenario() -> None:
        async with served() as it:
            send = it.channel.unary_unary(f"/agentmem.v1.{method}")  # no serialiser: raw bytes
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await send(data, metadata=it.metadata)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert details_of(caught.value).reason == "INPUT_INVALID"
            assert it.engine.calls == []

    asyncio.run(scenario())


@pytest.mark.parametrize("stream", [False, True])
def test_unexpected_errors_are_logged_without_their_message(served, caplog, stream: bool) -> None:
    async def scenario() -> None:
        async with served() as it:
            it.engine.refusal = ValueError("MARKER said this")
            if stream:
                generate = generation_pb2_grpc.GenerationServiceStub(it.channel).Generate
                request = generation_pb2.GenerateRequest(agent=ALICE, input=types_pb2.Input(text="MARKER"))
                call = generate(request, metadata=it.metadata).read()
            else:
                get_agent = agents_pb2_grpc.AgentServiceStub(it.channel).GetAgent
                call = get_agent(agents_pb2.GetAgentRequest(agent=ALICE), metadata=it.metadata)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.INTERNAL
            error_id = details_of(caught.value).metadata["error_id"]
            assert error_id in caught.value.details()
            assert error_id in caplog.text
            assert "builtins.ValueError" in caplog.text
            assert "conftest.py" in caplog.text
            assert "MARKER" not in caplog.text + caught.value.details()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())


def test_malformed_calls_do_not_hurt_the_daemon(served, caplog) -> None:
    async def scenario() -> None:
        async with served() as it:
            for method, payload in [
                ("/agentmem.v1.AgentService/GetAgent", b"\xff\xff\xff"),
                # An agent whose name is not UTF-8.
                ("/agentmem.v1.AgentService/GetAgent", b"\x0a\x04\x12\x02\xff\xfe"),
                ("/agentmem.v1.GenerationService/Generate", b"\x1a\x08\x12\x06MARK\xff\xfe"),
                ("/agentmem.v1.AgentService/Nothing", b""),
                ("/nothing", b""),
            ]:
                with pytest.raises(grpc.aio.AioRpcError):
                    await it.channel.unary_unary(method)(payload, metadata=it.metadata)
            get_agent = agents_pb2_grpc.AgentServiceStub(it.channel).GetAgent
            request = agents_pb2.GetAgentRequest(agent=types_pb2.AgentRef(name="agent-1"))
            assert (await get_agent(request, metadata=it.metadata)).agent.id == "agent-1"

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())
    assert "MARK" not in caplog.text

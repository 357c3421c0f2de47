"""Exports and imports: whole, in order, at the slower side's pace, and ended when the caller goes away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from agentmem.engine.status import AgentView
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef, Residency
from agentmem.v1 import agents_pb2, agents_pb2_grpc, types_pb2

ALICE, REF = types_pb2.AgentRef(name="alice"), AgentRef("default", "alice")
VIEW = AgentView(REF, "id", 3, 2, Residency.WARM, True, "s", 1.5, 2.5, 3, 4)
HEADER = agents_pb2.ImportAgentRequest(header=agents_pb2.ImportHeader(agent=ALICE, request_id="r"))
CHUNKS = [b"first", b"x" * 3_000_000, b"last"]


def chunk(data: bytes) -> agents_pb2.ImportAgentRequest:
    return agents_pb2.ImportAgentRequest(chunk=data)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def test_an_export_arrives_whole_in_small_messages(served) -> None:
    async def scenario() -> None:
        async with served() as it:
            it.engine.answers["export_agent"] = lambda ref: iter(CHUNKS)
            call = agents_pb2_grpc.AgentServiceStub(it.channel).ExportAgent
            messages = [m async for m in call(agents_pb2.ExportAgentRequest(agent=ALICE), metadata=it.metadata)]
            assert b"".join(m.chunk for m in messages) == b"".join(CHUNKS)
            assert max(len(m.chunk) for m in messages) <= 1 << 20
            assert it.engine.calls[0][1] == (REF,)

    asyncio.run(scenario())


def test_an_export_that_fails_in_the_middle_is_an_error(served) -> None:
    def export(ref: AgentRef) -> Iterator[bytes]:
        yield b"first"
        raise AgentmemError(Reason.BLOCK_UNRECOVERABLE, "Turn 2 is lost.")

    async def scenario() -> None:
        async with served() as it:
            it.engine.answers["export_agent"] = export
            call = agents_pb2_grpc.AgentServiceStub(it.channel).ExportAgent(
                agents_pb2.ExportAgentRequest(agent=ALICE), metadata=it.metadata
            )
            assert (await call.read()).chunk == b"first"
            assert (await refused(call.read())).code() is grpc.StatusCode.DATA_LOSS

    asyncio.run(scenario())


def test_an_export_nobody_reads_any_more_ends(served) -> None:
    ended = threading.Event()

    def export(ref: AgentRef) -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 1_000_000
        finally:
            ended.set()

    async def scenario() -> None:
        async with served() as it:
            it.engine.answers["export_agent"] = export
            call = agents_pb2_grpc.AgentServiceStub(it.channel).ExportAgent(
                agents_pb2.ExportAgentRequest(agent=ALICE), metadata=it.metadata
            )
            await call.read()
            call.cancel()
            assert await asyncio.to_thread(ended.wait, 5)

    asyncio.run(scenario())


def test_an_import_arrives_whole(served) -> None:
    received: list[bytes] = []

    def take(chunks: Iterator[bytes], *header: object) -> AgentView:
        received.extend(chunks)
        return VIEW

    async def scenario() -> None:
        async with served() as it:
            it.engine.answers["import_agent"] = take
            messages = iter([HEADER, *map(chunk, CHUNKS)])
            answer = await agents_pb2_grpc.AgentServiceStub(it.channel).ImportAgent(messages, metadata=it.metadata)
            assert answer.agent.id == "id"
            assert received == CHUNKS
            assert it.engine.calls[0][1][1:] == ("default", "alice", False, "r")

    asyncio.run(scenario())


def test_an_import_may_be_refused_before_its_end(served) -> None:
    def refuse(chunks: Iterator[bytes], *header: object) -> AgentView:
        next(chunks)
        raise AgentmemError(Reason.IMPORT_INVALID, "This is no export.")

    async def scenario() -> None:
        async with served() as it:
            it.engine.answers["import_agent"] = refuse
            messages = iter([HEADER, *(chunk(b"x" * 1_000_000) for _ in range(100))])
            stub = agents_pb2_grpc.AgentServiceStub(it.channel)
            error = await refused(stub.ImportAgent(messages, metadata=it.metadata))
            assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "This is no export.")

    asyncio.run(scenario())


@pytest.mark.parametrize("messages", [[], [chunk(b"x")], [HEADER, HEADER], [HEADER, b"\xff\xff"], [b"\xff\xff"]])
def test_an_import_out_of_order_is_refused(served, messages: list[Any]) -> None:
    def take(chunks: Iterator[bytes], *header: object) -> AgentView:
        list(chunks)
        return VIEW

    def as_bytes(message: Any) -> bytes:
        return message if isinstance(message, bytes) else message.SerializeToString()

    async def scenario() -> None:
        async with served() as it:
            it.engine.answers["import_agent"] = take
            call = it.channel.stream_unary("/agentmem.v1.AgentService/ImportAgent")
            error = await refused(call(iter(map(as_bytes, messages)), metadata=it.metadata))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert b"INPUT_INVALID" in dict(error.trailing_metadata())["grpc-status-details-bin"]

    asyncio.run(scenario())


def test_a_caller_that_goes_away_never_looks_like_the_end_of_the_file(served) -> None:
    outcome: list[object] = []
    over = threading.Event()

    def take(chunks: Iterator[bytes], *header: object) -> AgentView:
        try:
            outcome.append(list(chunks))
        except AgentmemError as error:
            outcome.append(error.reason)
        finally:
            over.set()
        return VIEW

    async def scenario() -> None:
        async with served() as it:
            it.engine.answers["import_agent"] = take
            call = agents_pb2_grpc.AgentServiceStub(it.channel).ImportAgent(metadata=it.metadata)
            await call.write(HEADER)
            await call.write(chunk(b"half of it"))
            await asyncio.sleep(0.05)
            call.cancel()
            assert await asyncio.to_thread(over.wait, 5)

    asyncio.run(scenario())
    assert outcome == [Reason.REQUEST_CANCELLED]

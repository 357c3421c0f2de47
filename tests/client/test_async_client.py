"""The async twin, over the same scripted daemon."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentmem_client import AsyncClient, DaemonNotRunning, DeadlineExceeded, InvalidRequest, TurnMismatch, errors

from agentmem.v1 import admin_pb2, agents_pb2, generation_pb2, latent_pb2, types_pb2

from .scripted import ScriptedDaemon, delta, fail, opening, say


def using(socket: Path, work: Callable[[AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncClient(socket=socket) as client:
            await work(client)

    asyncio.run(main())


def test_chat_stream_and_append(daemon: ScriptedDaemon) -> None:
    daemon.answers["Generate"] = lambda request, context: say("a", "b")
    daemon.answers["Append"] = lambda request, context: generation_pb2.AppendResponse(turn=2)
    daemon.answers["Splice"] = lambda request, context: latent_pb2.SpliceResponse(turn=4)
    daemon.answers["Think"] = lambda request, context: latent_pb2.ThinkResponse(turn=3)

    async def work(client: AsyncClient) -> None:
        alice = client.agent("alice")
        reply = await alice.chat("Hi")
        assert (reply.text, reply.finish_reason) == ("ab", "STOP")
        stream = alice.chat("Hi", stream=True)
        assert (await stream.wait_started()).turn == 1
        assert [piece.text async for piece in stream] == ["a", "b"]
        assert stream.result.text == stream.text == "ab"
        assert stream.started is not None
        assert (await alice.append("prose")).turn == 2
        assert (await alice.think(3)).turn == 3
        assert (await alice.splice(["doc"], order="canonical")).turn == 4
        assert (await alice.generate(token_ids=[1], max_tokens=2)).text == "ab"

    using(daemon.socket, work)


def test_agents_turns_and_status(daemon: ScriptedDaemon) -> None:
    def listing(request: Any, context: grpc.ServicerContext) -> Any:
        agent = agents_pb2.Agent(ref=types_pb2.AgentRef(name=request.page_token or "first"))
        return agents_pb2.ListAgentsResponse(agents=[agent], next_page_token="" if request.page_token else "second")

    daemon.answers |= {
        "ListAgents": listing,
        "ListTurns": lambda request, context: agents_pb2.ListTurnsResponse(turns=[types_pb2.Turn(number=1)]),
        "ForkAgent": lambda request, context: agents_pb2.ForkAgentResponse(),
        "GetStatus": lambda request, context: admin_pb2.GetStatusResponse(phase="SERVING"),
    }

    async def work(client: AsyncClient) -> None:
        assert (await client.wait_until_ready(5)).phase == "SERVING"
        assert [agent.name async for agent in client.agents()] == ["first", "second"]
        assert [turn.number for turn in await client.agent("alice").turns()] == [1]
        assert (await client.agent("alice").fork("new")).name == "new"

    using(daemon.socket, work)


@pytest.mark.parametrize("leave", ["cancel", "exit", "task"])
def test_cancelling_reaches_the_daemon(daemon: ScriptedDaemon, leave: str) -> None:
    gone = threading.Event()

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(gone.set)
        yield opening()
        yield delta("a")
        gone.wait(5)

    daemon.answers["Generate"] = answer

    async def work(client: AsyncClient) -> None:
        if leave == "task":
            task = asyncio.ensure_future(client.agent("alice").chat("Hi"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            async with client.agent("alice").chat("Hi", stream=True) as stream:
                assert (await anext(stream)).text == "a"
                if leave == "cancel":
                    stream.cancel()
                    assert [piece async for piece in stream] == []
                    with pytest.raises(errors.Cancelled):
                        _ = stream.result
        assert await asyncio.to_thread(gone.wait, 5)

    using(daemon.socket, work)


def test_errors_deadlines_and_retries(daemon: ScriptedDaemon) -> None:
    def once_unavailable(request: Any, context: grpc.ServicerContext) -> Any:
        if len(daemon.seen) < 2:
            fail(context, "UNAVAILABLE", "MODEL_LOADING", "Not yet.")
        return generation_pb2.AppendResponse(turn=1)

    def slow(request: Any, context: grpc.ServicerContext) -> Any:
        yield opening()
        threading.Event().wait(0.4)

    daemon.answers["Append"] = once_unavailable
    daemon.answers["Generate"] = slow
    daemon.answers["GetAgent"] = lambda request, context: fail(context, "ABORTED", "TURN_MISMATCH", "No.", turn="3")

    async def work(client: AsyncClient) -> None:
        alice = client.agent("alice")
        assert (await alice.append("Hi")).turn == 1
        assert len({request.request_id for request in daemon.seen}) == 1
        with pytest.raises(TurnMismatch) as caught:
            await alice.info()
        assert caught.value.metadata == {"turn": "3"}
        with pytest.raises(DeadlineExceeded):
            await alice.chat("Hi", timeout=0.2)
        with pytest.raises(InvalidRequest):
            await alice.chat("\udc00")

    using(daemon.socket, work)


def test_no_daemon_and_a_client_made_outside_of_the_loop(socket: Path) -> None:
    client = AsyncClient(socket=socket)

    async def ask() -> None:
        with pytest.raises(DaemonNotRunning):
            await client.status()
        with pytest.raises(DaemonNotRunning):
            await client.agent("alice").chat("Hi")
        await client.close()

    asyncio.run(ask())

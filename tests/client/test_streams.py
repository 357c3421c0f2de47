"""What becomes of a stream that is not read to its end, of replies and of runs alike."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from agentmem_client import AgentmemError, AsyncClient, Cancelled, Client, StreamUnfinished

from agentmem.v1 import primitives_pb2, types_pb2
from tests.client.scripted import ScriptedDaemon, delta, finish, opening

RUN = [
    primitives_pb2.RunResponse(started=primitives_pb2.RunStarted(plan="{}")),
    *(primitives_pb2.RunResponse(progress=primitives_pb2.RunProgress(agent=agent, activity=3)) for agent in "ab"),
    primitives_pb2.RunResponse(finished=primitives_pb2.RunFinished(text="ab", exactness=types_pb2.EXACTNESS_EXACT)),
]
KINDS = {"Generate": [opening(), delta("a"), delta("b"), finish()], "Run": RUN}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def go_on() -> threading.Event:
    """Set to have the daemon send the last message, too."""
    return threading.Event()


@pytest.fixture
def gone(daemon: ScriptedDaemon, kind: str, go_on: threading.Event) -> threading.Event:
    """Set when the call is over for the daemon."""
    gone = threading.Event()

    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        context.add_callback(gone.set)
        context.add_callback(go_on.set)
        yield from KINDS[kind][:-1]
        go_on.wait(10)
        yield KINDS[kind][-1]

    daemon.answers[kind] = answer
    return gone


def begun(client: Client | AsyncClient, kind: str) -> Any:
    return client.run("who?", stream=True) if kind == "Run" else client.agent("alice").chat("Hi", stream=True)


def test_a_broken_loop_within_a_block_cancels(client: Client, kind: str, gone: threading.Event) -> None:
    with begun(client, kind) as stream:
        for _ in stream:
            break
    assert gone.wait(5)
    for ask in (lambda: stream.result, stream.drain, lambda: stream.result):
        with pytest.raises(Cancelled):
            ask()
    assert list(stream) == []


def test_a_cancelled_stream_has_that_for_a_result_at_once(client: Client, kind: str, gone: threading.Event) -> None:
    stream = begun(client, kind)
    for _ in stream:
        stream.cancel()
        break
    with pytest.raises(Cancelled):
        _ = stream.result
    assert gone.wait(5)


def test_a_broken_loop_may_be_gone_on_with(
    client: Client, kind: str, gone: threading.Event, go_on: threading.Event
) -> None:
    stream = begun(client, kind)
    for _ in stream:
        break
    with pytest.raises(StreamUnfinished, match="cancel") as caught:
        _ = stream.result
    assert isinstance(caught.value, AgentmemError)
    assert isinstance(caught.value, RuntimeError)  # which it used to be
    assert not gone.is_set()
    go_on.set()
    assert len(list(stream)) == 1
    assert stream.result.text == "ab"
    stream.cancel()  # too late
    assert stream.result.text == "ab"


def test_the_async_streams_do_the_same(daemon: ScriptedDaemon, kind: str, gone: threading.Event) -> None:
    async def work() -> None:
        async with AsyncClient(socket=daemon.socket) as client:
            stream = begun(client, kind)
            stream = await stream if kind == "Run" else stream
            async for _ in stream:
                break
            with pytest.raises(StreamUnfinished):
                _ = stream.result
            async with stream:
                async for _ in stream:
                    break
            with pytest.raises(Cancelled):
                _ = stream.result
            assert await asyncio.to_thread(gone.wait, 5)
            with pytest.raises(Cancelled):
                await stream.drain()

    asyncio.run(work())

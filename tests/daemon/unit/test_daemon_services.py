"""Streams, cancellation, listings and phases, over a real server with a stand-in for the engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from agentmem.engine.request import Delta, Failed, Phase, Priority, Started
from agentmem.engine.status import RequestView
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef, FinishReason
from agentmem.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    agents_pb2,
    agents_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    types_pb2,
)

ALICE = types_pb2.AgentRef(name="alice")
HELLO = generation_pb2.GenerateRequest(agent=ALICE, input=types_pb2.Input(text="hello"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def refused(call: object) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value


def test_generate_streams_in_order(served) -> None:
    async def scenario() -> None:
        async with served() as it:
            generate = generation_pb2_grpc.GenerationServiceStub(it.channel).Generate
            messages = [message async for message in generate(HELLO, metadata=it.metadata)]
            assert [m.WhichOneof("event") for m in messages] == ["started", "delta", "delta", "finished"]
            assert "".join(m.delta.text for m in messages) == "Hé!"
            assert not any(m.delta.token_ids for m in messages)
            assert messages[0].started.plan.warm_tokens == 6
            assert messages[-1].finished.durable
            request = generation_pb2.GenerateRequest(include_token_ids=True)
            request.MergeFrom(HELLO)
            messages = [message async for message in generate(request, metadata=it.metadata)]
            assert [i for m in messages for i in m.delta.token_ids] == [1, 2, 3, 4]
            assert not it.engine.cancelled.is_set()

    asyncio.run(scenario())


def test_a_schema_is_compiled_off_the_loop_and_first(served) -> None:
    async def scenario() -> None:
        async with served() as it:
            threads = []
            it.engine.answers["compile_schema"] = lambda schema: threads.append(threading.current_thread())
            request = generation_pb2.GenerateRequest(sampling=generation_pb2.Sampling(json_schema="{}"))
            request.MergeFrom(HELLO)
            generate = generation_pb2_grpc.GenerationServiceStub(it.channel).Generate
            assert [m async for m in generate(request, metadata=it.metadata)]
            assert threads != []
            assert threads != [threading.current_thread()]
            assert it.engine.submitted[0].sampling.json_schema == "{}"

    asyncio.run(scenario())


def test_append_answers_with_the_end(served) -> None:
    async def scenario() -> None:
        async with served() as it:
            append = generation_pb2_grpc.GenerationServiceStub(it.channel).Append
            request = generation_pb2.AppendRequest(agent=ALICE, input=types_pb2.Input(text="hello"))
            answer = await append(request, metadata=it.metadata)
            assert (answer.turn, answer.durable, answer.timings.ttft_s) == (3, True, 0.5)
            assert it.engine.submitted[0].sampling is None

    asyncio.run(scenario())


def test_a_failed_turn_is_an_error(served) -> None:
    async def scenario() -> None:
        async with served() as it:
            sentence = "The context is full."
            it.engine.script = (*it.engine.script[:2], Failed(AgentmemError(Reason.CONTEXT_OVERFLOW, sentence)))
            call = generation_pb2_grpc.GenerationServiceStub(it.channel).Generate(HELLO, metadata=it.metadata)
            assert (await call.read()).WhichOneof("event") == "started"
            assert (await call.read()).delta.text == "Hé"
            error = await refused(call.read())
            assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, sentence)

    asyncio.run(scenario())


@pytest.mark.parametrize("events", [1, 2])
def test_a_client_that_goes_away_cancels_the_turn(served, events: int) -> None:
    async def scenario() -> None:
        async with served() as it:
            it.engine.script = it.engine.script[:events]
            call = generation_pb2_grpc.GenerationServiceStub(it.channel).Generate(HELLO, metadata=it.metadata)
            for _ in range(events):
                await call.read()
            assert not it.engine.cancelled.is_set()
            call.cancel()
            await until(it.engine.cancelled.is_set)
            assert it.engine.cancel_reason is FinishReason.CANCELLED

    asyncio.run(scenario())


def test_a_lost_connection_cancels_the_turn(served) -> None:
    async def scenario() -> None:
        async with served() as it:
            it.engine.script = it.engine.script[:2]
            call = generation_pb2_grpc.GenerationServiceStub(it.channel).Generate(HELLO, metadata=it.metadata)
            await call.read()
            await it.channel.close()
            await until(it.engine.cancelled.is_set)
            assert it.engine.cancel_reason is FinishReason.CANCELLED

    asyncio.run(scenario())


def test_a_client_that_stops_reading_and_goes_cancels_the_turn(served) -> None:
    """The server sits in a blocked write, not in its wait for events."""

    async def scenario() -> None:
        async with served() as it:
            it.engine.script = (it.engine.script[0], *(Delta("x" * 100_000, ()) for _ in range(200)))
            call = generation_pb2_grpc.GenerationServiceStub(it.channel).Generate(HELLO, metadata=it.metadata)
            await call.read()
            await asyncio.sleep(0.05)
            call.cancel()
            await until(it.engine.cancelled.is_set)

    asyncio.run(scenario())


@pytest.mark.parametrize("append", [False, True])
def test_a_passed_deadline_ends_the_turn_as_such(served, append: bool) -> None:
    async def scenario() -> None:
        async with served() as it:
            it.engine.script = it.engine.script[:1]
            stub = generation_pb2_grpc.GenerationServiceStub(it.channel)
            if append:
                request = generation_pb2.AppendRequest(agent=ALICE, input=HELLO.input)
                error = await refused(stub.Append(request, metadata=it.metadata, timeout=0.2))
            else:
                call = stub.Generate(HELLO, metadata=it.metadata, timeout=0.2)
                await call.read()
                error = await refused(call.read())
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await until(it.engine.cancelled.is_set)
            assert it.engine.cancel_reason is FinishReason.DEADLINE

    asyncio.run(scenario())


def test_started_again_when_the_queue_moves(served) -> None:
    async def scenario() -> None:
        async with served() as it:
            first = it.engine.script[0]
            assert isinstance(first, Started)
            it.engine.script = (Started(3, 2, first.plan, "r1"), *it.engine.script)
            generate = generation_pb2_grpc.GenerationServiceStub(it.channel).Generate
            messages = [message async for message in generate(HELLO, metadata=it.metadata)]
            assert [m.started.queue_position for m in messages[:2]] == [2, 0]

    asyncio.run(scenario())


def test_agents_and_turns_come_in_pages(served) -> None:
    async def scenario() -> None:
        async with served() as it:
            stub = agents_pb2_grpc.AgentServiceStub(it.channel)
            names, numbers, token = [], [], ""
            for more in (True, True, False):
                agents = agents_pb2.ListAgentsRequest(page_size=2, page_token=token)
                answer = await stub.ListAgents(agents, metadata=it.metadata)
                names += [agent.ref.name for agent in answer.agents]
                token = answer.next_page_token
                assert bool(token) is more
            for more in (True, True, False):
                turns = agents_pb2.ListTurnsRequest(agent=ALICE, page_size=2, page_token=token)
                listed = await stub.ListTurns(turns, metadata=it.metadata)
                numbers += [turn.number for turn in listed.turns]
                token = listed.next_page_token
                assert bool(token) is more
            assert (names, numbers) == (it.engine.names, [1, 2, 3, 4, 5])
            exact = await stub.ListAgents(agents_pb2.ListAgentsRequest(page_size=5), metadata=it.metadata)
            assert (len(exact.agents), exact.next_page_token) == (5, "")
            nonsense = agents_pb2.ListAgentsRequest(page_token="nonsense")
            assert (await refused(stub.ListAgents(nonsense, metadata=it.metadata))).code() is (
                grpc.StatusCode.INVALID_ARGUMENT
            )

    asyncio.run(scenario())


def test_phases(served) -> None:
    async def scenario() -> None:
        async with served(ready=False) as it:
            admin = admin_pb2_grpc.AdminServiceStub(it.channel)
            generate = generation_pb2_grpc.GenerationServiceStub(it.channel).Generate

            async def health() -> int:
                check = health_pb2_grpc.HealthStub(it.channel).Check
                return (await check(health_pb2.HealthCheckRequest(), metadata=it.metadata)).status

            it.readiness.loading(0.25, "reading weights")
            status = await admin.GetStatus(admin_pb2.GetStatusRequest(), metadata=it.metadata)
            assert (status.phase, status.progress, status.message) == ("LOADING", 0.25, "reading weights")
            assert (status.HasField("model"), status.pid > 0) == (False, True)
            assert await health() == health_pb2.HealthCheckResponse.NOT_SERVING
            error = await refused(generate(HELLO, metadata=it.metadata).read())
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "25%: reading weights" in error.details()

            it.readiness.serving(it.engine, it.engine.model_info())
            await it.server.healthy()
            status = await admin.GetStatus(admin_pb2.GetStatusRequest(), metadata=it.metadata)
            assert (status.phase, status.model.name, status.model.layers[0].last) == ("SERVING", "stand-in", 3)
            assert await health() == health_pb2.HealthCheckResponse.SERVING

            it.readiness.stopping()
            await it.server.unhealthy_for_good()
            status = await admin.GetStatus(admin_pb2.GetStatusRequest(), metadata=it.metadata)
            assert status.phase == "STOPPING"
            assert await health() == health_pb2.HealthCheckResponse.NOT_SERVING
            error = await refused(generate(HELLO, metadata=it.metadata).read())
            assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "The daemon is shutting down.")

    asyncio.run(scenario())


def test_requests_are_listed_even_while_all_threads_are_taken(served) -> None:
    """Whoever wonders why nothing goes on asks just then."""
    views = [
        RequestView(AgentRef("team", "bob"), "r1", Phase.DECODING, 0, Priority.HIGH, 90, 7, 80, 0.5, 1.5, 30),
        RequestView(AgentRef("default", "eve"), "r2", Phase.WAITING_FOR_ROOM, 1, Priority.LOW, 0, 0, 0, 2.5, 0.0, 0),
    ]

    async def scenario() -> None:
        async with served() as it:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
            held = threading.Event()
            busy = asyncio.ensure_future(asyncio.to_thread(held.wait, 10))
            it.engine.answers["requests"] = views
            stub = admin_pb2_grpc.AdminServiceStub(it.channel)
            answer = await stub.ListRequests(admin_pb2.ListRequestsRequest(), metadata=it.metadata, timeout=5)
            held.set()
            await busy
            first, second = answer.requests
            assert (first.agent.namespace, first.agent.name, first.request_id) == ("team", "bob", "r1")
            assert (first.phase, first.queue_position) == (admin_pb2.REQUEST_PHASE_DECODING, 0)
            assert first.priority == types_pb2.PRIORITY_HIGH
            assert (first.tokens_fed, first.tokens_generated, first.prompt_tokens) == (90, 7, 80)
            assert (first.waited_s, first.running_s, first.tokens_prefilled) == (0.5, 1.5, 30)
            assert (second.phase, second.queue_position) == (admin_pb2.REQUEST_PHASE_WAITING_FOR_ROOM, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("enum", [(Phase, admin_pb2.RequestPhase), (Priority, types_pb2.Priority)])
def test_every_word_has_one_in_the_contract(enum) -> None:
    ours, theirs = enum
    names = set(theirs.keys())
    (unset,) = (name for name in names if name.endswith("_UNSPECIFIED"))
    assert {unset.replace("UNSPECIFIED", one.value) for one in ours} == names - {unset}

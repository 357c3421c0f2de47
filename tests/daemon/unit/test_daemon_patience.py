"""A step that takes very long: the daemon says so, says when it has ended, and refuses nobody meanwhile."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable

from agentmem_daemon.patience import Patience
from agentmem_daemon.watchdog import Watchdog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from agentmem.engine.request import Phase, Priority
from agentmem.engine.status import RequestView
from agentmem.types import AgentRef
from agentmem.v1 import admin_pb2, admin_pb2_grpc, generation_pb2, generation_pb2_grpc, types_pb2

LIMIT_S = 0.1
VIEW = RequestView(AgentRef("default", "alice"), "r", Phase.DECODING, 0, Priority.NORMAL, 9, 1, 8, 0.0, 5.0, 8)


class Step:
    """A step as old as the test says."""

    age = 0.0

    def age_s(self) -> float:
        return self.age


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_each_stuck_step_is_told_once_and_so_is_its_end() -> None:
    step, told = Step(), list[object]()
    watchdog = Watchdog(step.age_s, LIMIT_S, told.append, lambda: told.append("goes on"))
    watchdog.start()
    try:
        step.age = LIMIT_S * 0.9
        time.sleep(LIMIT_S)
        assert told == []
        before, step.age = time.time(), 7.0
        until(lambda: len(told) == 1)
        assert before - 7.0 <= told[0] <= time.time() - 7.0  # type: ignore[operator]
        time.sleep(LIMIT_S)
        assert len(told) == 1
        step.age = LIMIT_S * 0.9  # another one has begun meanwhile
        until(lambda: told[1:] == ["goes on"])
        step.age = 0.0
        time.sleep(LIMIT_S)
        assert len(told) == 2
    finally:
        watchdog.stop()
    assert not any(thread.name == "agentmem-watchdog" for thread in threading.enumerate())


def test_health_phase_and_event_follow_the_step(served) -> None:
    async def scenario() -> None:
        async with served() as it:
            step, noted = Step(), list[str]()
            it.engine.step_age_s = step.age_s
            it.engine.answers |= {"requests": [VIEW], "note_stuck": lambda: noted.append("STUCK")}
            it.engine.answers["note_unstuck"] = lambda: noted.append("UNSTUCK")
            admin = admin_pb2_grpc.AdminServiceStub(it.channel)
            check = health_pb2_grpc.HealthStub(it.channel).Check

            async def phase() -> str:
                return (await admin.GetStatus(admin_pb2.GetStatusRequest(), metadata=it.metadata)).phase

            async def health() -> int:
                return (await check(health_pb2.HealthCheckRequest(), metadata=it.metadata)).status

            async def come_to(wanted: str) -> None:
                async with asyncio.timeout(5):
                    while await phase() != wanted:
                        await asyncio.sleep(0.005)

            with Patience(it.engine, it.readiness, it.server, LIMIT_S).watching(asyncio.get_running_loop()):
                assert (await phase(), await health()) == ("SERVING", health_pb2.HealthCheckResponse.SERVING)
                step.age = 7.0
                await come_to("STUCK")
                assert await health() == health_pb2.HealthCheckResponse.NOT_SERVING
                message = (await admin.GetStatus(admin_pb2.GetStatusRequest(), metadata=it.metadata)).message
                assert "longer than 0.1 s (requests that run: 1 DECODING)" in message
                assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", message)
                request = generation_pb2.GenerateRequest(
                    agent=types_pb2.AgentRef(name="bob"), input=types_pb2.Input(text="hello")
                )
                generate = generation_pb2_grpc.GenerationServiceStub(it.channel).Generate
                assert [m async for m in generate(request, metadata=it.metadata)][-1].finished.durable
                step.age = 0.0
                await come_to("SERVING")
                assert await health() == health_pb2.HealthCheckResponse.SERVING
                assert noted == ["STUCK", "UNSTUCK"]

    asyncio.run(scenario())


def test_a_daemon_that_stops_is_never_called_stuck_or_serving(served) -> None:
    async def scenario() -> None:
        async with served() as it:
            assert it.readiness.stuck("one step")
            it.readiness.stopping()
            assert not it.readiness.going_on()
            assert not it.readiness.stuck("one step")
            assert it.readiness.phase.value == "STOPPING"

    asyncio.run(scenario())

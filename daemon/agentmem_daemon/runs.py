"""Runs of agents that work together: what a call asks for, the run on a thread of its own, and what it answers."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.crew import Crew, Given, Progress
from agentmem.primitives.flow import FlowResult, Medium
from agentmem.primitives.flows import FLOWS
from agentmem.primitives.plan import VERSION, Node, Plan
from agentmem.primitives.together import Halt
from agentmem.v1 import primitives_pb2, types_pb2
from agentmem_daemon import requests
from agentmem_daemon.turns import why_ended

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine

RUN_THREADS = 32
"""Runs at a time; more of them wait. A run's thread waits for the engine nearly all the time."""

_PARAMS = ("max_tokens", "latent_steps", "temperature", "rounds", "solvers", "executors")

_threads = ThreadPoolExecutor(RUN_THREADS, "agentmem-run")


@dataclass(frozen=True)
class Order:
    """What is to be run."""

    query: str
    plan: Plan
    given: Given

    @property
    def node(self) -> Node:
        return self.plan.node(self.plan.output)


def order(request: primitives_pb2.RunRequest) -> Order:
    """Raises INPUT_INVALID, EMPTY_INPUT, PLAN_INVALID for parameters out of range, and as `requests` does."""
    if not request.query.strip():
        raise AgentmemError(Reason.EMPTY_INPUT, "The query is empty; there is nothing to work on.")
    kind = requests.primitive(request.primitive) or "answer"
    params: dict[str, Any] = {"medium": requests.medium(request.medium).value}
    params |= {name: getattr(request, name) for name in _PARAMS if request.HasField(name)}
    node = {"id": kind, "type": kind, "params": params, "inputs": []}
    given = Given(
        namespace=requests.namespace(request.namespace),
        agent=requests.agent_name(request.agent) if request.agent else None,
        context=request.context,
        seed=request.seed if request.HasField("seed") else secrets.randbits(63),
        priority=requests.priority(request.priority),
    )
    plan = {"version": VERSION, "nodes": [node], "output": kind}
    return Order(request.query, Plan.parse(json.dumps(plan)), given)


class RunningOrder:
    """A run on a thread of its own. Used as a context manager: whatever ends the block early cancels the run.

    Iteration yields Progress to the run's end, and raises the AgentmemError of a run that failed. Then there is a
    `result`. What a client does not read waits here, as with turns.
    """

    def __init__(self, engine: Engine, order: Order, context: grpc.aio.ServicerContext) -> None:
        self._context, self._deadline_s = context, context.time_remaining()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Progress | None] = asyncio.Queue()
        self._halt = Halt()
        self._future: Future[FlowResult] = _threads.submit(self._work, engine, order)
        self._future.add_done_callback(lambda _: self._receive(None))

    def _work(self, engine: Engine, order: Order) -> FlowResult:
        """On its thread. Returns or raises when the agents are deleted."""
        node = order.node
        with Crew(engine, order.given, self._halt, self._receive) as crew:
            return FLOWS[node.type](crew, order.query, (), node.params.model_dump(), Medium(node.params.medium))

    def _receive(self, event: Progress | None) -> None:
        with suppress(RuntimeError):  # the loop is closed at the end of a shutdown: nobody listens any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def __aiter__(self) -> AsyncIterator[Progress]:
        while (event := await self._events.get()) is not None:
            yield event
        self._future.result()

    @property
    def result(self) -> FlowResult:
        return self._future.result()

    def __enter__(self) -> RunningOrder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        if error is not None:
            self._halt.cancel(why_ended(self._context, self._deadline_s))


def started(order: Order) -> primitives_pb2.RunResponse:
    return primitives_pb2.RunResponse(started=primitives_pb2.RunStarted(plan=order.plan.json_text()))


def progress(order: Order, event: Progress) -> primitives_pb2.RunResponse:
    activity = primitives_pb2.RunActivity.Value(f"RUN_ACTIVITY_{event.activity.value}")
    return primitives_pb2.RunResponse(
        progress=primitives_pb2.RunProgress(
            node=order.node.id, role=event.role, agent=event.label, activity=activity, text=event.text
        )
    )


def finished(order: Order, result: FlowResult) -> primitives_pb2.RunResponse:
    roles = [
        primitives_pb2.RoleUsage(
            node=order.node.id, **{name: value for name, value in vars(role).items() if name != "calls"}
        )
        for role in result.roles
    ]
    return primitives_pb2.RunResponse(
        finished=primitives_pb2.RunFinished(
            text=result.text,
            exactness=types_pb2.Exactness.Value(f"EXACTNESS_{result.exactness.value}"),
            roles=roles,
            notes=result.notes,
            seconds=result.seconds,
            seed=order.given.seed,
            plan=order.plan.json_text(),
        )
    )

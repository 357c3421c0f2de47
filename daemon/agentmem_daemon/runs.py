"""Runs of agents that work together: what a call asks for, the run on a thread of its own, and what it answers."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives import organizer
from agentmem.primitives.agents import RoleUsage
from agentmem.primitives.crew import Crew, Given, Progress
from agentmem.primitives.library import Library
from agentmem.primitives.organizer import Choice
from agentmem.primitives.plan import VERSION, Plan
from agentmem.primitives.pte import DeviceRatio, cost
from agentmem.primitives.ratio import Ratio
from agentmem.primitives.runner import PlanResult, run_plan
from agentmem.primitives.together import Halt
from agentmem.v1 import primitives_pb2, types_pb2
from agentmem_daemon import knowledge, requests
from agentmem_daemon.turns import why_ended

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine

RUN_THREADS = 32
"""Runs at a time; more of them wait. A run's thread waits for the engine nearly all the time."""
SEEDS_OF_A_NODE = 1000
"""So far apart are the seeds of a plan's nodes, or two that are alike would say the same."""
NOTICED_S = 0.1
"""What took longer is told."""

_PARAMS = ("max_tokens", "latent_steps", "temperature", "rounds", "solvers", "executors")

_threads = ThreadPoolExecutor(RUN_THREADS, "agentmem-run")


@dataclass(frozen=True)
class Order:
    """What is to be run. plan: None leaves it to the organizer, who may ask the model.

    params: for all nodes that have them.
    """

    query: str
    given: Given
    plan: Plan | None = None
    why: str = ""
    ask_model: bool = False
    params: dict[str, Any] = field(default_factory=dict)


def order(request: primitives_pb2.RunRequest) -> Order:
    """Raises INPUT_INVALID, EMPTY_INPUT, PLAN_INVALID for parameters out of range, and as `requests` does."""
    if not request.query.strip():
        raise AgentmemError(Reason.EMPTY_INPUT, "The query is empty; there is nothing to work on.")
    kind = requests.primitive(request.primitive)
    if (kind is not None) + bool(request.plan) + request.ask_model > 1:
        raise AgentmemError(Reason.INPUT_INVALID, "Give one of primitive, plan and ask_model at most.")
    medium = requests.medium(request.medium)
    params: dict[str, Any] = {} if medium is None else {"medium": medium.value}
    params |= {name: getattr(request, name) for name in _PARAMS if request.HasField(name)}
    given = Given(
        namespace=requests.namespace(request.namespace),
        agent=requests.agent_name(request.agent) if request.agent else None,
        context=request.context,
        seed=request.seed if request.HasField("seed") else secrets.randbits(63),
        priority=requests.priority(request.priority),
    )
    if kind is not None:
        node = {"id": kind, "type": kind, "params": params, "inputs": []}
        plan = Plan.parse(json.dumps({"version": VERSION, "nodes": [node], "output": kind}))
        return Order(request.query, given, plan, "you asked for it")
    if request.plan:
        plan = organizer.changed(Plan.parse(request.plan), params)
        return Order(request.query, given, plan, "it is the plan that you gave")
    organizer.changed(organizer.DEFAULT, params)  # what is out of range is refused before work starts
    return Order(request.query, given, ask_model=request.ask_model, params=params)


@dataclass(frozen=True)
class NodeProgress:
    """What an agent of a plan's node does."""

    node: str
    progress: Progress


@dataclass(frozen=True)
class Outcome:
    """organizing: what the plan itself cost. ratio: None where it has not been measured. seconds: by the clock."""

    choice: Choice
    result: PlanResult
    organizing: tuple[RoleUsage, ...]
    ratio: DeviceRatio | None
    notes: tuple[str, ...]
    seconds: float


class RunningOrder:
    """A run on a thread of its own. Used as a context manager: whatever ends the block early cancels the run.

    Iteration yields the Choice of a plan, then NodeProgress to the run's end, and raises the AgentmemError of a run
    that failed. Then there is an `outcome`. What a client does not read waits here, as with turns.
    """

    def __init__(
        self, engine: Engine, library: Library, ratio: Ratio, order: Order, context: grpc.aio.ServicerContext
    ) -> None:
        self._engine, self._library, self._ratio, self._order = engine, library, ratio, order
        self._context, self._deadline_s = context, context.time_remaining()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Choice | NodeProgress | None] = asyncio.Queue()
        self._halt = Halt()
        self._future: Future[Outcome] = _threads.submit(self._work)
        self._future.add_done_callback(lambda _: self._receive(None))

    def _work(self) -> Outcome:
        """On its thread. Returns or raises when the agents are deleted."""
        began = time.monotonic()
        choice, organizing = self._choose()
        self._receive(choice)
        places = {node.id: place for place, node in enumerate(choice.plan.nodes)}
        result = run_plan(
            choice.plan, self._order.query, lambda node: self._crew(node.id, places[node.id]), self._halt.cancel
        )
        ended = time.monotonic()
        ratio = self._ratio.get(self._halt)
        notes = [choice.fallback] if choice.fallback else []
        if ratio is not None and (took := time.monotonic() - ended) > NOTICED_S:
            notes.append(f"What decoding costs on this device was measured behind the run, once: {took:.1f} s.")
        return Outcome(choice, result, organizing, ratio, (*notes, *result.notes), ended - began)

    def _choose(self) -> tuple[Choice, tuple[RoleUsage, ...]]:
        """And what choosing cost."""
        order = self._order
        if order.plan is not None:
            return organizer.given(order.plan, order.why), ()
        crew = Crew(self._engine, replace(order.given, agent=None, context=""), self._halt) if order.ask_model else None
        with crew or nullcontext():
            choice = organizer.choose(
                order.query, lambda query, k: self._library.do(lambda pool: pool.nearest(query, k)), crew
            )
        self._halt.check()
        plan = organizer.changed(choice.plan, order.params)
        return replace(choice, plan=plan), tuple(crew.roles()) if crew else ()

    def _crew(self, node: str, place: int) -> Crew:
        given = self._order.given
        seed = (given.seed + SEEDS_OF_A_NODE * place) % 2**64

        def tell(progress: Progress) -> None:
            self._receive(NodeProgress(node, progress))

        return Crew(self._engine, replace(given, seed=seed), self._halt, tell)

    def _receive(self, event: Choice | NodeProgress | None) -> None:
        with suppress(RuntimeError):  # the loop is closed at the end of a shutdown: nobody listens any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def __aiter__(self) -> AsyncIterator[Choice | NodeProgress]:
        while (event := await self._events.get()) is not None:
            yield event
        self._future.result()

    @property
    def outcome(self) -> Outcome:
        return self._future.result()

    def __enter__(self) -> RunningOrder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        if error is not None:
            self._halt.cancel(why_ended(self._context, self._deadline_s))


def event(one: Choice | NodeProgress) -> primitives_pb2.RunResponse:
    if isinstance(one, Choice):
        return primitives_pb2.RunResponse(started=_started(one))
    progress = one.progress
    activity = primitives_pb2.RunActivity.Value(f"RUN_ACTIVITY_{progress.activity.value}")
    return primitives_pb2.RunResponse(
        progress=primitives_pb2.RunProgress(
            node=one.node, role=progress.role, agent=progress.label, activity=activity, text=progress.text
        )
    )


def _started(choice: Choice) -> primitives_pb2.RunStarted:
    return primitives_pb2.RunStarted(
        plan=choice.plan.json_text(),
        why=choice.why,
        source=primitives_pb2.PlanSource.Value(f"PLAN_SOURCE_{choice.source.value}"),
        entry_id=choice.entry_id,
        nearest=[knowledge.entry(match.entry, match.similarity) for match in choice.matches],
        fallback=choice.fallback,
    )


def finished(order: Order, outcome: Outcome) -> primitives_pb2.RunResponse:
    ratio = outcome.ratio
    roles = _roles("", outcome.organizing, ratio)
    for node, result in outcome.result.nodes.items():
        roles += _roles(node, result.roles, ratio)
    return primitives_pb2.RunResponse(
        finished=primitives_pb2.RunFinished(
            text=outcome.result.text,
            exactness=types_pb2.Exactness.Value(f"EXACTNESS_{outcome.result.exactness.value}"),
            roles=roles,
            notes=outcome.notes,
            seconds=outcome.seconds,
            seed=order.given.seed,
            plan=outcome.choice.plan.json_text(),
            entry_id=outcome.choice.entry_id,
        )
    )


def _roles(node: str, roles: Sequence[RoleUsage], ratio: DeviceRatio | None) -> list[primitives_pb2.RoleUsage]:
    return [
        primitives_pb2.RoleUsage(
            node=node,
            pte=None if ratio is None else cost(role.calls, ratio).total,
            **{name: value for name, value in vars(role).items() if name != "calls"},
        )
        for role in roles
    ]

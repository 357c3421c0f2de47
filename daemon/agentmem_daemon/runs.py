"""Runs of agents that work together: on a thread of their own, between the organizer, the engine and a gRPC call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

import grpc

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives import organizer
from agentmem.primitives.agents import RoleUsage
from agentmem.primitives.crew import Crew, Progress
from agentmem.primitives.knowledge import Match
from agentmem.primitives.library import Library
from agentmem.primitives.organizer import Choice
from agentmem.primitives.plan import Node
from agentmem.primitives.pte import DeviceRatio
from agentmem.primitives.ratio import Ratio
from agentmem.primitives.runner import PlanResult, run_plan
from agentmem.primitives.together import Halt
from agentmem_daemon.orders import Order
from agentmem_daemon.traces import Traces
from agentmem_daemon.turns import why_ended

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine

RUN_THREADS = 32
"""Runs at a time; more of them wait. A run's thread waits for the engine nearly all the time."""
SEEDS = 32
"""Apart are those of two nodes of a plan: no node needs as many."""

NOTICED_S = 0.1
"""What took longer is told."""

_threads = ThreadPoolExecutor(RUN_THREADS, "agentmem-run")


@dataclass(frozen=True)
class NodeProgress:
    """node: its id in the plan."""

    node: str
    progress: Progress


@dataclass(frozen=True)
class Outcome:
    """organizing: what choosing the plan took of agents. ratio: None where it isn't known.

    seconds: by the clock, organizing included.
    """

    choice: Choice
    result: PlanResult
    organizing: tuple[RoleUsage, ...]
    ratio: DeviceRatio | None
    seconds: float
    notes: tuple[str, ...] = ()


class RunningOrder:
    """A run on a thread of its own. Used as a context manager: whatever ends the block early cancels the run.

    Iteration yields the Choice of a plan and the progress of its nodes to the run's end, and raises the AgentmemError
    of a run that failed. Then there is an `outcome`. What a client does not read waits here, as with turns.
    """

    def __init__(
        self,
        engine: Engine,
        library: Library,
        ratio: Ratio,
        order: Order,
        context: grpc.aio.ServicerContext,
        traces: Traces,
    ) -> None:
        self._engine, self._library, self._ratio, self._order = engine, library, ratio, order
        self._context, self._deadline_s = context, context.time_remaining()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Choice | NodeProgress | None] = asyncio.Queue()
        self._halt = Halt()
        self._trace = traces.begin_run(order, context.invocation_metadata() or ())
        self._future: Future[Outcome] = _threads.submit(self._work)
        self._future.add_done_callback(self._end)

    def stop(self) -> Future[Outcome]:
        """Ends the run, since the daemon stops. Returns what is done once its agents are deleted."""
        self._halt.cancel(error=AgentmemError(Reason.SHUTTING_DOWN, "The daemon is shutting down.", retry_after_s=1))
        return self._future

    def _work(self) -> Outcome:
        """On its thread. Returns or raises when the agents are deleted."""
        began = time.monotonic()
        choice, organizing = self._chosen()
        self._receive(choice)
        seeds = {node.id: number * SEEDS for number, node in enumerate(choice.plan.nodes)}

        def crew(node: Node) -> Crew:
            self._trace.node(node.id)
            given = replace(self._order.given, seed=self._order.given.seed + seeds[node.id])
            return Crew(self._engine, given, self._halt, partial(self._progress, node.id))

        result = run_plan(choice.plan, self._order.query, crew, self._halt.cancel)
        ended = time.monotonic()
        ratio = self._ratio.get(self._halt)
        took = time.monotonic() - ended
        note = f"What decoding costs on this device was measured behind the run, once: it took {took:.1f} s."
        notes = (note,) if ratio and took > NOTICED_S else ()
        return Outcome(choice, result, organizing, ratio, ended - began, notes)

    def _chosen(self) -> tuple[Choice, tuple[RoleUsage, ...]]:
        order = self._order
        if order.plan is not None:
            return organizer.given(order.fitted(order.plan), ""), ()

        def nearest(query: str, k: int) -> list[Match]:
            return self._library.do(lambda pool: pool.nearest(query, k))

        organizing: tuple[RoleUsage, ...] = ()
        if order.compose:
            # It needs only the query. What it does is not told: the choice is what a run begins with.
            with Crew(self._engine, replace(order.given, agent=None, context=""), self._halt) as crew:
                choice = organizer.choose(order.query, nearest, crew)
                organizing = tuple(crew.roles())
        else:
            choice = organizer.choose(order.query, nearest)
        return order.settled(choice), organizing

    def _end(self, future: Future[Outcome]) -> None:
        try:
            self._trace.end(future.exception() or future.result())
        finally:
            self._receive(None)

    def _progress(self, node: str, progress: Progress) -> None:
        self._receive(NodeProgress(node, progress))

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

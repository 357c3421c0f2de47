"""Primitives: agents that work on a query together, and the knowledge of which way suits what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

import grpc

from agentmem.primitives.knowledge import KnowledgePool
from agentmem.primitives.library import Library
from agentmem.primitives.organizer import Choice
from agentmem.primitives.ratio import Ratio
from agentmem.v1 import primitives_pb2, primitives_pb2_grpc
from agentmem_daemon import knowledge, orders
from agentmem_daemon.readiness import Readiness
from agentmem_daemon.runs import RunningOrder
from agentmem_daemon.traces import Traces

Context: TypeAlias = grpc.aio.ServicerContext
T = TypeVar("T")


class PrimitivesService(primitives_pb2_grpc.PrimitivesServiceServicer):
    def __init__(self, readiness: Readiness, library: Library, folder: Path, traces: Traces) -> None:
        """folder: where what is measured of the device is kept."""
        self._readiness, self._library, self._folder, self._traces = readiness, library, folder, traces
        self._ratio: Ratio | None = None
        self._running: set[RunningOrder] = set()

    async def Run(self, request: primitives_pb2.RunRequest, context: Context) -> None:
        order, engine = orders.order(request), self._readiness.engine
        if self._ratio is None:
            self._ratio = Ratio(engine, self._folder)
        with RunningOrder(engine, self._library, self._ratio, order, context, self._traces) as run:
            self._running.add(run)
            try:
                async for event in run:
                    message = orders.started(event) if isinstance(event, Choice) else orders.progress(event)
                    await context.write(message)
                await context.write(orders.finished(order, run.outcome))
            finally:
                self._running.discard(run)

    async def stop_runs(self, grace_s: float) -> None:
        """Ends what runs, and waits so many seconds at most for its agents to be deleted. Nothing new may begin."""
        if ending := [asyncio.wrap_future(run.stop()) for run in self._running]:
            await asyncio.wait([asyncio.gather(*ending, return_exceptions=True)], timeout=grace_s)

    async def ListPool(
        self, request: primitives_pb2.ListPoolRequest, context: Context
    ) -> primitives_pb2.ListPoolResponse:
        return await self._ask(self._library.do, lambda pool: knowledge.listed(pool, request))

    async def RecordOutcome(
        self, request: primitives_pb2.RecordOutcomeRequest, context: Context
    ) -> primitives_pb2.RecordOutcomeResponse:
        return await self._ask(self._library.learn, lambda pool: knowledge.recorded(pool, request))

    async def ForgetOutcome(
        self, request: primitives_pb2.ForgetOutcomeRequest, context: Context
    ) -> primitives_pb2.ForgetOutcomeResponse:
        forgotten = await self._ask(self._library.do, lambda pool: pool.forget(request.entry_id))
        return primitives_pb2.ForgetOutcomeResponse(forgotten=forgotten)

    async def ExportPool(self, request: primitives_pb2.ExportPoolRequest, context: Context) -> None:
        lines = await self._ask(self._library.do, lambda pool: pool.export_lines())
        for piece in knowledge.pieces(lines):
            await context.write(primitives_pb2.ExportPoolResponse(chunk=piece))

    async def ImportPool(
        self, stream: AsyncIterator[primitives_pb2.ImportPoolRequest | None], context: Context
    ) -> primitives_pb2.ImportPoolResponse:
        lines = await knowledge.lines(stream)
        changed = await self._ask(self._library.learn, lambda pool: pool.import_lines(lines))
        return primitives_pb2.ImportPoolResponse(changed=changed)

    async def _ask(self, how: Callable[[Callable[[KnowledgePool], T]], T], function: Callable[[KnowledgePool], T]) -> T:
        """What the function makes of the pool, once the daemon serves: its folder may not be there before."""
        _ = self._readiness.engine
        return await asyncio.to_thread(how, function)

"""Primitives: agents that work on a query together."""

from __future__ import annotations

from typing import TypeAlias

import grpc

from agentmem.v1 import primitives_pb2, primitives_pb2_grpc
from agentmem_daemon import runs
from agentmem_daemon.readiness import Readiness

Context: TypeAlias = grpc.aio.ServicerContext


class PrimitivesService(primitives_pb2_grpc.PrimitivesServiceServicer):
    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def Run(self, request: primitives_pb2.RunRequest, context: Context) -> None:
        order = runs.order(request)
        with runs.RunningOrder(self._readiness.engine, order, context) as run:
            await context.write(runs.started(order))
            async for event in run:
                await context.write(runs.progress(order, event))
            await context.write(runs.finished(order, run.result))

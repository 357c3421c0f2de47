"""Latent sharing: thoughts and splices."""

from __future__ import annotations

from typing import TypeAlias

import grpc

from agentmem.v1 import latent_pb2, latent_pb2_grpc
from agentmem_daemon import responses, turn_requests
from agentmem_daemon.readiness import Readiness
from agentmem_daemon.traces import Traces
from agentmem_daemon.turns import RunningTurn

Context: TypeAlias = grpc.aio.ServicerContext


class LatentService(latent_pb2_grpc.LatentServiceServicer):
    def __init__(self, readiness: Readiness, traces: Traces) -> None:
        self._readiness, self._traces = readiness, traces

    async def Think(self, request: latent_pb2.ThinkRequest, context: Context) -> latent_pb2.ThinkResponse:
        turn_request = turn_requests.think_request(request)
        with RunningTurn(self._readiness.engine, turn_request, context, self._traces) as turn:
            return responses.think_response(await turn.last())

    async def Splice(self, request: latent_pb2.SpliceRequest, context: Context) -> latent_pb2.SpliceResponse:
        turn_request = turn_requests.splice_request(request)
        with RunningTurn(self._readiness.engine, turn_request, context, self._traces) as turn:
            return responses.splice_response(await turn.last())

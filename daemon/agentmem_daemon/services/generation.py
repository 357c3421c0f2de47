"""Generation: turns, streamed and not."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import grpc

from agentmem.v1 import generation_pb2, generation_pb2_grpc
from agentmem_daemon import responses, turn_requests
from agentmem_daemon.readiness import Readiness
from agentmem_daemon.traces import Traces
from agentmem_daemon.turns import RunningTurn

Context: TypeAlias = grpc.aio.ServicerContext


class GenerationService(generation_pb2_grpc.GenerationServiceServicer):
    def __init__(self, readiness: Readiness, traces: Traces) -> None:
        self._readiness, self._traces = readiness, traces

    async def Generate(self, request: generation_pb2.GenerateRequest, context: Context) -> None:
        turn_request, engine = turn_requests.generate_request(request), self._readiness.engine
        if schema := request.sampling.json_schema:  # here it would keep the loop from others
            await asyncio.to_thread(engine.compile_schema, schema)
        with RunningTurn(engine, turn_request, context, self._traces) as turn:
            async for event in turn:
                message = responses.generate_event(event, request.include_token_ids)
                if message is not None:
                    await context.write(message)

    async def Append(self, request: generation_pb2.AppendRequest, context: Context) -> generation_pb2.AppendResponse:
        turn_request = turn_requests.append_request(request)
        with RunningTurn(self._readiness.engine, turn_request, context, self._traces) as turn:
            return responses.append_response(await turn.last())

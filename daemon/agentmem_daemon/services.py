"""The three services: validate, ask the engine, answer. Errors are raised; the interceptor sends them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TypeAlias

import grpc

from agentmem import __version__
from agentmem.errors import AgentmemError, Reason
from agentmem.v1 import admin_pb2, admin_pb2_grpc, agents_pb2, agents_pb2_grpc, generation_pb2, generation_pb2_grpc
from agentmem_daemon import paging, requests, responses
from agentmem_daemon.readiness import Readiness
from agentmem_daemon.turns import RunningTurn

Context: TypeAlias = grpc.aio.ServicerContext


class AgentService(agents_pb2_grpc.AgentServiceServicer):
    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def CreateAgent(
        self, request: agents_pb2.CreateAgentRequest, context: Context
    ) -> agents_pb2.CreateAgentResponse:
        ref, request_id = requests.agent_ref(request.agent), requests.request_id(request.request_id)
        view = await asyncio.to_thread(self._readiness.engine.create_agent, ref, request_id)
        return agents_pb2.CreateAgentResponse(agent=responses.agent(view))

    async def GetAgent(self, request: agents_pb2.GetAgentRequest, context: Context) -> agents_pb2.GetAgentResponse:
        ref = requests.agent_ref(request.agent)
        view = await asyncio.to_thread(self._readiness.engine.get_agent, ref)
        return agents_pb2.GetAgentResponse(agent=responses.agent(view))

    async def ListAgents(
        self, request: agents_pb2.ListAgentsRequest, context: Context
    ) -> agents_pb2.ListAgentsResponse:
        namespace, limit = requests.namespace(request.namespace), paging.page_limit(request.page_size)
        listing = ("agents", namespace)
        after = paging.last_key(listing, request.page_token)
        engine = self._readiness.engine
        # One more than asked for tells whether there is another page.
        views = await asyncio.to_thread(engine.list_agents, namespace, after, limit + 1, request.hot_only)
        more = len(views) > limit
        return agents_pb2.ListAgentsResponse(
            agents=[responses.agent(view) for view in views[:limit]],
            next_page_token=paging.page_token(listing, views[limit - 1].ref.name) if more else "",
        )

    async def DeleteAgent(
        self, request: agents_pb2.DeleteAgentRequest, context: Context
    ) -> agents_pb2.DeleteAgentResponse:
        ref, request_id = requests.agent_ref(request.agent), requests.request_id(request.request_id)
        engine, expect_turn = self._readiness.engine, requests.expect_turn(request)
        freed = await asyncio.to_thread(engine.delete_agent, ref, request_id, expect_turn)
        return agents_pb2.DeleteAgentResponse(freed_bytes=freed)

    async def ForkAgent(self, request: agents_pb2.ForkAgentRequest, context: Context) -> agents_pb2.ForkAgentResponse:
        requests.agent_ref(request.agent)
        requests.agent_name(request.new_name)
        requests.request_id(request.request_id)
        raise AgentmemError(Reason.NOT_IMPLEMENTED, "This daemon cannot fork agents yet.")

    async def RewindAgent(
        self, request: agents_pb2.RewindAgentRequest, context: Context
    ) -> agents_pb2.RewindAgentResponse:
        requests.agent_ref(request.agent)
        requests.request_id(request.request_id)
        raise AgentmemError(Reason.NOT_IMPLEMENTED, "This daemon cannot rewind agents yet.")

    async def ListTurns(self, request: agents_pb2.ListTurnsRequest, context: Context) -> agents_pb2.ListTurnsResponse:
        ref, limit = requests.agent_ref(request.agent), paging.page_limit(request.page_size)
        listing = ("turns", ref.namespace, ref.name)
        after = paging.last_number(listing, request.page_token)
        turns = await asyncio.to_thread(self._readiness.engine.list_turns, ref, after, limit + 1)
        more = len(turns) > limit
        return agents_pb2.ListTurnsResponse(
            turns=[responses.turn(turn, request.include_messages) for turn in turns[:limit]],
            next_page_token=paging.page_token(listing, str(turns[limit - 1].number)) if more else "",
        )


class GenerationService(generation_pb2_grpc.GenerationServiceServicer):
    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def Generate(self, request: generation_pb2.GenerateRequest, context: Context) -> None:
        turn_request = requests.generate_request(request)
        with RunningTurn(self._readiness.engine, turn_request, context) as turn:
            async for event in turn:
                message = responses.generate_event(event, request.include_token_ids)
                if message is not None:
                    await context.write(message)

    async def Append(self, request: generation_pb2.AppendRequest, context: Context) -> generation_pb2.AppendResponse:
        turn_request = requests.append_request(request)
        with RunningTurn(self._readiness.engine, turn_request, context) as turn:
            return responses.append_response(await turn.last())


class AdminService(admin_pb2_grpc.AdminServiceServicer):
    def __init__(self, readiness: Readiness, state_dir: Path) -> None:
        self._readiness = readiness
        self._state_dir = state_dir

    async def GetStatus(self, request: admin_pb2.GetStatusRequest, context: Context) -> admin_pb2.GetStatusResponse:
        """Answers in every phase, and never asks the engine."""
        now = self._readiness
        response = admin_pb2.GetStatusResponse(
            version=__version__,
            phase=now.phase.value,
            progress=now.progress,
            message=now.message,
            model=responses.model_info(now.model) if now.model else None,
            state_dir=str(self._state_dir),
            pid=os.getpid(),
        )
        response.uptime.FromMilliseconds(round(now.uptime_s * 1000))
        return response

    async def GetStats(self, request: admin_pb2.GetStatsRequest, context: Context) -> admin_pb2.GetStatsResponse:
        return responses.stats(await asyncio.to_thread(self._readiness.engine.stats))

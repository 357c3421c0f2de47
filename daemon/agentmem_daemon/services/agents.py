"""Agents: to make, list, fork, rewind, keep, move and forget them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from agentmem.v1 import agents_pb2, agents_pb2_grpc
from agentmem_daemon import paging, requests, responses
from agentmem_daemon.readiness import Readiness
from agentmem_daemon.transfer import Incoming, pieces

Context: TypeAlias = grpc.aio.ServicerContext


class AgentService(agents_pb2_grpc.AgentServiceServicer):
    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def CreateAgent(
        self, request: agents_pb2.CreateAgentRequest, context: Context
    ) -> agents_pb2.CreateAgentResponse:
        ref, request_id = requests.agent_ref(request.agent), requests.request_id(request.request_id)
        share, ttl_s = requests.share(request.share), requests.ttl(request)
        create = self._readiness.engine.create_agent
        view = await asyncio.to_thread(create, ref, request_id, share=share, ttl_s=ttl_s, pinned=request.pinned)
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
        freed = await asyncio.to_thread(engine.delete_agent, ref, request_id, expect_turn, request.dry_run)
        return agents_pb2.DeleteAgentResponse(freed_bytes=freed)

    async def ForkAgent(self, request: agents_pb2.ForkAgentRequest, context: Context) -> agents_pb2.ForkAgentResponse:
        ref, request_id = requests.agent_ref(request.agent), requests.request_id(request.request_id)
        new_name = requests.agent_name(request.new_name)
        at_turn = request.at_turn if request.HasField("at_turn") else None
        engine, expect_turn = self._readiness.engine, requests.expect_turn(request)
        view, cold = await asyncio.to_thread(engine.fork_agent, ref, new_name, at_turn, request_id, expect_turn)
        return agents_pb2.ForkAgentResponse(agent=responses.agent(view), tokens_to_recompute=cold)

    async def RewindAgent(
        self, request: agents_pb2.RewindAgentRequest, context: Context
    ) -> agents_pb2.RewindAgentResponse:
        ref, request_id = requests.agent_ref(request.agent), requests.request_id(request.request_id)
        engine, expect_turn = self._readiness.engine, requests.expect_turn(request)
        view, cold = await asyncio.to_thread(engine.rewind_agent, ref, request.to_turn, request_id, expect_turn)
        return agents_pb2.RewindAgentResponse(agent=responses.agent(view), tokens_to_recompute=cold)

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

    async def DiffAgents(
        self, request: agents_pb2.DiffAgentsRequest, context: Context
    ) -> agents_pb2.DiffAgentsResponse:
        a, b = requests.agent_ref(request.a), requests.agent_ref(request.b)
        return responses.diff(await asyncio.to_thread(self._readiness.engine.diff_agents, a, b))

    async def UpdateAgent(
        self, request: agents_pb2.UpdateAgentRequest, context: Context
    ) -> agents_pb2.UpdateAgentResponse:
        ref = requests.agent_ref(request.agent)
        request_id, expect_turn = requests.request_id(request.request_id), requests.expect_turn(request)
        pinned = request.pinned if request.HasField("pinned") else None
        ttl_s, share = requests.ttl(request), requests.share(request.share)
        update = self._readiness.engine.update_agent
        view = await asyncio.to_thread(update, ref, request_id, expect_turn, pinned=pinned, ttl_s=ttl_s, share=share)
        return agents_pb2.UpdateAgentResponse(agent=responses.agent(view))

    async def EvictAgent(
        self, request: agents_pb2.EvictAgentRequest, context: Context
    ) -> agents_pb2.EvictAgentResponse:
        ref, to = requests.agent_ref(request.agent), requests.evict_to(request.to)
        request_id, expect_turn = requests.request_id(request.request_id), requests.expect_turn(request)
        evict = self._readiness.engine.evict_agent
        return responses.evicted(await asyncio.to_thread(evict, ref, to, request.dry_run, request_id, expect_turn))

    async def PrefetchAgent(
        self, request: agents_pb2.PrefetchAgentRequest, context: Context
    ) -> agents_pb2.PrefetchAgentResponse:
        ref, _ = requests.agent_ref(request.agent), requests.request_id(request.request_id)
        return responses.prefetched(await asyncio.to_thread(self._readiness.engine.prefetch_agent, ref))

    async def ExportAgent(self, request: agents_pb2.ExportAgentRequest, context: Context) -> None:
        ref = requests.agent_ref(request.agent)
        async for piece in pieces(self._readiness.engine.export_agent, ref):
            await context.write(agents_pb2.ExportAgentResponse(chunk=piece))

    async def ImportAgent(
        self, stream: AsyncIterator[agents_pb2.ImportAgentRequest | None], context: Context
    ) -> agents_pb2.ImportAgentResponse:
        async with Incoming(stream) as incoming:
            import_agent = self._readiness.engine.import_agent
            header = requests.import_header(await incoming.first())
            view = await asyncio.to_thread(import_agent, incoming.chunks(), *header)
        return agents_pb2.ImportAgentResponse(agent=responses.agent(view))

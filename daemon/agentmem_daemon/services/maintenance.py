"""Maintenance: what can go, what memory takes on disk, and whether it is intact."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import grpc

from agentmem.v1 import maintenance_pb2, maintenance_pb2_grpc
from agentmem_daemon import paging, requests, responses
from agentmem_daemon.readiness import Readiness

Context: TypeAlias = grpc.aio.ServicerContext


class MaintenanceService(maintenance_pb2_grpc.MaintenanceServiceServicer):
    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def Prune(self, request: maintenance_pb2.PruneRequest, context: Context) -> maintenance_pb2.PruneResponse:
        namespace, what = requests.namespace(request.namespace), requests.prune(request)
        prune = self._readiness.engine.prune
        request_id = requests.request_id(request.request_id)
        pruned = await asyncio.to_thread(prune, namespace, **what, dry_run=request.dry_run, request_id=request_id)
        return maintenance_pb2.PruneResponse(pruned=[responses.pruned(one) for one in pruned])

    async def GetDiskUsage(
        self, request: maintenance_pb2.GetDiskUsageRequest, context: Context
    ) -> maintenance_pb2.GetDiskUsageResponse:
        return responses.disk_usage(await asyncio.to_thread(self._readiness.engine.disk_usage))

    async def Verify(self, request: maintenance_pb2.VerifyRequest, context: Context) -> maintenance_pb2.VerifyResponse:
        namespace = requests.namespace(request.namespace) if request.HasField("namespace") else None
        report = await asyncio.to_thread(self._readiness.engine.verify, namespace, request.repair)
        return responses.verify(report)

    async def ListEvents(
        self, request: maintenance_pb2.ListEventsRequest, context: Context
    ) -> maintenance_pb2.ListEventsResponse:
        namespace, agent, since = requests.events(request)
        listing, limit = ("events", namespace or "", agent or ""), paging.page_limit(request.page_size)
        after = max(paging.last_number(listing, request.page_token), min(request.after, paging.MAX_NUMBER))
        events = await asyncio.to_thread(self._readiness.engine.list_events, namespace, agent, since, after, limit + 1)
        more = len(events) > limit
        return maintenance_pb2.ListEventsResponse(
            events=[responses.event(event) for event in events[:limit]],
            next_page_token=paging.page_token(listing, str(events[limit - 1].number)) if more else "",
        )

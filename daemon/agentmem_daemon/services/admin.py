"""Administration: the daemon's state, and its namespaces."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TypeAlias

import grpc

from agentmem import __version__
from agentmem.v1 import admin_pb2, admin_pb2_grpc
from agentmem_daemon import requests, responses
from agentmem_daemon.readiness import Readiness

Context: TypeAlias = grpc.aio.ServicerContext


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

    async def ListRequests(
        self, request: admin_pb2.ListRequestsRequest, context: Context
    ) -> admin_pb2.ListRequestsResponse:
        """Answers while a step is stuck, too: nothing here waits for the executor."""
        views = self._readiness.engine.requests()
        return admin_pb2.ListRequestsResponse(requests=[responses.request(view) for view in views])

    async def CreateNamespace(
        self, request: admin_pb2.CreateNamespaceRequest, context: Context
    ) -> admin_pb2.CreateNamespaceResponse:
        name, request_id = requests.new_namespace(request.name), requests.request_id(request.request_id)
        await asyncio.to_thread(self._readiness.engine.create_namespace, name, request_id)
        return admin_pb2.CreateNamespaceResponse()

    async def DeleteNamespace(
        self, request: admin_pb2.DeleteNamespaceRequest, context: Context
    ) -> admin_pb2.DeleteNamespaceResponse:
        name, request_id = requests.new_namespace(request.name), requests.request_id(request.request_id)
        delete = self._readiness.engine.delete_namespace
        deleted = await asyncio.to_thread(delete, name, request_id, request.force, request.dry_run)
        return admin_pb2.DeleteNamespaceResponse(agents=deleted.agents, freed_bytes=deleted.freed_bytes)

    async def ListNamespaces(
        self, request: admin_pb2.ListNamespacesRequest, context: Context
    ) -> admin_pb2.ListNamespacesResponse:
        views = await asyncio.to_thread(self._readiness.engine.list_namespaces)
        return admin_pb2.ListNamespacesResponse(namespaces=[responses.namespace(view) for view in views])

"""The gRPC server: our services, standard health and reflection, where it listens, and its limits."""

from __future__ import annotations

from pathlib import Path

import grpc
from agentmem_client.discovery import socket_target
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from agentmem.primitives.library import Library
from agentmem.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    agents_pb2,
    agents_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    latent_pb2,
    latent_pb2_grpc,
    maintenance_pb2,
    maintenance_pb2_grpc,
    primitives_pb2,
    primitives_pb2_grpc,
)
from agentmem_daemon.auth import TokenInterceptor
from agentmem_daemon.errors import ErrorInterceptor, StartError
from agentmem_daemon.readiness import Readiness
from agentmem_daemon.services.admin import AdminService
from agentmem_daemon.services.agents import AgentService
from agentmem_daemon.services.generation import GenerationService
from agentmem_daemon.services.latent import LatentService
from agentmem_daemon.services.maintenance import MaintenanceService
from agentmem_daemon.services.primitives import PrimitivesService
from agentmem_daemon.traces import NoTraces, Traces

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
SERVICES = tuple(
    service.full_name
    for module in (admin_pb2, agents_pb2, generation_pb2, latent_pb2, maintenance_pb2, primitives_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
)
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A second daemon on the same port must fail, not share it.
    ("grpc.so_reuseport", 0),
    # Clients may ping an idle connection, but not more often than this.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


class Server:
    """A grpc.aio server whose health says NOT_SERVING until it is told otherwise."""

    def __init__(
        self,
        readiness: Readiness,
        state_dir: Path,
        token: str,
        traces: Traces | None = None,
        library: Library | None = None,
    ) -> None:
        # The token first: without it a caller does not even learn which methods there are.
        self.grpc = grpc.aio.server(interceptors=[TokenInterceptor(token), ErrorInterceptor()], options=_OPTIONS)
        agents_pb2_grpc.add_AgentServiceServicer_to_server(AgentService(readiness), self.grpc)
        traces = traces or NoTraces()
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(GenerationService(readiness, traces), self.grpc)
        latent_pb2_grpc.add_LatentServiceServicer_to_server(LatentService(readiness, traces), self.grpc)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(AdminService(readiness, state_dir), self.grpc)
        maintenance_pb2_grpc.add_MaintenanceServiceServicer_to_server(MaintenanceService(readiness), self.grpc)
        self._primitives = PrimitivesService(readiness, library or Library(state_dir), state_dir, traces)
        primitives_pb2_grpc.add_PrimitivesServiceServicer_to_server(self._primitives, self.grpc)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self.grpc)

    async def start(self, socket: Path, tcp: tuple[str, int] | None) -> None:
        """Listens on the unix socket and, if `tcp` is a host and a port, there too. Raises StartError."""
        self._listen(socket_target(socket), str(socket))
        if tcp is not None:
            host, port = tcp
            self._listen(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", f"TCP port {port} of {host}")
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self.grpc.start()

    def _listen(self, address: str, words: str) -> None:
        try:
            self.grpc.add_insecure_port(address)
        except RuntimeError as error:
            raise StartError(f"The daemon cannot listen on {words}. Is something else listening there?") from error

    async def healthy(self) -> None:
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def unhealthy(self) -> None:
        """For as long as it takes."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def unhealthy_for_good(self) -> None:
        """The server is about to stop."""
        await self._health.enter_graceful_shutdown()

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
        for name in ("", *SERVICES):
            await self._health.set(name, status)

    async def stop_runs(self, grace_s: float) -> None:
        """Ends runs of agents that work together: they are many turns, and repeated as a whole."""
        await self._primitives.stop_runs(grace_s)

    async def stop(self, grace_s: float) -> None:
        """Refuses new calls, gives running ones `grace_s` seconds, and closes the listeners."""
        await self.grpc.stop(grace_s)

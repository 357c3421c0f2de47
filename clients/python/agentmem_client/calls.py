"""Every RPC as a value: the request, how to read the response, the default deadline. Sync and async send the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

from agentmem.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    agents_pb2,
    agents_pb2_grpc,
    generation_pb2_grpc,
    latent_pb2_grpc,
    maintenance_pb2,
    maintenance_pb2_grpc,
    primitives_pb2_grpc,
    types_pb2,
)
from agentmem_client import choices, convert, files, inputs
from agentmem_client.daemon_types import (
    DeletedNamespace,
    DiskUsage,
    Event,
    Namespace,
    Pruned,
    RunningRequest,
    Stats,
    Status,
    VerifyReport,
)
from agentmem_client.types import AgentInfo, Diff, Evicted, Prefetched, Rewound, Turn

Span = float | timedelta
"""Seconds, or a timedelta."""

T = TypeVar("T")

LOOK_TIMEOUT = 30.0
"""Seconds that a daemon has to answer what it need not work for."""


class Stubs(
    agents_pb2_grpc.AgentServiceStub,
    generation_pb2_grpc.GenerationServiceStub,
    latent_pb2_grpc.LatentServiceStub,
    admin_pb2_grpc.AdminServiceStub,
    maintenance_pb2_grpc.MaintenanceServiceStub,
    primitives_pb2_grpc.PrimitivesServiceStub,
):
    """All methods of all services, by their names, which are unique."""

    def __init__(self, channel: Any) -> None:
        for service in Stubs.__bases__:
            service.__init__(self, channel)  # type: ignore[misc]


@dataclass(frozen=True)
class Call(Generic[T]):
    """A call. request: a message, or for a stream of them what begins it anew at each attempt.

    read: of the response, or of each of a stream. timeout: the default deadline in seconds, None for none.
    """

    method: str
    request: Any
    read: Callable[[Any], T]
    timeout: float | None = LOOK_TIMEOUT

    def begin(self) -> Any:
        """What to send."""
        return self.request() if callable(self.request) else self.request


@dataclass(frozen=True)
class Page(Generic[T]):
    """next_token: empty on the last page."""

    items: tuple[T, ...]
    next_token: str


def first_set(*timeouts: float | None) -> float | None:
    return next((timeout for timeout in timeouts if timeout is not None), None)


def get_agent(ref: types_pb2.AgentRef) -> Call[AgentInfo]:
    return Call("GetAgent", agents_pb2.GetAgentRequest(agent=ref), lambda response: convert.agent(response.agent))


def list_agents(namespace: str, hot_only: bool, page_size: int, page_token: str) -> Call[Page[AgentInfo]]:
    request = agents_pb2.ListAgentsRequest(
        namespace=inputs.text(namespace, "The namespace"),
        hot_only=hot_only,
        page_size=inputs.unsigned(page_size, "page_size", 32),
        page_token=page_token,
    )
    return Call("ListAgents", request, lambda r: Page(tuple(map(convert.agent, r.agents)), r.next_page_token))


def list_turns(ref: types_pb2.AgentRef, include_messages: bool, page_token: str) -> Call[Page[Turn]]:
    request = agents_pb2.ListTurnsRequest(agent=ref, include_messages=include_messages, page_token=page_token)
    return Call("ListTurns", request, lambda r: Page(tuple(map(convert.turn, r.turns)), r.next_page_token))


def diff_agents(a: types_pb2.AgentRef, b: types_pb2.AgentRef) -> Call[Diff]:
    return Call("DiffAgents", agents_pb2.DiffAgentsRequest(a=a, b=b), convert.diff)


def disk_usage() -> Call[DiskUsage]:
    return Call("GetDiskUsage", maintenance_pb2.GetDiskUsageRequest(), convert.disk_usage)


def list_events(
    namespace: str | None, agent: str | None, since: datetime | None, after: int, page_size: int, page_token: str
) -> Call[Page[Event]]:
    request = maintenance_pb2.ListEventsRequest(
        namespace=None if namespace is None else inputs.text(namespace, "The namespace"),
        agent=inputs.text(agent or "", "The agent's name"),
        since=inputs.optional_moment(since, "since"),
        after=inputs.unsigned(after, "after", 64),
        page_size=inputs.unsigned(page_size, "page_size", 32),
        page_token=page_token,
    )
    return Call("ListEvents", request, lambda r: Page(tuple(map(convert.event, r.events)), r.next_page_token))


def create_namespace(name: str, request_id: str | None) -> Call[None]:
    request = admin_pb2.CreateNamespaceRequest(
        name=inputs.text(name, "The namespace"), request_id=inputs.request_id(request_id)
    )
    return Call("CreateNamespace", request, lambda response: None)


def list_namespaces() -> Call[list[Namespace]]:
    return Call("ListNamespaces", admin_pb2.ListNamespacesRequest(), convert.namespaces)


def get_status() -> Call[Status]:
    return Call("GetStatus", admin_pb2.GetStatusRequest(), convert.status)


def get_stats() -> Call[Stats]:
    return Call("GetStats", admin_pb2.GetStatsRequest(), convert.stats)


def list_requests() -> Call[list[RunningRequest]]:
    return Call("ListRequests", admin_pb2.ListRequestsRequest(), convert.requests)


# What changes an agent waits behind the turns that run, and large memories take long to read and send. How long is
# not for the client to guess: no deadline below.


def create_agent(
    ref: types_pb2.AgentRef, share: str | None, ttl: Span | None, pinned: bool, request_id: str | None
) -> Call[AgentInfo]:
    request = agents_pb2.CreateAgentRequest(
        agent=ref,
        request_id=inputs.request_id(request_id),
        share=choices.share(share),
        ttl=inputs.optional_span(ttl, "ttl"),
        pinned=pinned,
    )
    return Call("CreateAgent", request, lambda response: convert.agent(response.agent), timeout=None)


def update_agent(
    ref: types_pb2.AgentRef,
    pinned: bool | None,
    ttl: Span | None,
    share: str | None,
    request_id: str | None,
    expect_turn: int | None,
) -> Call[AgentInfo]:
    request = agents_pb2.UpdateAgentRequest(
        agent=ref,
        ttl=inputs.optional_span(ttl, "ttl"),
        share=choices.share(share),
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
    )
    if pinned is not None:
        request.pinned = pinned
    return Call("UpdateAgent", request, lambda response: convert.agent(response.agent), timeout=None)


def fork_agent(
    ref: types_pb2.AgentRef, new_name: str, at_turn: int | None, request_id: str | None, expect_turn: int | None
) -> Call[int]:
    """Reads the number of tokens to recompute."""
    request = agents_pb2.ForkAgentRequest(
        agent=ref,
        new_name=inputs.text(new_name, "The new agent's name"),
        at_turn=inputs.optional_unsigned(at_turn, "at_turn"),
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
    )
    return Call("ForkAgent", request, lambda response: response.tokens_to_recompute, timeout=None)


def rewind_agent(
    ref: types_pb2.AgentRef, to_turn: int, request_id: str | None, expect_turn: int | None
) -> Call[Rewound]:
    request = agents_pb2.RewindAgentRequest(
        agent=ref,
        to_turn=inputs.unsigned(to_turn, "to_turn", 64),
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
    )
    return Call("RewindAgent", request, convert.rewound, timeout=None)


def delete_agent(ref: types_pb2.AgentRef, dry_run: bool, request_id: str | None, expect_turn: int | None) -> Call[int]:
    request = agents_pb2.DeleteAgentRequest(
        agent=ref,
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
        dry_run=dry_run,
    )
    return Call("DeleteAgent", request, lambda response: response.freed_bytes, timeout=None)


def evict_agent(
    ref: types_pb2.AgentRef, to: str, dry_run: bool, request_id: str | None, expect_turn: int | None
) -> Call[Evicted]:
    request = agents_pb2.EvictAgentRequest(
        agent=ref,
        to=choices.evict_to(to),
        dry_run=dry_run,
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
    )
    return Call("EvictAgent", request, convert.evicted, timeout=None)


def prefetch_agent(ref: types_pb2.AgentRef, request_id: str | None) -> Call[Prefetched]:
    request = agents_pb2.PrefetchAgentRequest(agent=ref, request_id=inputs.request_id(request_id))
    return Call("PrefetchAgent", request, convert.prefetched, timeout=None)


def export_agent(ref: types_pb2.AgentRef) -> Call[bytes]:
    """Reads the pieces of the file, one of each response."""
    return Call("ExportAgent", agents_pb2.ExportAgentRequest(agent=ref), lambda r: r.chunk, timeout=None)


def delete_namespace(name: str, force: bool, dry_run: bool, request_id: str | None) -> Call[DeletedNamespace]:
    request = admin_pb2.DeleteNamespaceRequest(
        name=inputs.text(name, "The namespace"),
        request_id=inputs.request_id(request_id),
        force=force,
        dry_run=dry_run,
    )
    return Call("DeleteNamespace", request, convert.deleted_namespace, timeout=None)


def import_agent(
    path: str | Path, namespace: str, name: str | None, text_only: bool, request_id: str | None
) -> Call[AgentInfo]:
    """Raises OSError if the file cannot be opened."""
    ref = inputs.agent_ref(namespace, name or "")
    header = agents_pb2.ImportHeader(agent=ref, text_only=text_only, request_id=inputs.request_id(request_id))
    return Call("ImportAgent", files.upload(header, Path(path)), lambda r: convert.agent(r.agent), timeout=None)


def prune(
    namespace: str,
    older_than: Span | None,
    expired: bool,
    history_of: str | None,
    dry_run: bool,
    request_id: str | None,
    expect_turn: int | None,
) -> Call[list[Pruned]]:
    if (older_than is not None) + expired + (history_of is not None) > 1:
        raise inputs.invalid("Give one of older_than, expired and history_of at most.")
    request = maintenance_pb2.PruneRequest(
        namespace=inputs.text(namespace, "The namespace"),
        older_than=inputs.optional_span(older_than, "older_than"),
        history_of=None if history_of is None else inputs.text(history_of, "The agent's name"),
        dry_run=dry_run,
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
    )
    if expired:
        request.expired = True
    return Call("Prune", request, convert.pruned, timeout=None)


def verify(namespace: str | None, repair: bool) -> Call[VerifyReport]:
    chosen = None if namespace is None else inputs.text(namespace, "The namespace")
    request = maintenance_pb2.VerifyRequest(namespace=chosen, repair=repair)
    return Call("Verify", request, convert.verify_report, timeout=None)

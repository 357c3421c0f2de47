"""History, lifecycle and maintenance: what is asked reaches the engine whole, and its answer the caller."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agentmem.engine.status import AgentView
from agentmem.engine.views import Diff, Evicted, NamespaceView, Prefetched
from agentmem.store.rows import DeletedNamespace, DiskUsage, Event, Pruned, PrunedKind
from agentmem.store.verify import Verified
from agentmem.types import AgentRef, Residency, Share
from agentmem.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    agents_pb2,
    agents_pb2_grpc,
    maintenance_pb2,
    maintenance_pb2_grpc,
    types_pb2,
)

ALICE, REF = types_pb2.AgentRef(name="alice"), AgentRef("default", "alice")
BOB = types_pb2.AgentRef(namespace="team", name="bob")
VIEW = AgentView(REF, "id", 3, 2, Residency.HOT, True, "s", 1.5, 2.5, 3, 4)
STUBS = (
    agents_pb2_grpc.AgentServiceStub,
    admin_pb2_grpc.AdminServiceStub,
    maintenance_pb2_grpc.MaintenanceServiceStub,
)

EVENTS = [
    Event(3, 1.5, "DISK_EVICTED", REF, "", 7, 0, 0),
    Event(4, 2.5, "STARTED", None, "UNCLEAN", 0, 0, 0),
]
CALLS: list[tuple[str, Any, Any, tuple[Any, ...], dict[str, Any]]] = [
    (
        "CreateAgent",
        agents_pb2.CreateAgentRequest(
            agent=ALICE, request_id="r", share=types_pb2.SHARE_PRIVATE, ttl=Duration(seconds=9), pinned=True
        ),
        VIEW,
        (REF, "r"),
        {"share": Share.PRIVATE, "ttl_s": 9, "pinned": True},
    ),
    (
        "CreateAgent",
        agents_pb2.CreateAgentRequest(agent=ALICE),
        VIEW,
        (REF, ""),
        {"share": None, "ttl_s": None, "pinned": False},
    ),
    ("DeleteAgent", agents_pb2.DeleteAgentRequest(agent=ALICE, dry_run=True), 5, (REF, "", None, True), {}),
    (
        "ForkAgent",
        agents_pb2.ForkAgentRequest(agent=ALICE, new_name="b", at_turn=0, request_id="r", expect_turn=3),
        (VIEW, 7),
        (REF, "b", 0, "r", 3),
        {},
    ),
    ("ForkAgent", agents_pb2.ForkAgentRequest(agent=ALICE, new_name="b"), (VIEW, 0), (REF, "b", None, "", None), {}),
    ("RewindAgent", agents_pb2.RewindAgentRequest(agent=ALICE, to_turn=2), (VIEW, 7), (REF, 2, "", None), {}),
    (
        "DiffAgents",
        agents_pb2.DiffAgentsRequest(a=ALICE, b=BOB),
        Diff(5, 2, 0, 9, 5),
        (REF, AgentRef("team", "bob")),
        {},
    ),
    (
        "UpdateAgent",
        agents_pb2.UpdateAgentRequest(agent=ALICE, pinned=False, request_id="r", expect_turn=3),
        VIEW,
        (REF, "r", 3),
        {"pinned": False, "ttl_s": None, "share": None},
    ),
    (
        "UpdateAgent",
        agents_pb2.UpdateAgentRequest(agent=ALICE, ttl=Duration(), share=types_pb2.SHARE_NAMESPACE),
        VIEW,
        (REF, "", None),
        {"pinned": None, "ttl_s": 0, "share": Share.NAMESPACE},
    ),
    (
        "EvictAgent",
        agents_pb2.EvictAgentRequest(agent=ALICE, request_id="r", expect_turn=0),
        Evicted(9, 0),
        (REF, Residency.WARM, False, "r", 0),
        {},
    ),
    (
        "EvictAgent",
        agents_pb2.EvictAgentRequest(agent=ALICE, to=types_pb2.RESIDENCY_COLD, dry_run=True),
        Evicted(9, 8),
        (REF, Residency.COLD, True, "", None),
        {},
    ),
    ("PrefetchAgent", agents_pb2.PrefetchAgentRequest(agent=ALICE), Prefetched(1, 2, 3, 4), (REF,), {}),
    (
        "Prune",
        maintenance_pb2.PruneRequest(namespace="team", older_than=Duration(seconds=60), dry_run=True),
        [Pruned(PrunedKind.AGENT, REF, 0, 7)],
        ("team",),
        {"older_than_s": 60, "dry_run": True, "request_id": ""},
    ),
    (
        "Prune",
        maintenance_pb2.PruneRequest(history_of="bob", request_id="r", expect_turn=3),
        [],
        ("default",),
        {"agent": "bob", "dry_run": False, "request_id": "r", "expect_turn": 3},
    ),
    ("GetDiskUsage", maintenance_pb2.GetDiskUsageRequest(), DiskUsage((), 9, 0, 0), (), {}),
    ("Verify", maintenance_pb2.VerifyRequest(), Verified(1, 2, 3, (), 0), (None, False), {}),
    (
        "Verify",
        maintenance_pb2.VerifyRequest(namespace="", repair=True),
        Verified(1, 2, 3, (), 0),
        ("default", True),
        {},
    ),
    ("ListEvents", maintenance_pb2.ListEventsRequest(), EVENTS, (None, None, 0.0, 0, 101), {}),
    (
        "ListEvents",
        maintenance_pb2.ListEventsRequest(agent="bob", since=Timestamp(seconds=7, nanos=500_000_000), page_size=1),
        EVENTS,
        ("default", "bob", 7.5, 0, 2),
        {},
    ),
    ("ListEvents", maintenance_pb2.ListEventsRequest(namespace="team"), EVENTS, ("team", None, 0.0, 0, 101), {}),
    ("ListEvents", maintenance_pb2.ListEventsRequest(after=7), EVENTS, (None, None, 0.0, 7, 101), {}),
    ("CreateNamespace", admin_pb2.CreateNamespaceRequest(name="team", request_id="r"), None, ("team", "r"), {}),
    (
        "DeleteNamespace",
        admin_pb2.DeleteNamespaceRequest(name="team", request_id="r", force=True, dry_run=True),
        DeletedNamespace(2, 5),
        ("team", "r", True, True),
        {},
    ),
    ("ListNamespaces", admin_pb2.ListNamespacesRequest(), [NamespaceView("team", 1.0, 2)], (), {}),
]
METHODS = {
    "GetDiskUsage": "disk_usage", "Verify": "verify", "Prune": "prune", "CreateNamespace": "create_namespace",
    "DeleteNamespace": "delete_namespace",
    "ListEvents": "list_events", "ListNamespaces": "list_namespaces", "DiffAgents": "diff_agents",
}  # fmt: skip


@pytest.mark.parametrize(("rpc", "request_", "answer", "args", "kwargs"), CALLS)
def test_a_call_reaches_the_engine(
    served, rpc: str, request_: Any, answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    method = METHODS.get(rpc) or rpc.removesuffix("Agent").lower() + "_agent"

    async def scenario() -> Any:
        async with served() as it:
            it.engine.answers[method] = answer
            stub = next(s for stub in STUBS if hasattr(s := stub(it.channel), rpc))
            response = await getattr(stub, rpc)(request_, metadata=it.metadata)
            assert it.engine.calls == [(method, args, kwargs)]
            return response

    response = asyncio.run(scenario())
    match rpc:
        case "ForkAgent" | "RewindAgent":
            assert (response.agent.id, response.tokens_to_recompute) == ("id", answer[1])
        case "CreateAgent" | "UpdateAgent":
            assert response.agent.id == "id"
        case "DeleteAgent":
            assert response.freed_bytes == 5
        case "DiffAgents" | "EvictAgent" | "PrefetchAgent":
            assert {name: getattr(response, name) for name in vars(answer)} == vars(answer)
        case "DeleteNamespace":
            assert (response.agents, response.freed_bytes) == (2, 5)
        case "Prune":
            assert [(one.kind, one.agent.name) for one in response.pruned] == [(p.kind, "alice") for p in answer]
        case "GetDiskUsage":
            assert response.total_bytes == 9
        case "Verify":
            assert (response.blocks, response.records, response.bytes) == (1, 2, 3)
        case "ListEvents":
            first, *rest = response.events
            assert (first.number, first.time.ToMicroseconds(), first.kind) == (3, 1_500_000, "DISK_EVICTED")
            assert (first.agent.name, first.bytes) == ("alice", 7)
            assert [(one.HasField("agent"), one.reason) for one in rest] == (
                [(False, "UNCLEAN")] if args[-1] > 2 else []
            )
            assert bool(response.next_page_token) == (not rest)
        case "ListNamespaces":
            assert [(n.name, n.create_time.seconds, n.agents) for n in response.namespaces] == [("team", 1, 2)]

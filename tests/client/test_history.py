"""History, lifecycle, files and maintenance: both clients, over the scripted daemon."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentmem_client import AsyncClient, Client, DataLoss, Event, InvalidRequest, errors

from agentmem.v1 import admin_pb2, agents_pb2, maintenance_pb2, types_pb2

from .scripted import ScriptedDaemon, fail

ALICE = agents_pb2.Agent(ref=types_pb2.AgentRef(namespace="default", name="alice"))
DATA = os.urandom(2_500_000)

Do = Callable[[Callable[[Any], Any]], Any]


@pytest.fixture(params=["sync", "async"])
def do(request: pytest.FixtureRequest, daemon: ScriptedDaemon) -> Do:
    """`do(lambda client: client.method(...))` with either client."""

    def sync(act: Callable[[Any], Any]) -> Any:
        with Client(socket=daemon.socket) as client:
            return act(client)

    def asynchronous(act: Callable[[Any], Any]) -> Any:
        async def main() -> Any:
            async with AsyncClient(socket=daemon.socket) as client:
                return await act(client)

        return asyncio.run(main())

    return sync if request.param == "sync" else asynchronous


def answer(daemon: ScriptedDaemon, **answers: Any) -> None:
    daemon.answers |= {name: lambda request, context, a=a: a for name, a in answers.items()}


def test_how_an_agent_is_kept(daemon: ScriptedDaemon, do: Do) -> None:
    answer(
        daemon,
        CreateAgent=agents_pb2.CreateAgentResponse(agent=ALICE),
        UpdateAgent=agents_pb2.UpdateAgentResponse(agent=ALICE),
        DeleteAgent=agents_pb2.DeleteAgentResponse(freed_bytes=9),
    )
    assert do(lambda c: c.agent("alice").create(share="private", ttl=60, pinned=True)).name == "alice"
    assert do(lambda c: c.agent("alice").pin()).name == "alice"
    do(lambda c: c.agent("alice").unpin())
    do(lambda c: c.agent("alice").update(ttl=timedelta(days=1), share="private"))
    assert do(lambda c: c.agent("alice").delete(dry_run=True)) == 9
    create, pin, unpin, update, delete = daemon.seen
    assert (create.share, create.ttl.seconds, create.pinned) == (types_pb2.SHARE_PRIVATE, 60, True)
    assert (pin.pinned, unpin.HasField("pinned"), unpin.pinned) == (True, True, False)
    assert (update.HasField("pinned"), update.ttl.seconds, update.share) == (False, 86_400, types_pb2.SHARE_PRIVATE)
    assert delete.dry_run


def test_diff_evict_and_prefetch(daemon: ScriptedDaemon, do: Do) -> None:
    answer(
        daemon,
        DiffAgents=agents_pb2.DiffAgentsResponse(position=5, a_turn=2, a_tokens=9, b_tokens=5),
        EvictAgent=agents_pb2.EvictAgentResponse(ram_bytes=7, disk_bytes=8),
        PrefetchAgent=agents_pb2.PrefetchAgentResponse(warm_tokens=300, bytes_read=9),
    )
    diff = do(lambda c: c.agent("alice", "team").diff("bob"))
    assert (diff.position, diff.a_turn, diff.b_turn, diff.same) == (5, 2, 0, False)
    do(lambda c: c.agent("alice", "team").diff(c.agent("bob", "other")))
    evicted = do(lambda c: c.agent("alice").evict("cold", dry_run=True))
    assert (evicted.ram_bytes, evicted.disk_bytes) == (7, 8)
    assert do(lambda c: c.agent("alice").prefetch()).warm_tokens == 300
    first, second, evict, _ = daemon.seen
    assert [(d.a.namespace, d.b.namespace, d.b.name) for d in (first, second)] == [
        ("team", "team", "bob"), ("team", "other", "bob"),
    ]  # fmt: skip
    assert (evict.to, evict.dry_run) == (types_pb2.RESIDENCY_COLD, True)


def test_maintenance_and_namespaces(daemon: ScriptedDaemon, do: Do) -> None:
    answer(
        daemon,
        Prune=maintenance_pb2.PruneResponse(pruned=[maintenance_pb2.Pruned(kind="AGENT", agent=ALICE.ref)]),
        GetDiskUsage=maintenance_pb2.GetDiskUsageResponse(total_bytes=5),
        Verify=maintenance_pb2.VerifyResponse(blocks=3),
        CreateNamespace=admin_pb2.CreateNamespaceResponse(),
        DeleteNamespace=admin_pb2.DeleteNamespaceResponse(agents=2, freed_bytes=5),
        ListNamespaces=admin_pb2.ListNamespacesResponse(namespaces=[admin_pb2.Namespace(name="team", agents=2)]),
    )
    assert do(lambda c: c.prune("team", older_than=60, dry_run=True))[0].agent == "alice"
    assert do(lambda c: c.disk_usage()).total_bytes == 5
    assert do(lambda c: c.verify(repair=True)).ok
    assert do(lambda c: c.create_namespace("team")) is None
    deleted = do(lambda c: c.delete_namespace("team", force=True, dry_run=True))
    assert (deleted.agents, deleted.freed_bytes) == (2, 5)
    do(lambda c: c.delete_namespace("team", request_id="r"))
    assert [(n.name, n.agents) for n in do(lambda c: c.namespaces())] == [("team", 2)]
    prune, _, verify, create, delete, another, _ = daemon.seen
    assert (prune.namespace, prune.older_than.seconds, prune.dry_run) == ("team", 60, True)
    assert (verify.HasField("namespace"), verify.repair) == (False, True)
    assert (create.name, bool(create.request_id)) == ("team", True)
    assert (delete.name, delete.force, delete.dry_run, bool(delete.request_id)) == ("team", True, True, True)
    assert (another.force, another.dry_run, another.request_id) == (False, False, "r")


def test_events_come_page_by_page(daemon: ScriptedDaemon, do: Do) -> None:
    def page(request: maintenance_pb2.ListEventsRequest, context: Any) -> maintenance_pb2.ListEventsResponse:
        number = int(request.page_token or 1)
        event = maintenance_pb2.Event(number=number, kind="DISK_EVICTED", agent=ALICE.ref, bytes=7)
        event.time.FromSeconds(number)
        return maintenance_pb2.ListEventsResponse(events=[event], next_page_token=str(number + 1) if number < 3 else "")

    daemon.answers["ListEvents"] = page

    events = do(lambda c: events_of(c, namespace="team", agent="alice", since=WHEN, page_size=1))
    assert [(event.number, event.kind, event.agent, event.bytes) for event in events] == [
        (number, "DISK_EVICTED", "alice", 7) for number in (1, 2, 3)
    ]
    assert events[1].time == datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)
    first, *_, last = daemon.seen
    assert (first.namespace, first.agent, first.page_size, first.since.ToDatetime(UTC)) == ("team", "alice", 1, WHEN)
    assert last.page_token == "3"
    do(events_of)
    assert (daemon.seen[-1].HasField("namespace"), daemon.seen[-1].HasField("since")) == (False, False)
    assert [event.number for event in do(lambda c: events_of(c, after=9))] == [1, 2, 3]
    assert [request.after for request in daemon.seen[-3:]] == [9, 9, 9]


def test_requests_that_run(daemon: ScriptedDaemon, do: Do) -> None:
    one = admin_pb2.RunningRequest(agent=ALICE.ref, phase=admin_pb2.REQUEST_PHASE_PREFILL, tokens_fed=7)
    daemon.answers["ListRequests"] = lambda r, c: admin_pb2.ListRequestsResponse(requests=[one])
    (request,) = do(lambda c: c.requests())
    assert (request.agent, request.phase, request.tokens_fed) == ("alice", "PREFILL", 7)


WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def events_of(client: Client | AsyncClient, **filters: Any) -> Any:
    """All of them, or with an async client what is to be awaited for them."""
    if isinstance(client, Client):
        return list(client.events(**filters))

    async def collect() -> list[Event]:
        return [event async for event in client.events(**filters)]

    return collect()


def test_an_export_is_one_private_file(daemon: ScriptedDaemon, do: Do, tmp_path: Path) -> None:
    pieces = [agents_pb2.ExportAgentResponse(chunk=DATA[at : at + 1_000_000]) for at in range(0, len(DATA), 1_000_000)]
    answer(daemon, ExportAgent=pieces)
    path = tmp_path / "alice.agentmem"
    path.write_bytes(b"an older one")
    assert do(lambda c: c.agent("alice").export(path)) == len(DATA)
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob("*.agentmem*")) == [path]


def test_an_export_that_fails_leaves_what_was_there(daemon: ScriptedDaemon, do: Do, tmp_path: Path) -> None:
    def broken(request: Any, context: grpc.ServicerContext) -> Any:
        yield agents_pb2.ExportAgentResponse(chunk=b"half")
        fail(context, "DATA_LOSS", "BLOCK_UNRECOVERABLE", "Turn 2 is lost.")

    daemon.answers["ExportAgent"] = broken
    path = tmp_path / "exports" / "alice"
    with pytest.raises(FileNotFoundError):
        do(lambda c: c.agent("alice").export(path))
    path.parent.mkdir()
    path.write_bytes(b"an older one")
    with pytest.raises(DataLoss):
        do(lambda c: c.agent("alice").export(path))
    assert path.read_bytes() == b"an older one"
    assert list(path.parent.iterdir()) == [path]


def test_an_import_sends_header_and_file_again_at_each_attempt(daemon: ScriptedDaemon, do: Do, tmp_path: Path) -> None:
    def loading_first(requests: Any, context: grpc.ServicerContext) -> Any:
        if len(daemon.seen) < 2:
            fail(context, "UNAVAILABLE", "MODEL_LOADING", "Not yet.")
        return agents_pb2.ImportAgentResponse(agent=ALICE)

    daemon.answers["ImportAgent"] = loading_first
    path = tmp_path / "file"
    path.write_bytes(DATA)
    assert do(lambda c: c.import_agent(path, "bob", "team", text_only=True)).name == "alice"
    for header, *chunks in daemon.seen:
        assert (header.header.agent.namespace, header.header.agent.name, header.header.text_only) == (
            "team",
            "bob",
            True,
        )
        assert b"".join(one.chunk for one in chunks) == DATA
    assert len({header.header.request_id for header, *_ in daemon.seen}) == 1
    do(lambda c: c.import_agent(path))
    assert daemon.seen[-1][0].header.agent == types_pb2.AgentRef(namespace="default")


def test_an_import_that_is_refused(daemon: ScriptedDaemon, do: Do, tmp_path: Path) -> None:
    daemon.answers["ImportAgent"] = lambda r, c: fail(c, "INVALID_ARGUMENT", "IMPORT_INVALID", "It was changed.")
    with pytest.raises(FileNotFoundError):
        do(lambda c: c.import_agent(tmp_path / "none"))
    assert not daemon.seen
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with pytest.raises(InvalidRequest) as caught:
        do(lambda c: c.import_agent(path))
    assert caught.value.reason == "IMPORT_INVALID"


def test_a_turn_that_does_not_exist(daemon: ScriptedDaemon, do: Do) -> None:
    daemon.answers["RewindAgent"] = lambda r, c: fail(c, "NOT_FOUND", "TURN_NOT_FOUND", "There is no turn 9.")
    with pytest.raises(errors.NotFound) as caught:
        do(lambda c: c.agent("alice").rewind(9))
    assert not isinstance(caught.value, errors.AgentNotFound)
    assert caught.value.reason == "TURN_NOT_FOUND"


CHANGES: dict[str, Callable[[Any], Any]] = {
    "CreateAgent": lambda c: c.agent("alice").create(),
    "UpdateAgent": lambda c: c.agent("alice").pin(),
    "ForkAgent": lambda c: c.agent("alice").fork("bob"),
    "RewindAgent": lambda c: c.agent("alice").rewind(1),
    "DeleteAgent": lambda c: c.agent("alice").delete(),
    "EvictAgent": lambda c: c.agent("alice").evict(),
    "PrefetchAgent": lambda c: c.agent("alice").prefetch(),
    "Prune": lambda c: c.prune(),
    "Verify": lambda c: c.verify(),
}


@pytest.mark.parametrize("method", [name for name in CHANGES if name != "Verify"])
def test_a_change_that_is_sent_again_is_the_same_request(daemon: ScriptedDaemon, do: Do, method: str) -> None:
    def once_not_ready(request: Any, context: grpc.ServicerContext) -> Any:
        if len(daemon.seen) < 2:
            fail(context, "UNAVAILABLE", "MODEL_LOADING", "Not yet.")
        fail(context, "NOT_FOUND", "AGENT_NOT_FOUND", "There is no alice.")

    daemon.answers[method] = once_not_ready
    for _ in range(2):
        with pytest.raises(errors.AgentNotFound):
            do(CHANGES[method])
    first, again, another = (request.request_id for request in daemon.seen)
    assert first == again != another
    assert first


@pytest.mark.parametrize("method", CHANGES)
def test_what_waits_behind_turns_has_no_deadline_by_default(daemon: ScriptedDaemon, do: Do, method: str) -> None:
    """A turn may take minutes, and a change whose caller gave up meanwhile is made all the same."""
    limits: list[float] = []

    def note(request: Any, context: grpc.ServicerContext) -> Any:
        limits.append(context.time_remaining())
        fail(context, "NOT_FOUND", "AGENT_NOT_FOUND", "There is no alice.")

    daemon.answers[method] = note
    with pytest.raises(errors.AgentNotFound):
        do(CHANGES[method])
    assert limits[0] > 365 * 86_400  # what gRPC says where there is none

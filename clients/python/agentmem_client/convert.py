"""Protobuf messages as the plain results of `agentmem_client.types`."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from agentmem.v1 import (
    admin_pb2,
    agents_pb2,
    generation_pb2,
    latent_pb2,
    maintenance_pb2,
    primitives_pb2,
    types_pb2,
)
from agentmem_client import daemon_types, knowledge_types, run_types, types

T = TypeVar("T")


def usage(message: types_pb2.Usage) -> types.Usage:
    misses = tuple(_plain(types.PrefixMiss, miss) for miss in message.misses)
    return _plain(types.Usage, message, exactness=_name(types_pb2.Exactness, message.exactness), misses=misses)


def started(message: generation_pb2.Started) -> types.Started:
    return _plain(types.Started, message, plan=_plain(types.ReusePlan, message.plan))


def delta(message: generation_pb2.Delta) -> types.Delta:
    return types.Delta(message.text, tuple(message.token_ids))


def reply(message: generation_pb2.Finished, *, text: str, token_ids: tuple[int, ...], request_id: str) -> types.Reply:
    return _plain(
        types.Reply,
        message,
        text=text,
        token_ids=token_ids,
        request_id=request_id,
        finish_reason=_name(types_pb2.FinishReason, message.finish_reason),
        usage=usage(message.usage),
        timings=_plain(types.Timings, message.timings),
        warnings=_warnings(message),
    )


def appended(message: generation_pb2.AppendResponse, request_id: str) -> types.Appended:
    return _plain(
        types.Appended,
        message,
        request_id=request_id,
        usage=usage(message.usage),
        timings=_plain(types.Timings, message.timings),
        warnings=_warnings(message),
    )


def run_started(message: primitives_pb2.RunStarted) -> run_types.RunStarted:
    return _plain(
        run_types.RunStarted,
        message,
        source=_name(primitives_pb2.PlanSource, message.source),
        nearest=tuple(map(pool_entry, message.nearest)),
    )


def run_progress(message: primitives_pb2.RunProgress) -> run_types.RunProgress:
    activity = _name(primitives_pb2.RunActivity, message.activity)
    return _plain(run_types.RunProgress, message, activity=activity)


def run_result(message: primitives_pb2.RunFinished) -> run_types.RunResult:
    return _plain(
        run_types.RunResult,
        message,
        exactness=_name(types_pb2.Exactness, message.exactness),
        roles=tuple(
            _plain(run_types.RoleUsage, role, pte=role.pte if role.HasField("pte") else None) for role in message.roles
        ),
        notes=tuple(message.notes),
    )


def spliced(message: latent_pb2.SpliceResponse, request_id: str) -> types.Spliced:
    return _plain(
        types.Spliced,
        message,
        request_id=request_id,
        parts=tuple(_plain(types.SplicedPart, part) for part in message.parts),
        usage=usage(message.usage),
        timings=_plain(types.Timings, message.timings),
        warnings=_warnings(message),
    )


def thought(message: latent_pb2.ThinkResponse, request_id: str) -> types.Thought:
    return _plain(
        types.Thought,
        message,
        request_id=request_id,
        finish_reason=_name(types_pb2.FinishReason, message.finish_reason),
        usage=usage(message.usage),
        timings=_plain(types.Timings, message.timings),
        warnings=_warnings(message),
    )


def agent(message: agents_pb2.Agent) -> types.AgentInfo:
    return _plain(
        types.AgentInfo,
        message,
        name=message.ref.name,
        namespace=message.ref.namespace,
        residency=_name(types_pb2.Residency, message.residency),
        exactness=_name(types_pb2.Exactness, message.exactness),
        create_time=_time(message, "create_time"),
        last_used_time=_time(message, "last_used_time"),
        expire_time=_time(message, "expire_time"),
        share=_name(types_pb2.Share, message.share),
        blocks=tuple(
            _plain(types.BlockUse, block, kind=_name(types_pb2.BlockKind, block.kind)) for block in message.blocks
        ),
    )


def turn(message: types_pb2.Turn) -> types.Turn:
    return _plain(
        types.Turn,
        message,
        kind=_name(types_pb2.TurnKind, message.kind),
        create_time=_time(message, "create_time"),
        finish_reason=_name(types_pb2.FinishReason, message.finish_reason),
        exactness=_name(types_pb2.Exactness, message.exactness),
        messages=tuple(types.TurnMessage(chat_message(one.message), one.start, one.end) for one in message.messages),
    )


def chat_message(message: types_pb2.ChatMessage) -> types.Message:
    return _plain(
        types.Message,
        message,
        content="".join(part.text for part in message.parts),
        tool_calls=tuple(_plain(types.ToolCall, call) for call in message.tool_calls),
    )


def status(message: admin_pb2.GetStatusResponse) -> daemon_types.Status:
    model = _model(message.model) if message.HasField("model") else None
    return _plain(daemon_types.Status, message, model=model, uptime=message.uptime.ToTimedelta())


def stats(message: admin_pb2.GetStatsResponse) -> daemon_types.Stats:
    return _plain(daemon_types.Stats, message, steps=_plain(daemon_types.StepTimes, message.steps))


def requests(message: admin_pb2.ListRequestsResponse) -> list[daemon_types.RunningRequest]:
    return [
        _plain(
            daemon_types.RunningRequest,
            one,
            agent=one.agent.name,
            namespace=one.agent.namespace,
            phase=_name(admin_pb2.RequestPhase, one.phase),
            priority=_name(types_pb2.Priority, one.priority),
        )
        for one in message.requests
    ]


def _model(message: admin_pb2.ModelInfo) -> daemon_types.ModelInfo:
    return _plain(
        daemon_types.ModelInfo, message, layers=tuple(_plain(daemon_types.LayerInfo, one) for one in message.layers)
    )


def rewound(message: agents_pb2.RewindAgentResponse) -> types.Rewound:
    return _plain(types.Rewound, message, agent=agent(message.agent))


def diff(message: agents_pb2.DiffAgentsResponse) -> types.Diff:
    return _plain(types.Diff, message)


def evicted(message: agents_pb2.EvictAgentResponse) -> types.Evicted:
    return _plain(types.Evicted, message)


def prefetched(message: agents_pb2.PrefetchAgentResponse) -> types.Prefetched:
    return _plain(types.Prefetched, message)


def namespaces(message: admin_pb2.ListNamespacesResponse) -> list[daemon_types.Namespace]:
    return [_plain(daemon_types.Namespace, one, create_time=_time(one, "create_time")) for one in message.namespaces]


def deleted_namespace(message: admin_pb2.DeleteNamespaceResponse) -> daemon_types.DeletedNamespace:
    return _plain(daemon_types.DeletedNamespace, message)


def pruned(message: maintenance_pb2.PruneResponse) -> list[daemon_types.Pruned]:
    return [
        _plain(daemon_types.Pruned, one, agent=one.agent.name, namespace=one.agent.namespace) for one in message.pruned
    ]


def disk_usage(message: maintenance_pb2.GetDiskUsageResponse) -> daemon_types.DiskUsage:
    namespaces = tuple(_namespace_disk_usage(one) for one in message.namespaces)
    return _plain(daemon_types.DiskUsage, message, namespaces=namespaces)


def _namespace_disk_usage(message: maintenance_pb2.NamespaceDiskUsage) -> daemon_types.NamespaceDiskUsage:
    agents = tuple(_plain(daemon_types.AgentDiskUsage, one) for one in message.agents)
    return _plain(daemon_types.NamespaceDiskUsage, message, agents=agents)


def event(message: maintenance_pb2.Event) -> daemon_types.Event:
    ref = message.agent
    return _plain(daemon_types.Event, message, time=_time(message, "time"), agent=ref.name, namespace=ref.namespace)


def verify_report(message: maintenance_pb2.VerifyResponse) -> daemon_types.VerifyReport:
    problems = tuple(_plain(daemon_types.Problem, one) for one in message.problems)
    return _plain(daemon_types.VerifyReport, message, problems=problems)


def pool_entry(message: primitives_pb2.PoolEntry) -> knowledge_types.PoolEntry:
    return _plain(knowledge_types.PoolEntry, message, tags=tuple(message.tags))


def _warnings(message: Any) -> tuple[types.Warning, ...]:
    return tuple(_plain(types.Warning, warning) for warning in message.warnings)


def _plain(kind: type[T], message: Any, /, **converted: Any) -> T:
    """A `kind` from the message's fields of the same names; those that need more are passed, `converted`."""
    rest = {one.name: getattr(message, one.name) for one in fields(kind) if one.name not in converted}  # type: ignore[arg-type]
    return kind(**rest, **converted)


def _name(enum: Any, value: int) -> str:
    """FINISH_REASON_STOP -> STOP; unset -> "". A value that a newer daemon added keeps its number."""
    if not value:
        return ""
    known = enum.DESCRIPTOR.values_by_number
    if value not in known:
        return str(value)
    prefix = enum.DESCRIPTOR.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return known[value].name.removeprefix(prefix)


def _time(message: Any, field: str) -> datetime | None:
    return getattr(message, field).ToDatetime(tzinfo=UTC) if message.HasField(field) else None

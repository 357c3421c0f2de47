"""Engine types -> proto responses."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from agentmem.engine.request import Delta, Finished, Started
from agentmem.engine.status import AgentView, EngineStats, RequestView
from agentmem.types import AgentRef, Message, PrefixMiss, Timings, TurnMessage, Usage, Warning
from agentmem.v1 import admin_pb2, agents_pb2, generation_pb2, latent_pb2, maintenance_pb2, types_pb2

if TYPE_CHECKING:
    from agentmem.engine.views import (
        Diff,
        Evicted,
        ModelInfo,
        NamespaceView,
        Prefetched,
        TurnView,
    )
    from agentmem.store.rows import DiskUsage, Event, Pruned
    from agentmem.store.verify import Verified


def agent(view: AgentView) -> agents_pb2.Agent:
    return agents_pb2.Agent(
        ref=_ref(view.ref),
        id=view.id,
        turn=view.turn,
        tokens=view.tokens,
        residency=_enum(types_pb2.Residency, "RESIDENCY", view.residency),
        model_matches=view.model_matches,
        state_id=view.state_id,
        create_time=_timestamp(view.created),
        last_used_time=_timestamp(view.last_used),
        disk_bytes=view.disk_bytes,
        ram_bytes=view.ram_bytes,
        exactness=_enum(types_pb2.Exactness, "EXACTNESS", view.exactness),
        blocks=[
            agents_pb2.BlockUse(
                key=block.key,
                kind=_enum(types_pb2.BlockKind, "BLOCK_KIND", block.kind),
                start=block.start,
                used=block.used,
                bytes=block.bytes,
            )
            for block in view.blocks
        ],
        pinned=view.pinned,
        expire_time=None if view.expires is None else _timestamp(view.expires),
        share=_enum(types_pb2.Share, "SHARE", view.share),
        unsaved_turns=view.unsaved_turns,
    )


def turn(view: TurnView, include_messages: bool) -> types_pb2.Turn:
    return types_pb2.Turn(
        number=view.number,
        kind=_enum(types_pb2.TurnKind, "TURN_KIND", view.kind),
        start=view.start,
        end=view.end,
        create_time=_timestamp(view.created),
        finish_reason=_enum(types_pb2.FinishReason, "FINISH_REASON", view.finish_reason),
        exactness=_enum(types_pb2.Exactness, "EXACTNESS", view.exactness),
        request_id=view.request_id,
        messages=[_turn_message(message) for message in view.messages] if include_messages else [],
    )


def _turn_message(entry: TurnMessage) -> types_pb2.TurnMessage:
    return types_pb2.TurnMessage(message=_message(entry.message), start=entry.start, end=entry.end)


def _message(message: Message) -> types_pb2.ChatMessage:
    return types_pb2.ChatMessage(
        role=message.role,
        parts=[types_pb2.ContentPart(text=part) for part in message.parts],
        tool_calls=[
            types_pb2.ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
        reasoning=message.reasoning,
    )


def generate_event(
    event: Started | Delta | Finished, include_token_ids: bool
) -> generation_pb2.GenerateResponse | None:
    """One stream message, or None for a delta that has nothing to say yet (an unfinished character)."""
    match event:
        case Started():
            return generation_pb2.GenerateResponse(started=_started(event))
        case Delta():
            if not event.text and not (include_token_ids and event.token_ids):
                return None
            ids = event.token_ids if include_token_ids else ()
            return generation_pb2.GenerateResponse(delta=generation_pb2.Delta(text=event.text, token_ids=ids))
        case Finished():
            return generation_pb2.GenerateResponse(finished=_finished(event))


def append_response(event: Finished) -> generation_pb2.AppendResponse:
    return generation_pb2.AppendResponse(
        turn=event.turn,
        usage=_usage(event.usage),
        timings=_timings(event.timings),
        durable=event.durable,
        warnings=[_warning(warning) for warning in event.warnings],
        repeated_result=event.repeated_result,
    )


def splice_response(event: Finished) -> latent_pb2.SpliceResponse:
    return latent_pb2.SpliceResponse(
        turn=event.turn,
        usage=_usage(event.usage),
        timings=_timings(event.timings),
        durable=event.durable,
        warnings=[_warning(warning) for warning in event.warnings],
        repeated_result=event.repeated_result,
        parts=[latent_pb2.SplicedPart(part=number, start=start) for number, start in event.parts],
    )


def think_response(event: Finished) -> latent_pb2.ThinkResponse:
    return latent_pb2.ThinkResponse(
        turn=event.turn,
        usage=_usage(event.usage),
        timings=_timings(event.timings),
        durable=event.durable,
        warnings=[_warning(warning) for warning in event.warnings],
        repeated_result=event.repeated_result,
        finish_reason=_enum(types_pb2.FinishReason, "FINISH_REASON", event.finish_reason),
    )


def _started(event: Started) -> generation_pb2.Started:
    return generation_pb2.Started(
        turn=event.turn,
        queue_position=event.queue_position,
        plan=generation_pb2.ReusePlan(**vars(event.plan)),
        request_id=event.request_id,
    )


def _finished(event: Finished) -> generation_pb2.Finished:
    return generation_pb2.Finished(
        turn=event.turn,
        finish_reason=_enum(types_pb2.FinishReason, "FINISH_REASON", event.finish_reason),
        stop_sequence=event.stop_sequence,
        usage=_usage(event.usage),
        timings=_timings(event.timings),
        durable=event.durable,
        warnings=[_warning(warning) for warning in event.warnings],
        seed=event.seed,
        repeated_result=event.repeated_result,
    )


def _usage(usage: Usage) -> types_pb2.Usage:
    counts: dict[str, Any] = vars(usage) | {
        "exactness": _enum(types_pb2.Exactness, "EXACTNESS", usage.exactness),
        "misses": [_miss(miss) for miss in usage.misses],
    }
    return types_pb2.Usage(**counts)


def _miss(miss: PrefixMiss) -> types_pb2.PrefixMiss:
    return types_pb2.PrefixMiss(position=miss.position, tokens=miss.tokens, reason=miss.reason)


def _timings(timings: Timings) -> types_pb2.Timings:
    return types_pb2.Timings(**vars(timings))


def _warning(warning: Warning) -> types_pb2.Warning:
    return types_pb2.Warning(reason=warning.reason, message=warning.message)


def model_info(info: ModelInfo) -> admin_pb2.ModelInfo:
    layers = [admin_pb2.LayerInfo(**vars(layer)) for layer in info.layers]
    return admin_pb2.ModelInfo(**(vars(info) | {"layers": layers}))


def stats(numbers: EngineStats) -> admin_pb2.GetStatsResponse:
    return admin_pb2.GetStatsResponse(**(vars(numbers) | {"steps": admin_pb2.StepTimes(**vars(numbers.steps))}))


def request(view: RequestView) -> admin_pb2.RunningRequest:
    return admin_pb2.RunningRequest(
        agent=_ref(view.ref),
        request_id=view.request_id,
        phase=_enum(admin_pb2.RequestPhase, "REQUEST_PHASE", view.phase),
        queue_position=view.position,
        priority=_enum(types_pb2.Priority, "PRIORITY", view.priority),
        tokens_fed=view.tokens_fed,
        tokens_generated=view.tokens_generated,
        prompt_tokens=view.prompt_tokens,
        waited_s=view.waited_s,
        running_s=view.running_s,
        tokens_prefilled=view.tokens_prefilled,
    )


def namespace(view: NamespaceView) -> admin_pb2.Namespace:
    return admin_pb2.Namespace(name=view.name, create_time=_timestamp(view.created), agents=view.agents)


def diff(parting: Diff) -> agents_pb2.DiffAgentsResponse:
    return agents_pb2.DiffAgentsResponse(**vars(parting))


def evicted(freed: Evicted) -> agents_pb2.EvictAgentResponse:
    return agents_pb2.EvictAgentResponse(**vars(freed))


def prefetched(done: Prefetched) -> agents_pb2.PrefetchAgentResponse:
    return agents_pb2.PrefetchAgentResponse(**vars(done))


def pruned(entry: Pruned) -> maintenance_pb2.Pruned:
    return maintenance_pb2.Pruned(**(vars(entry) | {"agent": None if entry.agent is None else _ref(entry.agent)}))


def disk_usage(usage: DiskUsage) -> maintenance_pb2.GetDiskUsageResponse:
    namespaces = [
        maintenance_pb2.NamespaceDiskUsage(
            namespace=one.namespace,
            agents=[maintenance_pb2.AgentDiskUsage(**vars(agent)) for agent in one.agents],
            shared_bytes=one.shared_bytes,
            total_bytes=one.total_bytes,
        )
        for one in usage.namespaces
    ]
    sums = vars(usage) | {"namespaces": namespaces, "total_bytes": usage.total_bytes}
    return maintenance_pb2.GetDiskUsageResponse(**sums)


def event(one: Event) -> maintenance_pb2.Event:
    return maintenance_pb2.Event(
        number=one.number,
        time=_timestamp(one.created),
        kind=one.kind,
        agent=None if one.agent is None else _ref(one.agent),
        reason=one.reason,
        bytes=one.nbytes,
        start=one.start,
        end=one.end,
    )


def verify(report: Verified) -> maintenance_pb2.VerifyResponse:
    problems = [maintenance_pb2.Problem(**vars(problem)) for problem in report.problems]
    return maintenance_pb2.VerifyResponse(**(vars(report) | {"problems": problems}))


def _ref(ref: AgentRef) -> types_pb2.AgentRef:
    return types_pb2.AgentRef(namespace=ref.namespace, name=ref.name)


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


def _enum(wrapper: Any, prefix: str, value: Enum | str | None) -> Any:
    """The proto value of a word, for instance HOT -> RESIDENCY_HOT. None -> unspecified."""
    word = "UNSPECIFIED" if value is None else value.name if isinstance(value, Enum) else value
    return wrapper.Value(f"{prefix}_{word}")

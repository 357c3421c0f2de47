"""OpenTelemetry spans of runs over a real server: their nodes, what they cost, and what they never hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import grpc
from agentmem_daemon.traces import OtelTraces
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from agentmem.engine.request import Delta, Finished, ReusePlan, Started
from agentmem.errors import AgentmemError, Reason
from agentmem.types import FinishReason, Timings, Usage
from agentmem.v1 import primitives_pb2, primitives_pb2_grpc
from tests.primitives.plans import document, node

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PLAN = document(
    node("draftname", medium="text"), node("checkname", "draftname", type="review", medium="text", rounds=1)
)
REQUEST = primitives_pb2.RunRequest(namespace="team", query="a secret", context="the secret", plan=PLAN)
USAGE = Usage(prompt_tokens=50, reused_hot_tokens=30, prefill_tokens=20, generated_tokens=2, bytes_written=5)
SCRIPT = (
    Started(1, 0, ReusePlan(), "an-id"),
    Delta("hush", (123456789,)),
    Finished(1, FinishReason.STOP, "", USAGE, Timings(), True, (), 7),
)


def spans_of(
    served: Callable[..., Any],
    names: bool = False,
    refusal: AgentmemError | None = None,
    cancel: bool = False,
    parent: str | None = None,
) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """The span of one run, and its children in their order."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def scenario() -> None:
        async with served(traces=OtelTraces(provider, names)) as it:
            it.engine.script, it.engine.refusal = SCRIPT[:2] if cancel else SCRIPT, refusal
            it.engine.has_chat_template, it.engine.setup = True, "a device"
            it.engine.answers |= {"delete_agent": None, "stats": SimpleNamespace(running=1, queued=0)}
            metadata = (*it.metadata, *([("traceparent", parent)] if parent else []))
            call = primitives_pb2_grpc.PrimitivesServiceStub(it.channel).Run(REQUEST, metadata=metadata)
            try:
                async for message in call:
                    if cancel and message.HasField("progress"):
                        call.cancel()
            except (grpc.aio.AioRpcError, asyncio.CancelledError):
                pass
            async with asyncio.timeout(5):
                while not exporter.get_finished_spans():
                    await asyncio.sleep(0.005)

    asyncio.run(scenario())
    *children, whole = exporter.get_finished_spans()
    return whole, children


def costs(agents: int, turns: int) -> dict[str, int]:
    return {
        "agentmem.agents": agents, "agentmem.generated_tokens": 2 * turns, "agentmem.latent_steps": 0,
        "agentmem.prefill_tokens": 20 * turns, "agentmem.saved_tokens": 30 * turns, "agentmem.bytes_read": 0,
        "agentmem.bytes_written": 5 * turns,
    }  # fmt: skip


def test_a_run_and_its_nodes(served: Callable[..., Any]) -> None:
    before = time.time_ns()
    whole, children = spans_of(served)
    assert (whole.name, whole.kind, whole.parent) == ("agentmem run", SpanKind.SERVER, None)
    assert whole.status.status_code is StatusCode.UNSET
    assert dict(whole.attributes or {}) == {
        "agentmem.operation": "run", "agentmem.namespace": "team", "agentmem.priority": "NORMAL",
        "agentmem.plan_source": "GIVEN", "agentmem.nodes": 2, "agentmem.exactness": "EXACT", **costs(3, 6),
    }  # fmt: skip
    assert [child.name for child in children] == ["answer", "review"]
    assert all(child.parent == whole.context for child in children)
    answer, review = children
    assert dict(answer.attributes or {}) == {
        "agentmem.node": 1, "agentmem.medium": "text", "agentmem.exactness": "EXACT", "agentmem.roles": ("answer",),
        **costs(1, 2),
    }  # fmt: skip
    assert (review.attributes or {})["agentmem.roles"] == ("solver", "critic")
    assert before <= whole.start_time <= answer.start_time < answer.end_time <= review.start_time
    assert review.start_time < review.end_time <= whole.end_time <= time.time_ns()


def test_nothing_that_was_said_and_no_name_unless_asked_for(served: Callable[..., Any]) -> None:
    whole, children = spans_of(served)
    told = "".join(span.to_json() for span in (whole, *children))
    assert not any(secret in told for secret in ("secret", "hush", "123456789", "an-id", "draftname", "run-"))
    _, children = spans_of(served, names=True)
    assert [(child.attributes or {})["agentmem.node_id"] for child in children] == ["draftname", "checkname"]


def test_the_callers_trace_goes_on(served: Callable[..., Any]) -> None:
    whole, children = spans_of(served, parent=PARENT)
    assert whole.parent is not None
    assert f"{whole.parent.trace_id:032x}-{whole.parent.span_id:016x}" == PARENT[3:-3]
    assert {child.context.trace_id for child in children} == {whole.context.trace_id}


def test_a_run_that_fails(served: Callable[..., Any]) -> None:
    whole, children = spans_of(served, refusal=AgentmemError(Reason.QUEUE_FULL, "7 secret requests wait"))
    assert (whole.status.status_code, whole.status.description) == (StatusCode.ERROR, "QUEUE_FULL")
    assert (whole.attributes or {})["agentmem.error_reason"] == "QUEUE_FULL"
    assert (children, "secret" in whole.to_json()) == ([], False)


def test_a_client_that_goes_away_leaves_no_span_open(served: Callable[..., Any]) -> None:
    whole, children = spans_of(served, cancel=True)
    assert (whole.attributes or {})["agentmem.error_reason"] == "REQUEST_CANCELLED"
    assert (whole.status.status_code, children) == (StatusCode.UNSET, [])

"""OpenTelemetry spans of calls over a real server: their times, parents and attributes, and what they never hold."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import agentmem_daemon.traces
import grpc
import pytest
from agentmem_daemon import turn_requests
from agentmem_daemon.errors import StartError
from agentmem_daemon.settings import DaemonSettings
from agentmem_daemon.traces import NoTraces, OtelTraces, traces
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from agentmem.engine.request import Delta, Failed, Finished, ReusePlan, Started
from agentmem.errors import AgentmemError, Reason
from agentmem.types import FinishReason, Timings, Usage
from agentmem.v1 import generation_pb2, generation_pb2_grpc, types_pb2

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST = generation_pb2.GenerateRequest(
    agent=types_pb2.AgentRef(namespace="team", name="alice"), input=types_pb2.Input(text="a secret")
)
USAGE = Usage(prompt_tokens=50, reused_hot_tokens=30, reused_warm_tokens=10, prefill_tokens=10, generated_tokens=2)
TIMINGS = Timings(queue_s=1e-6, restore_s=2e-6, prefill_s=3e-6, ttft_s=6e-6, decode_s=1e-6, commit_s=0.0)
FINISHED = Finished(3, FinishReason.STOP, "", USAGE, TIMINGS, True, (), 7)
SCRIPT = (Started(3, 0, ReusePlan(), "an-id"), Delta("hush", (123456789,)), FINISHED)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def collecting(exporter: InMemorySpanExporter, names: bool = False) -> OtelTraces:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OtelTraces(provider, names)


def spans_of(
    served: Callable[..., object],
    exporter: InMemorySpanExporter,
    script: Sequence[object] = SCRIPT,
    refusal: AgentmemError | None = None,
    names: bool = False,
    parent: str | None = None,
) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """The span of one call, and its children in their order."""

    async def scenario() -> None:
        async with served(traces=collecting(exporter, names)) as it:  # type: ignore[attr-defined]
            it.engine.script, it.engine.refusal = tuple(script), refusal
            call = generation_pb2_grpc.GenerationServiceStub(it.channel).Generate
            metadata = (*it.metadata, *([("traceparent", parent)] if parent else []))
            try:
                async for _ in call(REQUEST, metadata=metadata):
                    pass
            except grpc.aio.AioRpcError:
                pass

    asyncio.run(scenario())
    *children, whole = exporter.get_finished_spans()
    return whole, children


def test_a_request_and_its_phases(served, exporter: InMemorySpanExporter) -> None:
    before = time.time_ns()
    whole, children = spans_of(served, exporter)
    assert (whole.name, whole.kind, whole.parent) == ("agentmem generate", SpanKind.SERVER, None)
    assert whole.status.status_code is StatusCode.UNSET
    assert before <= whole.start_time < whole.end_time <= time.time_ns()
    assert dict(whole.attributes or {}) == {
        "agentmem.operation": "generate", "agentmem.namespace": "team", "agentmem.priority": "NORMAL",
        "agentmem.turn": 3, "agentmem.durable": True, "agentmem.repeated_result": False,
        "agentmem.exactness": "EXACT", "agentmem.ttft_s": 6e-6, "agentmem.finish_reason": "STOP",
        "agentmem.prompt_tokens": 50, "agentmem.reused_hot_tokens": 30, "agentmem.reused_warm_tokens": 10,
        "agentmem.recomputed_tokens": 0, "agentmem.prefill_tokens": 10, "agentmem.generated_tokens": 2,
        "agentmem.bytes_read": 0, "agentmem.bytes_written": 0,
    }  # fmt: skip
    assert [child.name for child in children] == ["queue", "restore", "prefill", "decode"]
    assert all(child.parent == whole.context for child in children)
    assert [child.end_time - child.start_time for child in children] == [1000, 2000, 3000, 1000]
    queue, restore, prefill, decode = children
    assert queue.start_time == whole.start_time
    assert queue.end_time <= restore.start_time
    assert (restore.end_time, prefill.end_time) == (prefill.start_time, decode.start_time)
    assert decode.end_time == whole.end_time


def test_phases_stay_within_their_request(served, exporter: InMemorySpanExporter) -> None:
    """What the phases took may add up to more than the request: some of it is hidden behind others."""
    timings = replace(TIMINGS, prefill_s=3600.0)
    whole, children = spans_of(served, exporter, (*SCRIPT[:2], replace(FINISHED, timings=timings)))
    assert [child.name for child in children] == ["queue", "prefill", "decode"]
    assert children[1].start_time == whole.start_time


def test_nothing_that_was_said_and_no_name_unless_asked_for(served, exporter: InMemorySpanExporter) -> None:
    whole, children = spans_of(served, exporter)
    told = "".join(span.to_json() for span in (whole, *children))
    assert not any(secret in told for secret in ("secret", "hush", "123456789", "an-id", "alice"))
    exporter.clear()
    whole, _ = spans_of(served, exporter, names=True)
    assert (whole.attributes or {})["agentmem.agent"] == "alice"


@pytest.mark.parametrize("parent", [PARENT, "nonsense"])
def test_the_callers_trace_goes_on(served, exporter: InMemorySpanExporter, parent: str) -> None:
    whole, children = spans_of(served, exporter, parent=parent)
    if parent == PARENT:
        assert whole.parent is not None
        assert f"{whole.parent.trace_id:032x}-{whole.parent.span_id:016x}" == PARENT[3:-3]
    else:
        assert whole.parent is None
    assert {child.context.trace_id for child in children} == {whole.context.trace_id}


@pytest.mark.parametrize("at_once", [True, False])
def test_a_request_that_fails(served, exporter: InMemorySpanExporter, at_once: bool) -> None:
    error = AgentmemError(Reason.QUEUE_FULL, "7 secret requests wait")
    script = (SCRIPT[0], Failed(error))
    whole, children = spans_of(served, exporter, script, error if at_once else None)
    assert (whole.status.status_code, whole.status.description) == (StatusCode.ERROR, "QUEUE_FULL")
    assert (whole.attributes or {})["agentmem.error_reason"] == "QUEUE_FULL"
    assert (children, "secret" in whole.to_json()) == ([], False)


def test_a_client_that_goes_away_leaves_no_span_open(served, exporter: InMemorySpanExporter) -> None:
    async def scenario() -> None:
        async with served(traces=collecting(exporter)) as it:
            it.engine.script = SCRIPT[:2]
            call = generation_pb2_grpc.GenerationServiceStub(it.channel).Generate(REQUEST, metadata=it.metadata)
            await call.read()
            call.cancel()
            async with asyncio.timeout(5):
                while not exporter.get_finished_spans():
                    await asyncio.sleep(0.005)

    asyncio.run(scenario())
    assert (exporter.get_finished_spans()[-1].attributes or {})["agentmem.finish_reason"] == "CANCELLED"


@pytest.fixture
def _no_otel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_no_otel")
def test_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(traces(DaemonSettings()), NoTraces)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    standard = traces(DaemonSettings())
    assert isinstance(standard, OtelTraces)
    standard.close()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert isinstance(traces(DaemonSettings()), NoTraces)
    ours = traces(DaemonSettings(otlp_endpoint="http://127.0.0.1:9"))
    assert isinstance(ours, OtelTraces)
    ours.close()


def test_a_collector_that_does_not_answer_holds_up_no_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agentmem_daemon.traces, "FLUSH_S", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        sending = traces(DaemonSettings(otlp_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"))
        sending.begin(turn_requests.generate_request(REQUEST), ()).end(FINISHED)
        began = time.monotonic()
        sending.close()
        assert time.monotonic() - began < 5


@pytest.mark.usefixtures("_no_otel")
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    with pytest.raises(StartError) as caught:
        traces(DaemonSettings(otlp_endpoint="http://127.0.0.1:9"))
    assert (caught.value.exit_code, "pip install 'agentmem[otel]'" in caught.value.message) == (4, True)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    assert isinstance(traces(DaemonSettings()), NoTraces)
    assert "pip install 'agentmem[otel]'" in caplog.text

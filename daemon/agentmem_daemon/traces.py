"""One OpenTelemetry span for each request that adds a turn, with its phases as children, and one for each run of agents
that work together, with the plan's nodes as children (`run_traces`). Needs the extra [otel].

They hold nothing that was said: numbers, the namespace, and the agent's name only if that is asked for.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from agentmem import __version__
from agentmem.engine.request import Failed, Finished, Request
from agentmem.types import AgentRef, Priority, Timings
from agentmem_daemon.errors import StartError
from agentmem_daemon.extras import EXIT_NO_EXTRA, install_line
from agentmem_daemon.run_traces import NoRunTrace, OtelRunTrace, RunTrace, fail
from agentmem_daemon.settings import DaemonSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

    from agentmem_daemon.orders import Order

_PARENT = ("traceparent", "tracestate")
_STANDARD = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_USAGE = (
    "prompt_tokens",
    "reused_hot_tokens",
    "reused_warm_tokens",
    "recomputed_tokens",
    "prefill_tokens",
    "generated_tokens",
    "bytes_read",
    "bytes_written",
)

FLUSH_S = 2.0
"""How long the last spans may take to leave when the daemon stops."""

logger = logging.getLogger(__name__)


class Trace(Protocol):
    """Of one request. `end` takes its last event, or the error of one that was refused at once."""

    def end(self, event: Finished | Failed) -> None: ...


class Traces(Protocol):
    def begin(self, request: Request, metadata: Iterable[tuple[str, Any]]) -> Trace:
        """metadata: of the call; a W3C `traceparent` in it makes the span a child of the caller's."""
        ...

    def begin_run(self, order: Order, metadata: Iterable[tuple[str, Any]]) -> RunTrace:
        """As `begin`, of agents that work together."""
        ...

    def close(self) -> None:
        """Sends what is left; waits a moment for that at most."""
        ...


class NoTraces:
    """Where nobody asked for traces."""

    def begin(self, request: Request, metadata: Iterable[tuple[str, Any]]) -> NoTraces:
        return self

    def begin_run(self, order: Order, metadata: Iterable[tuple[str, Any]]) -> NoRunTrace:
        return NoRunTrace()

    def end(self, event: Finished | Failed) -> None: ...

    def close(self) -> None: ...


class OtelTraces:
    """provider: what spans are made with and sent by. names: whether agents' names are told."""

    def __init__(self, provider: TracerProvider, names: bool = False) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider, self._names = provider, names
        self._tracer = provider.get_tracer("agentmem", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, request: Request, metadata: Iterable[tuple[str, Any]]) -> OtelTrace:
        began = time.time_ns()
        span = self._start(request.kind.value.lower(), request.agent, request.priority, metadata, began)
        return OtelTrace(self._tracer, span, began)

    def begin_run(self, order: Order, metadata: Iterable[tuple[str, Any]]) -> RunTrace:
        given = order.given
        agent = AgentRef(given.namespace, given.agent or "")
        span = self._start("run", agent, given.priority, metadata, time.time_ns())
        return OtelRunTrace(self._tracer, span, self._names)

    def _start(
        self, operation: str, agent: AgentRef, priority: Priority, metadata: Iterable[tuple[str, Any]], began: int
    ) -> Span:
        from opentelemetry.trace import SpanKind

        carrier = {key: value for key, value in metadata if key in _PARENT and isinstance(value, str)}
        attributes = {
            "agentmem.operation": operation,
            "agentmem.namespace": agent.namespace,
            "agentmem.priority": priority.value,
        }
        if self._names and agent.name:
            attributes["agentmem.agent"] = agent.name
        return self._tracer.start_span(
            f"agentmem {operation}",
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=began,
        )

    def close(self) -> None:
        # On a thread that may be left: with nobody there, the exporter tries again and again, whatever it was told.
        flush = threading.Thread(target=self._provider.shutdown, name="agentmem-last-spans", daemon=True)
        flush.start()
        flush.join(FLUSH_S)


class OtelTrace:
    """A request's span. began: Unix time in ns."""

    def __init__(self, tracer: Any, span: Span, began: int) -> None:
        self._tracer, self._span, self._began = tracer, span, began

    def end(self, event: Finished | Failed) -> None:
        now = time.time_ns()
        if isinstance(event, Failed):
            fail(self._span, event.error)
        else:
            self._span.set_attributes(_attributes(event))
            self._phases(event.timings, now)
        self._span.end(now)

    def _phases(self, timings: Timings, end: int) -> None:
        """One child for each phase that took time. Known is how long they took: `queue` begins with the request, the
        others come one behind the other at its end. What is between was spent on waiting for room.
        """
        spans = [("queue", self._began, min(end, self._began + _ns(timings.queue_s)))]
        for name in ("commit", "decode", "prefill", "restore"):
            start = max(self._began, end - _ns(getattr(timings, f"{name}_s")))
            spans.insert(1, (name, start, end))
            end = start
        self._add(spans)

    def _add(self, spans: Iterable[tuple[str, int, int]]) -> None:
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(self._span)
        for name, start, end in spans:
            if start < end:
                self._tracer.start_span(name, context=context, start_time=start).end(end)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _attributes(event: Finished) -> Mapping[str, str | int | float | bool]:
    known: dict[str, str | int | float | bool] = {
        "agentmem.turn": event.turn,
        "agentmem.durable": event.durable,
        "agentmem.repeated_result": event.repeated_result,
        "agentmem.exactness": event.usage.exactness.value,
        "agentmem.ttft_s": event.timings.ttft_s,
    }
    known |= {f"agentmem.{name}": getattr(event.usage, name) for name in _USAGE}
    if event.finish_reason is not None:
        known["agentmem.finish_reason"] = event.finish_reason.value
    return known


def traces(settings: DaemonSettings) -> Traces:
    """As the settings, or OpenTelemetry's own environment, say. Raises StartError.

    That environment is often meant for other programs: without the extra it makes a warning, not an error.
    """
    standard = any(map(os.environ.get, _STANDARD)) and os.environ.get("OTEL_TRACES_EXPORTER") != "none"
    if settings.otlp_endpoint is None and not standard:
        return NoTraces()
    try:
        return OtelTraces(_provider(settings.otlp_endpoint), settings.otlp_names)
    except ModuleNotFoundError:
        if settings.otlp_endpoint is not None:
            raise StartError(f"Traces need more packages. Run: {install_line('otel')}", EXIT_NO_EXTRA) from None
        logger.warning("no traces, though OTEL_EXPORTER_OTLP_ENDPOINT is set; they need: %s", install_line("otel"))
        return NoTraces()


def _provider(otlp_endpoint: str | None) -> TracerProvider:
    """Sends by OTLP over HTTP, in batches, from a thread of its own."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    about = {"service.version": __version__}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        about["service.name"] = "agentmem"
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{otlp_endpoint.rstrip('/')}/v1/traces") if otlp_endpoint else OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider

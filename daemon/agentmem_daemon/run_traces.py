"""The OpenTelemetry span of a run, with the nodes of its plan as children. It holds nothing that was said.

Of a node it tells the type, where it stands in the plan, and what its roles cost; its id, which the caller chose, only
if names are asked for. Of the knowledge pool's entry it tells nothing: that of a learned one is made from a query.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from agentmem.errors import AgentmemError, Code

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from agentmem.primitives.agents import RoleUsage
    from agentmem_daemon.runs import Outcome

_COSTS = (
    "agents",
    "generated_tokens",
    "latent_steps",
    "prefill_tokens",
    "saved_tokens",
    "bytes_read",
    "bytes_written",
)
"""Of all roles together."""


class RunTrace(Protocol):
    """Of one run; any thread may call."""

    def node(self, id: str) -> None:
        """A node of the plan begins."""

    def end(self, end: Outcome | BaseException) -> None:
        """What came of the run."""


class NoRunTrace:
    """Where nobody asked for traces."""

    def node(self, id: str) -> None: ...

    def end(self, end: Outcome | BaseException) -> None: ...


class OtelRunTrace:
    """names: whether ids of nodes are told."""

    def __init__(self, tracer: Any, span: Span, names: bool) -> None:
        self._tracer, self._span, self._names = tracer, span, names
        self._began: dict[str, int] = {}

    def node(self, id: str) -> None:
        self._began[id] = time.time_ns()

    def end(self, end: Outcome | BaseException) -> None:
        now = time.time_ns()
        if isinstance(end, BaseException):
            fail(self._span, end)
        else:
            roles = [*end.organizing, *(role for result in end.result.nodes.values() for role in result.roles)]
            self._span.set_attributes(
                {
                    "agentmem.plan_source": end.choice.source.value,
                    "agentmem.nodes": len(end.choice.plan.nodes),
                    "agentmem.exactness": end.result.exactness.value,
                    **_costs(roles),
                }
            )
            self._nodes(end, now)
        self._span.end(now)

    def _nodes(self, outcome: Outcome, now: int) -> None:
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(self._span)
        for number, node in enumerate(outcome.choice.plan.nodes, 1):
            result, began = outcome.result.nodes[node.id], self._began[node.id]
            attributes = {
                "agentmem.node": number,
                "agentmem.medium": result.medium.value,
                "agentmem.exactness": result.exactness.value,
                "agentmem.roles": [role.role for role in result.roles],
                **_costs(result.roles),
            }
            if self._names:
                attributes["agentmem.node_id"] = node.id
            span = self._tracer.start_span(node.type, context=context, attributes=attributes, start_time=began)
            span.end(min(now, began + round(result.seconds * 1e9)))


def fail(span: Span, error: BaseException) -> None:
    """Notes why what the span is of failed: by the reason alone. What was cancelled is no error."""
    from opentelemetry.trace import Status, StatusCode

    reason = error.reason.value if isinstance(error, AgentmemError) else "INTERNAL"
    span.set_attribute("agentmem.error_reason", reason)
    if not (isinstance(error, AgentmemError) and error.code is Code.CANCELLED):
        span.set_status(Status(StatusCode.ERROR, reason))


def _costs(roles: Iterable[RoleUsage]) -> dict[str, Any]:
    roles = list(roles)
    return {f"agentmem.{name}": sum(getattr(role, name) for role in roles) for name in _COSTS}

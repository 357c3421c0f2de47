"""The contract's fields and requests -> engine types, strictly: one clear error per mistake, and nothing doubtful
reaches the engine. Turns have a file of their own, `turn_requests`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import TypedDict, TypeVar

from google.protobuf.duration_pb2 import Duration

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.flow import Medium
from agentmem.types import (
    DEFAULT_NAMESPACE,
    MAX_NAME_BYTES,
    AgentRef,
    Priority,
    Residency,
    Share,
)
from agentmem.v1 import agents_pb2, generation_pb2, latent_pb2, maintenance_pb2, primitives_pb2, types_pb2

T = TypeVar("T")
V = TypeVar("V")

MAX_SPAN_S = 100 * 365 * 86_400.0
"""A hundred years: no moment computed from it leaves the calendar."""

_PRIORITY = {
    types_pb2.PRIORITY_UNSPECIFIED: Priority.NORMAL,
    types_pb2.PRIORITY_LOW: Priority.LOW,
    types_pb2.PRIORITY_NORMAL: Priority.NORMAL,
    types_pb2.PRIORITY_HIGH: Priority.HIGH,
}
_SHARE = {
    types_pb2.SHARE_UNSPECIFIED: None,
    types_pb2.SHARE_NAMESPACE: Share.NAMESPACE,
    types_pb2.SHARE_PRIVATE: Share.PRIVATE,
}
_EVICT_TO = {
    types_pb2.RESIDENCY_UNSPECIFIED: Residency.WARM,
    types_pb2.RESIDENCY_WARM: Residency.WARM,
    types_pb2.RESIDENCY_COLD: Residency.COLD,
}
_PRIMITIVE = {
    primitives_pb2.PRIMITIVE_UNSPECIFIED: None,
    primitives_pb2.PRIMITIVE_ANSWER: "answer",
    primitives_pb2.PRIMITIVE_REVIEW: "review",
    primitives_pb2.PRIMITIVE_VOTE: "vote",
    primitives_pb2.PRIMITIVE_PLAN_EXECUTE: "plan_execute",
}
_MEDIUM = {
    primitives_pb2.MEDIUM_UNSPECIFIED: None,
    primitives_pb2.MEDIUM_LATENT: Medium.LATENT,
    primitives_pb2.MEDIUM_TEXT: Medium.TEXT,
    primitives_pb2.MEDIUM_BOTH: Medium.BOTH,
}


def agent_ref(ref: types_pb2.AgentRef) -> AgentRef:
    """An unset ref has an empty name, and is refused as one."""
    return AgentRef(namespace(ref.namespace), agent_name(ref.name))


def agent_name(name: str) -> str:
    if not name:
        raise AgentmemError(Reason.AGENT_NAME_INVALID, "The agent's name is empty or not set.")
    return _checked_name(name, "An agent's name", Reason.AGENT_NAME_INVALID)


def namespace(name: str) -> str:
    """Empty means the default namespace."""
    return _checked_name(name, "A namespace", Reason.NAMESPACE_INVALID) if name else DEFAULT_NAMESPACE


def new_namespace(name: str) -> str:
    """As `namespace`, where the name must be given."""
    if not name:
        raise AgentmemError(Reason.NAMESPACE_INVALID, "The namespace's name is empty or not set.")
    return namespace(name)


def request_id(text: str) -> str:
    """Empty where the caller does not mean to repeat the call."""
    return _checked_name(text, "A request_id", Reason.INPUT_INVALID)


def _checked_name(name: str, what: str, reason: Reason) -> str:
    size = len(name.encode())
    if size > MAX_NAME_BYTES:
        raise AgentmemError(
            reason, f"{what} has at most {MAX_NAME_BYTES} bytes; this one has {size}.", limit=MAX_NAME_BYTES, size=size
        )
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise AgentmemError(reason, f"{what} holds no control characters; this one does.")
    return name


def expect_turn(
    request: generation_pb2.GenerateRequest
    | generation_pb2.AppendRequest
    | latent_pb2.ThinkRequest
    | latent_pb2.SpliceRequest
    | agents_pb2.DeleteAgentRequest
    | agents_pb2.ForkAgentRequest
    | agents_pb2.RewindAgentRequest
    | agents_pb2.UpdateAgentRequest
    | agents_pb2.EvictAgentRequest
    | maintenance_pb2.PruneRequest,
) -> int | None:
    return request.expect_turn if request.HasField("expect_turn") else None


def share(value: types_pb2.Share) -> Share | None:
    """None if unspecified."""
    return choice(value, _SHARE, "share")


def priority(value: types_pb2.Priority) -> Priority:
    return choice(value, _PRIORITY, "priority")


def primitive(value: primitives_pb2.Primitive) -> str | None:
    """A type of a plan's nodes; None if unspecified."""
    return choice(value, _PRIMITIVE, "primitive")


def medium(value: primitives_pb2.Medium) -> Medium | None:
    """None if unspecified."""
    return choice(value, _MEDIUM, "medium")


def evict_to(value: types_pb2.Residency) -> Residency:
    return choice(value, _EVICT_TO, "to")


def ttl(request: agents_pb2.CreateAgentRequest | agents_pb2.UpdateAgentRequest) -> float | None:
    """Seconds; None if unset."""
    return _span(request.ttl, "ttl") if request.HasField("ttl") else None


class PruneWhat(TypedDict, total=False):
    """What the engine's `prune` is to prune, as its arguments."""

    agent: str
    expect_turn: int | None
    older_than_s: float
    expired: bool


def prune(request: maintenance_pb2.PruneRequest) -> PruneWhat:
    """Empty: only what no agent uses."""
    what, expected = request.WhichOneof("what"), expect_turn(request)
    if expected is not None and what != "history_of":
        raise AgentmemError(Reason.INPUT_INVALID, "expect_turn is for pruning the history of an agent only.")
    match what:
        case "history_of":
            return {"agent": agent_name(request.history_of), "expect_turn": expected}
        case "older_than":
            return {"older_than_s": _span(request.older_than, "older_than")}
        case "expired" if request.expired:
            return {"expired": True}
    return {}


def events(request: maintenance_pb2.ListEventsRequest) -> tuple[str | None, str | None, float]:
    """Namespace and agent, None for all, and from which moment on (Unix seconds)."""
    agent = agent_name(request.agent) if request.agent else None
    space = namespace(request.namespace) if agent or request.HasField("namespace") else None
    return space, agent, request.since.ToMicroseconds() / 1e6


def import_header(message: agents_pb2.ImportAgentRequest | None) -> tuple[str, str | None, bool, str]:
    """Namespace, name (None: the one in the file), text only, request id; from the first message of an import."""
    if message is None or message.WhichOneof("part") != "header":
        raise AgentmemError(Reason.INPUT_INVALID, "An import begins with its header.")
    header = message.header
    name = agent_name(header.agent.name) if header.agent.name else None
    return namespace(header.agent.namespace), name, header.text_only, request_id(header.request_id)


def choice(value: V, choices: Mapping[V, T], field: str) -> T:
    """What a value of the contract means here. Raises INPUT_INVALID for one that this daemon does not know."""
    if value not in choices:
        raise AgentmemError(Reason.INPUT_INVALID, f"{field} {value} is not a known choice.", field=field)
    return choices[value]


def _span(duration: Duration, field: str) -> float:
    """Seconds."""
    span = duration.seconds + duration.nanos / 1e9
    if not 0 <= span <= MAX_SPAN_S:
        raise AgentmemError(Reason.INPUT_INVALID, f"{field} lies between 0 and a hundred years.", field=field)
    return span

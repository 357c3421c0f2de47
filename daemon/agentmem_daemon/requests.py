"""Proto requests -> engine types, strictly: one clear error per mistake, and nothing doubtful reaches the engine."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import TypedDict, TypeVar

from google.protobuf.duration_pb2 import Duration

from agentmem.engine.request import (
    ChatInput,
    Durability,
    Input,
    OnCancel,
    Priority,
    Request,
    Sampling,
    Slice,
    SpliceInput,
    TextInput,
    Thinking,
    TokenInput,
)
from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.flow import Medium
from agentmem.types import (
    CHECK_LAYER,
    DEFAULT_NAMESPACE,
    MAX_NAME_BYTES,
    RATIO,
    ROLES,
    AgentRef,
    Message,
    Order,
    Projection,
    Reposition,
    Residency,
    Share,
    ToolCall,
)
from agentmem.v1 import agents_pb2, generation_pb2, latent_pb2, maintenance_pb2, primitives_pb2, types_pb2

T = TypeVar("T")
V = TypeVar("V")

MAX_SPAN_S = 100 * 365 * 86_400.0
"""A hundred years: no moment computed from it leaves the calendar."""

_ON_CANCEL = {
    generation_pb2.ON_CANCEL_UNSPECIFIED: OnCancel.COMMIT,
    generation_pb2.ON_CANCEL_COMMIT: OnCancel.COMMIT,
    generation_pb2.ON_CANCEL_DISCARD: OnCancel.DISCARD,
}
_DURABILITY = {
    generation_pb2.DURABILITY_UNSPECIFIED: Durability.DURABLE,
    generation_pb2.DURABILITY_DURABLE: Durability.DURABLE,
    generation_pb2.DURABILITY_WRITE_BEHIND: Durability.WRITE_BEHIND,
}
_PRIORITY = {
    types_pb2.PRIORITY_UNSPECIFIED: Priority.NORMAL,
    types_pb2.PRIORITY_LOW: Priority.LOW,
    types_pb2.PRIORITY_NORMAL: Priority.NORMAL,
    types_pb2.PRIORITY_HIGH: Priority.HIGH,
}
_PROJECTION = {
    latent_pb2.PROJECTION_UNSPECIFIED: Projection.RIDGE,
    latent_pb2.PROJECTION_IDENTITY: Projection.IDENTITY,
    latent_pb2.PROJECTION_RIDGE: Projection.RIDGE,
    latent_pb2.PROJECTION_SOFTMAX: Projection.SOFTMAX,
}
_REPOSITION = {
    latent_pb2.REPOSITION_UNSPECIFIED: Reposition.REPOSITION,
    latent_pb2.REPOSITION_EXACT: Reposition.EXACT,
    latent_pb2.REPOSITION_REPOSITION: Reposition.REPOSITION,
    latent_pb2.REPOSITION_BLEND: Reposition.BLEND,
}
_ORDER = {
    latent_pb2.PART_ORDER_UNSPECIFIED: Order.GIVEN,
    latent_pb2.PART_ORDER_GIVEN: Order.GIVEN,
    latent_pb2.PART_ORDER_CANONICAL: Order.CANONICAL,
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
_MODES = (generation_pb2.INPUT_MODE_UNSPECIFIED, generation_pb2.INPUT_MODE_APPEND)


def generate_request(request: generation_pb2.GenerateRequest) -> Request:
    """A turn that generates."""
    if request.mode not in _MODES:
        raise AgentmemError(Reason.INPUT_INVALID, f"mode {request.mode} is not a known input mode.")
    return _turn_request(request, sampling(request.sampling))


def append_request(request: generation_pb2.AppendRequest) -> Request:
    """A turn that only appends."""
    return _turn_request(request, None)


def think_request(request: latent_pb2.ThinkRequest) -> Request:
    """A turn of latent steps."""
    thinking = Thinking(request.steps, _choice(request.projection, _PROJECTION, "projection"))
    return _turn_request(request, None, thinking)


def splice_request(request: latent_pb2.SpliceRequest) -> Request:
    """A turn that takes parts of other agents' timelines."""
    given = SpliceInput(
        tuple(_slice(part) for part in request.parts),
        _choice(request.reposition, _REPOSITION, "reposition"),
        _choice(request.order, _ORDER, "order"),
        request.ratio if request.HasField("ratio") else RATIO,
        request.check_layer if request.HasField("check_layer") else CHECK_LAYER,
    )
    return Request(
        agent=agent_ref(request.agent),
        input=given,
        create=request.create,
        rebuild=request.rebuild,
        request_id=request_id(request.request_id),
        expect_turn=expect_turn(request),
        durability=_choice(request.durability, _DURABILITY, "durability"),
        priority=_choice(request.priority, _PRIORITY, "priority"),
    )


def _slice(part: latent_pb2.Slice) -> Slice:
    end, turn = (getattr(part, name) if part.HasField(name) else None for name in ("end", "turn"))
    return Slice(agent_name(part.agent), part.start, end, turn)


def _turn_request(
    request: generation_pb2.GenerateRequest | generation_pb2.AppendRequest | latent_pb2.ThinkRequest,
    sampling: Sampling | None,
    thinking: Thinking | None = None,
) -> Request:
    may_lack = thinking is not None and not request.HasField("input")
    return Request(
        agent=agent_ref(request.agent),
        input=None if may_lack else turn_input(request.input),
        sampling=sampling,
        thinking=thinking,
        on_cancel=_choice(request.on_cancel, _ON_CANCEL, "on_cancel"),
        create=request.create,
        rebuild=request.rebuild,
        request_id=request_id(request.request_id),
        expect_turn=expect_turn(request),
        durability=_choice(request.durability, _DURABILITY, "durability"),
        priority=_choice(request.priority, _PRIORITY, "priority"),
    )


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


def share(choice: types_pb2.Share) -> Share | None:
    """None if unspecified."""
    return _choice(choice, _SHARE, "share")


def priority(choice: types_pb2.Priority) -> Priority:
    return _choice(choice, _PRIORITY, "priority")


def primitive(choice: primitives_pb2.Primitive) -> str | None:
    """A type of a plan's nodes; None if unspecified."""
    return _choice(choice, _PRIMITIVE, "primitive")


def medium(choice: primitives_pb2.Medium) -> Medium | None:
    """None if unspecified."""
    return _choice(choice, _MEDIUM, "medium")


def evict_to(choice: types_pb2.Residency) -> Residency:
    return _choice(choice, _EVICT_TO, "to")


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


def _choice(value: V, choices: Mapping[V, T], field: str) -> T:
    if value not in choices:
        raise AgentmemError(Reason.INPUT_INVALID, f"{field} {value} is not a known choice.", field=field)
    return choices[value]


def _span(duration: Duration, field: str) -> float:
    """Seconds."""
    span = duration.seconds + duration.nanos / 1e9
    if not 0 <= span <= MAX_SPAN_S:
        raise AgentmemError(Reason.INPUT_INVALID, f"{field} lies between 0 and a hundred years.", field=field)
    return span


def turn_input(content: types_pb2.Input) -> Input:
    match content.WhichOneof("content"):
        case "chat" if content.chat.messages:
            return ChatInput(tuple(_message(message, n) for n, message in enumerate(content.chat.messages, 1)))
        case "text" if content.text:
            return TextInput(content.text)
        case "token_ids" if content.token_ids.ids:
            return TokenInput(tuple(content.token_ids.ids))
        case None:
            raise AgentmemError(Reason.EMPTY_INPUT, "No input is set: give chat messages, text or token ids.")
        case kind:
            raise AgentmemError(Reason.EMPTY_INPUT, f"The input's {kind} is empty: there is nothing to add.")


def _message(message: types_pb2.ChatMessage, number: int) -> Message:
    """`number` counts from 1, for error sentences."""
    role = message.role
    if role not in ROLES:
        raise AgentmemError(
            Reason.ROLE_INVALID,
            f"Message {number} has no known role; the roles are {', '.join(ROLES)}.",
            number=number,
        )
    if any(part.WhichOneof("part") is None for part in message.parts):
        raise _invalid(number, "has a content part without content, or of a kind that this daemon does not know")
    if message.tool_calls and role != "assistant":
        raise _invalid(number, "has tool calls, which only a message of role assistant can have")
    if message.tool_call_id and role != "tool":
        raise _invalid(number, "has a tool_call_id, which only a message of role tool can have")
    if message.reasoning and role != "assistant":
        raise _invalid(number, "has reasoning, which only a message of role assistant can have")
    parts = tuple(part.text for part in message.parts)
    if not (any(parts) or message.tool_calls or role == "tool"):  # a tool may well return nothing
        raise AgentmemError(Reason.EMPTY_INPUT, f"Message {number} (role {role}) is empty.", number=number)
    return Message(
        role=role,
        parts=parts,
        tool_calls=tuple(_tool_call(call, number) for call in message.tool_calls),
        tool_call_id=message.tool_call_id,
        reasoning=message.reasoning,
    )


def _tool_call(call: types_pb2.ToolCall, number: int) -> ToolCall:
    if not call.name:
        raise _invalid(number, "has a tool call without a name")
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise _invalid(number, "has a tool call whose arguments are not a JSON object")
    return ToolCall(call.id, call.name, call.arguments)


def _invalid(number: int, what: str) -> AgentmemError:
    return AgentmemError(Reason.INPUT_INVALID, f"Message {number} {what}.", number=number)


def sampling(choice: generation_pb2.Sampling) -> Sampling:
    """Unset is greedy, up to the end of the context window."""
    return Sampling(
        temperature=choice.temperature,
        top_p=choice.top_p if choice.HasField("top_p") else 1.0,
        top_k=choice.top_k,
        seed=choice.seed if choice.HasField("seed") else None,
        max_tokens=choice.max_tokens if choice.HasField("max_tokens") else None,
        stop=tuple(choice.stop),
        json_schema=choice.json_schema,
    )

"""What of the contract's requests stands for a turn, as engine types; as strict as `requests`."""

from __future__ import annotations

import json
from typing import TypedDict

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
from agentmem.types import CHECK_LAYER, RATIO, ROLES, AgentRef, Message, Order, Projection, Reposition, ToolCall
from agentmem.v1 import generation_pb2, latent_pb2, types_pb2
from agentmem_daemon.requests import agent_name, agent_ref, choice, expect_turn, priority, request_id

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
    thinking = Thinking(request.steps, choice(request.projection, _PROJECTION, "projection"))
    return _turn_request(request, None, thinking)


def splice_request(request: latent_pb2.SpliceRequest) -> Request:
    """A turn that takes parts of other agents' timelines."""
    given = SpliceInput(
        tuple(_slice(part) for part in request.parts),
        choice(request.reposition, _REPOSITION, "reposition"),
        choice(request.order, _ORDER, "order"),
        request.ratio if request.HasField("ratio") else RATIO,
        request.check_layer if request.HasField("check_layer") else CHECK_LAYER,
    )
    return Request(input=given, **_of_any(request))


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
        input=None if may_lack else turn_input(request.input),
        sampling=sampling,
        thinking=thinking,
        on_cancel=choice(request.on_cancel, _ON_CANCEL, "on_cancel"),
        **_of_any(request),
    )


class _OfAny(TypedDict):
    """What requests for turns of any kind have, as arguments of `Request`."""

    agent: AgentRef
    create: bool
    rebuild: bool
    request_id: str
    expect_turn: int | None
    durability: Durability
    priority: Priority


def _of_any(
    request: generation_pb2.GenerateRequest
    | generation_pb2.AppendRequest
    | latent_pb2.ThinkRequest
    | latent_pb2.SpliceRequest,
) -> _OfAny:
    return {
        "agent": agent_ref(request.agent),
        "create": request.create,
        "rebuild": request.rebuild,
        "request_id": request_id(request.request_id),
        "expect_turn": expect_turn(request),
        "durability": choice(request.durability, _DURABILITY, "durability"),
        "priority": priority(request.priority),
    }


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


def sampling(given: generation_pb2.Sampling) -> Sampling:
    """Unset is greedy, up to the end of the context window."""
    return Sampling(
        temperature=given.temperature,
        top_p=given.top_p if given.HasField("top_p") else 1.0,
        top_k=given.top_k,
        seed=given.seed if given.HasField("seed") else None,
        max_tokens=given.max_tokens if given.HasField("max_tokens") else None,
        stop=tuple(given.stop),
        json_schema=given.json_schema,
    )

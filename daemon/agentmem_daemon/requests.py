"""Proto requests -> engine types, strictly: one clear error per mistake, and nothing doubtful reaches the engine."""

from __future__ import annotations

import json
import unicodedata

from agentmem.engine.request import ChatInput, Input, OnCancel, Request, Sampling, TextInput, TokenInput
from agentmem.errors import AgentmemError, Reason
from agentmem.types import DEFAULT_NAMESPACE, ROLES, AgentRef, Message, ToolCall
from agentmem.v1 import agents_pb2, generation_pb2, types_pb2

MAX_NAME_BYTES = 256

_ON_CANCEL = {
    generation_pb2.ON_CANCEL_UNSPECIFIED: OnCancel.COMMIT,
    generation_pb2.ON_CANCEL_COMMIT: OnCancel.COMMIT,
    generation_pb2.ON_CANCEL_DISCARD: OnCancel.DISCARD,
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


def _turn_request(
    request: generation_pb2.GenerateRequest | generation_pb2.AppendRequest, sampling: Sampling | None
) -> Request:
    if request.on_cancel not in _ON_CANCEL:
        raise AgentmemError(Reason.INPUT_INVALID, f"on_cancel {request.on_cancel} is not a known choice.")
    return Request(
        agent=agent_ref(request.agent),
        input=turn_input(request.input),
        sampling=sampling,
        on_cancel=_ON_CANCEL[request.on_cancel],
        create=request.create,
        rebuild=request.rebuild,
        request_id=request_id(request.request_id),
        expect_turn=expect_turn(request),
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
    request: generation_pb2.GenerateRequest | generation_pb2.AppendRequest | agents_pb2.DeleteAgentRequest,
) -> int | None:
    return request.expect_turn if request.HasField("expect_turn") else None


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
    )

"""What callers pass, checked and turned into protobuf. Refuses locally what protobuf could only trip over.

Errors never quote the text they refuse, and hide protobuf's own, which would.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import index
from typing import Any, TypeAlias
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agentmem.v1 import generation_pb2, latent_pb2, types_pb2
from agentmem_client.errors import InvalidRequest
from agentmem_client.types import Message, Slice, ToolCall

MessageLike: TypeAlias = Message | Mapping[str, Any]
"""A `Message`, or a dict as chat APIs have it: role, content, tool_calls, tool_call_id, reasoning."""

_MESSAGE_KEYS = {"role", "content", "tool_calls", "tool_call_id", "reasoning"}


def text(value: Any, what: str) -> str:
    """`value`, if it is a string that UTF-8 can encode."""
    if not isinstance(value, str):
        raise invalid(f"{what} must be a string, not {type(value).__name__}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise invalid(f"{what} holds a lone surrogate at character {error.start}; UTF-8 cannot encode it.") from None
    return value


def unsigned(value: Any, what: str, bits: int, reason: str = "INPUT_INVALID") -> int:
    """`value`, if it is an integer of 0..2^bits-1."""
    try:
        number = index(value)
    except TypeError:
        raise invalid(f"{what} must be an integer, not {type(value).__name__}.", reason) from None
    if not 0 <= number < 1 << bits:
        raise invalid(f"{what} must be in 0..{(1 << bits) - 1}.", reason)
    return number


def optional_unsigned(value: Any, what: str, bits: int = 64, reason: str = "INPUT_INVALID") -> int | None:
    return None if value is None else unsigned(value, what, bits, reason)


def invalid(message: str, reason: str = "INPUT_INVALID") -> InvalidRequest:
    return InvalidRequest(message, reason=reason)


def agent_ref(namespace: str, name: str) -> types_pb2.AgentRef:
    return types_pb2.AgentRef(namespace=text(namespace, "The namespace"), name=text(name, "The agent's name"))


def request_id(given: str | None) -> str:
    """The caller's id, else a new one, so that each attempt is the same request."""
    return text(given, "request_id") if given else str(uuid4())


def slices(parts: str | Slice | Iterable[str | Slice]) -> list[latent_pb2.Slice]:
    """A name or a slice by itself is one part."""
    if isinstance(parts, str | Slice):
        parts = [parts]
    if not isinstance(parts, Iterable):
        raise invalid(f"The parts must be a list of names and slices, not {type(parts).__name__}.")
    return [_slice(part) for part in parts]


def _slice(part: Any) -> latent_pb2.Slice:
    """A name is the whole of that agent."""
    whole = Slice(part) if isinstance(part, str) else part
    if not isinstance(whole, Slice):
        raise invalid(f"A part must be an agent's name or a Slice, not {type(part).__name__}.")
    return latent_pb2.Slice(
        agent=text(whole.agent, "A part's agent"),
        turn=optional_unsigned(whole.turn, "turn"),
        start=unsigned(whole.start, "start", 64),
        end=optional_unsigned(whole.end, "end"),
    )


def span(value: float | timedelta, what: str) -> Duration:
    """A span of time, given in seconds or as a timedelta."""
    duration = Duration()
    try:
        duration.FromTimedelta(value if isinstance(value, timedelta) else timedelta(seconds=value))
    except (TypeError, ValueError, OverflowError):
        raise invalid(f"{what} must be a timedelta or a number of seconds.") from None
    return duration


def optional_span(value: float | timedelta | None, what: str) -> Duration | None:
    return None if value is None else span(value, what)


def optional_moment(value: datetime | None, what: str) -> Timestamp | None:
    """A moment, of local time unless it says otherwise."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise invalid(f"{what} must be a datetime, not {type(value).__name__}.")
    moment = Timestamp()
    moment.FromDatetime(value.astimezone(UTC))
    return moment


def prompt(
    raw: str | None = None, messages: Sequence[MessageLike] | None = None, token_ids: Iterable[int] | None = None
) -> types_pb2.Input:
    """The input from whichever of the three was given: raw text, messages, or token ids."""
    if sum(given is not None for given in (raw, messages, token_ids)) != 1:
        raise invalid("Give exactly one of text, messages and token_ids.")
    if raw is not None:
        return types_pb2.Input(text=text(raw, "The text"))
    if messages is not None:
        if isinstance(messages, str | Mapping):
            raise invalid("Messages must be a list of messages.")
        return types_pb2.Input(chat=types_pb2.ChatMessages(messages=[_message(one) for one in messages]))
    assert token_ids is not None
    ids = [unsigned(one, "A token id", 32, "TOKEN_ID_OUT_OF_RANGE") for one in token_ids]
    return types_pb2.Input(token_ids=types_pb2.TokenIds(ids=ids))


def chat(content: str | Sequence[MessageLike], system: str | None = None) -> types_pb2.Input:
    """A conversation's next messages. A string is one user message; `system` goes before them."""
    messages: list[MessageLike] = [Message("user", content)] if isinstance(content, str) else list(content)
    return prompt(messages=messages if system is None else [Message("system", system), *messages])


def append(content: str | Sequence[MessageLike] | None, token_ids: Iterable[int] | None) -> types_pb2.Input:
    """A string is raw text, encoded as it is; a list is messages."""
    if isinstance(content, str):
        return prompt(raw=content, token_ids=token_ids)
    return prompt(messages=content, token_ids=token_ids)


def thinking(content: str | Sequence[MessageLike] | None, token_ids: Iterable[int] | None) -> types_pb2.Input | None:
    """As for `append`; None if there is neither."""
    return None if content is None and token_ids is None else append(content, token_ids)


def sampling(
    temperature: float,
    top_p: float | None,
    top_k: int,
    seed: int | None,
    max_tokens: int | None,
    stop: str | Sequence[str],
    json_schema: str | Mapping[str, Any] | None,
) -> generation_pb2.Sampling:
    reason = "SAMPLING_INVALID"
    stops = [stop] if isinstance(stop, str) else stop
    return generation_pb2.Sampling(
        temperature=number(temperature, "temperature"),
        top_p=None if top_p is None else number(top_p, "top_p"),
        top_k=unsigned(top_k, "top_k", 32, reason),
        seed=optional_unsigned(seed, "seed", 64, reason),
        max_tokens=optional_unsigned(max_tokens, "max_tokens", 32, reason),
        stop=[text(one, "A stop sequence") for one in stops],
        json_schema=_json(json_schema, "json_schema"),
    )


def plan(value: str | Mapping[str, Any] | None) -> str:
    return _json(value, "The plan")


def _json(value: str | Mapping[str, Any] | None, what: str) -> str:
    """JSON, or what it says; empty for None."""
    if isinstance(value, Mapping):
        try:
            value = json.dumps(dict(value))
        except (TypeError, ValueError, RecursionError):
            raise invalid(f"{what} must be what JSON can say.") from None
    return text("" if value is None else value, what)


def optional_number(value: Any, what: str) -> float | None:
    return None if value is None else number(value, what)


def number(value: Any, what: str, reason: str = "SAMPLING_INVALID") -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise invalid(f"{what} must be a number, not {type(value).__name__}.", reason) from None


def _message(message: MessageLike) -> types_pb2.ChatMessage:
    if isinstance(message, Message):
        parts, calls = [message.content] if message.content else [], message.tool_calls
        message = {"role": message.role, "tool_call_id": message.tool_call_id, "reasoning": message.reasoning}
    elif isinstance(message, Mapping):
        # Chat libraries dump messages with every key there is, most of them empty.
        if unknown := [key for key, value in message.items() if value and key not in _MESSAGE_KEYS]:
            raise invalid(
                f"A message has the unknown key {unknown[0]!r}; known are {', '.join(sorted(_MESSAGE_KEYS))}."
            )
        parts, calls = _parts(message.get("content")), message.get("tool_calls") or ()
    else:
        raise invalid(f"A message must be a Message or a dict, not {type(message).__name__}.")
    return types_pb2.ChatMessage(
        role=text(message.get("role"), "A message's role"),
        parts=[types_pb2.ContentPart(text=text(part, "A message's content")) for part in parts],
        tool_calls=[_tool_call(call) for call in calls],
        tool_call_id=text(message.get("tool_call_id") or "", "A message's tool_call_id"),
        reasoning=text(message.get("reasoning") or "", "A message's reasoning"),
    )


def _parts(content: Any) -> list[str]:
    """content: None, a string, or a list of strings and {"type": "text", "text": …}."""
    if content is None or isinstance(content, str):
        return [content] if content else []
    if not isinstance(content, Sequence):
        raise invalid(f"A message's content must be a string or a list, not {type(content).__name__}.")
    return [_part(part) for part in content]


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    raise invalid("A message's content may hold text only.")


def _tool_call(call: Any) -> types_pb2.ToolCall:
    """A `ToolCall`, or a dict with id, name and arguments, the last two perhaps inside of "function"."""
    if isinstance(call, ToolCall):
        values = {"id": call.id, "name": call.name, "arguments": call.arguments}
    elif isinstance(call, Mapping):
        values = {**call, **(call.get("function") or {})}
    else:
        raise invalid(f"A tool call must be a ToolCall or a dict, not {type(call).__name__}.")
    checked = {key: text(values.get(key) or "", f"A tool call's {key}") for key in ("id", "name", "arguments")}
    return types_pb2.ToolCall(**checked)

"""What can be refused before a request is queued."""

from __future__ import annotations

import json

from agentmem.engine.request import ChatInput, Request, SpliceInput, TextInput, TokenInput
from agentmem.errors import AgentmemError, Reason
from agentmem.model.loader import LoadedModel
from agentmem.types import ROLES, Message

MAX_BYTES_PER_POSITION = 64
"""No real tokenizer averages more: a longer prompt is refused without encoding it."""


def check(request: Request, model: LoadedModel) -> None:
    """Raises AgentmemError for a request that no state of the agent could make valid."""
    if request.sampling is not None and request.sampling.json_schema:
        model.grammars.check(request.sampling.json_schema)
    given = request.input
    if given is None:
        if request.thinking is None:
            raise AgentmemError(Reason.EMPTY_INPUT, "there is no input; there is nothing to add")
        return
    if isinstance(given, SpliceInput):  # what its parts are is for their agents to say
        return
    if isinstance(given, TokenInput):
        _check_ids(given, model)
        return
    texts = [given.text] if isinstance(given, TextInput) else _chat_texts(given)
    if isinstance(given, TextInput) and not given.text:
        raise AgentmemError(Reason.EMPTY_INPUT, "the text is empty; there is nothing to add")
    try:
        size = sum(len(t.encode()) for t in texts)
    except UnicodeEncodeError as error:
        raise AgentmemError(Reason.INPUT_INVALID, "the input holds text that is not valid Unicode") from error
    limit = model.context_limit * MAX_BYTES_PER_POSITION
    if size > limit:
        raise AgentmemError(
            Reason.PROMPT_TOO_LARGE,
            f"the input has {size} bytes; this model's context of {model.context_limit} tokens never takes more than "
            f"{limit}. Send it in parts to several agents, or less of it",
            bytes=size,
            limit=limit,
        )


def _chat_texts(chat: ChatInput) -> list[str]:
    if not chat.messages:
        raise AgentmemError(Reason.EMPTY_INPUT, "there are no messages; there is nothing to add")
    for m in chat.messages:
        if m.role not in ROLES:
            raise AgentmemError(Reason.ROLE_INVALID, f"a message's role must be one of {', '.join(ROLES)}")
        if not m.text and not m.tool_calls and m.role != "tool":  # a tool may well return nothing
            raise AgentmemError(Reason.EMPTY_INPUT, f"a message of role {m.role} is empty; leave it out or fill it")
    return [t for m in chat.messages for t in (m.text, m.reasoning, m.tool_call_id, *_call_texts(m))]


def _call_texts(message: Message) -> list[str]:
    """What templates print of tool calls: arguments as parsed, since JSON can spell what no text can hold."""
    try:
        return [
            t
            for c in message.tool_calls
            for t in (c.id, c.name, json.dumps(json.loads(c.arguments), ensure_ascii=False))
        ]
    except ValueError as error:
        raise AgentmemError(Reason.INPUT_INVALID, "a tool call's arguments are not JSON") from error


def _check_ids(given: TokenInput, model: LoadedModel) -> None:
    if not given.ids:
        raise AgentmemError(Reason.EMPTY_INPUT, "there are no token ids; there is nothing to add")
    at = next((i for i, t in enumerate(given.ids) if not 0 <= t < model.vocab_size), None)
    if at is not None:
        raise AgentmemError(
            Reason.TOKEN_ID_OUT_OF_RANGE,
            f"the token id at index {at} is outside the vocabulary of {model.vocab_size}",
            index=at,
            vocab_size=model.vocab_size,
        )

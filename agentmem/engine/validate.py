"""What can be refused before a request is queued."""

from __future__ import annotations

import math

from agentmem.engine.request import ChatInput, Input, Request, Sampling, TextInput, TokenInput
from agentmem.errors import AgentmemError, Reason
from agentmem.model.loader import LoadedModel

ROLES = ("system", "user", "assistant", "tool")
MAX_BYTES_PER_POSITION = 64
"""No real tokenizer averages more: a longer prompt is refused without encoding it."""


def check(request: Request, model: LoadedModel) -> None:
    """Raises AgentmemError for a request that no state of the agent could make valid."""
    _check_input(request.input, model)
    if request.sampling is not None:
        check_sampling(request.sampling)


def check_sampling(s: Sampling) -> None:
    """SAMPLING_INVALID naming the field and its range."""
    wrong = None
    if not (math.isfinite(s.temperature) and 0 <= s.temperature <= 100):
        wrong = "temperature must lie between 0 and 100"
    elif not (math.isfinite(s.top_p) and 0 < s.top_p <= 1):
        wrong = "top_p must be above 0 and at most 1"
    elif s.top_k < 0:
        wrong = "top_k must not be negative; 0 means no limit"
    elif s.seed is not None and not 0 <= s.seed < 2**64:
        wrong = "seed must lie between 0 and 2**64 - 1"
    elif s.max_tokens is not None and s.max_tokens < 1:
        wrong = "max_tokens must be at least 1; use append to add context without a reply"
    elif len(s.stop) > 16 or not all(1 <= len(x.encode(errors="replace")) <= 256 for x in s.stop):
        wrong = "stop takes at most 16 sequences of 1 to 256 bytes each"
    if wrong:
        raise AgentmemError(Reason.SAMPLING_INVALID, wrong)


def _check_input(given: Input, model: LoadedModel) -> None:
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
        if not m.text and not m.tool_calls:
            raise AgentmemError(Reason.EMPTY_INPUT, f"a message of role {m.role} is empty; leave it out or fill it")
    return [t for m in chat.messages for t in (m.text, m.reasoning, *(c.arguments for c in m.tool_calls))]


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

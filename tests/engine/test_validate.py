"""What is refused before it is queued, whatever the agent remembers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agentmem.engine.request import ChatInput, Input, Request, TextInput, TokenInput
from agentmem.engine.validate import MAX_BYTES_PER_POSITION, check
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef, Message, ToolCall

MODEL: Any = SimpleNamespace(vocab_size=512, context_limit=100)
MOST = 100 * MAX_BYTES_PER_POSITION


def ask(given: Input) -> None:
    check(Request(AgentRef("default", "a"), given), MODEL)


def user(*parts: str) -> ChatInput:
    return ChatInput((Message("user", parts),))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (TokenInput((0, 512)), Reason.TOKEN_ID_OUT_OF_RANGE),
        (TokenInput((-1,)), Reason.TOKEN_ID_OUT_OF_RANGE),
        (TokenInput((2**31,)), Reason.TOKEN_ID_OUT_OF_RANGE),
        (TokenInput(()), Reason.EMPTY_INPUT),
        (TextInput(""), Reason.EMPTY_INPUT),
        (ChatInput(()), Reason.EMPTY_INPUT),
        (user(""), Reason.EMPTY_INPUT),
        (ChatInput((Message("oracle", ("x",)),)), Reason.ROLE_INVALID),
        (TextInput("x" * (MOST + 1)), Reason.PROMPT_TOO_LARGE),
        (TextInput("é" * (MOST // 2 + 1)), Reason.PROMPT_TOO_LARGE),
        (user("x" * 10_000_000), Reason.PROMPT_TOO_LARGE),
        (user("x" * (MOST // 2), "x" * (MOST // 2 + 1)), Reason.PROMPT_TOO_LARGE),
        (TextInput("\ud800"), Reason.INPUT_INVALID),
        (ChatInput((Message("assistant", (), (ToolCall("1", "f", "{"),)),)), Reason.INPUT_INVALID),
        (ChatInput((Message("assistant", (), (ToolCall("1", "f", '{"a": "\\ud800"}'),)),)), Reason.INPUT_INVALID),
        (
            ChatInput((Message("assistant", (), (ToolCall("1", "f", f'{{"a": "{"x" * MOST}"}}'),)),)),
            Reason.PROMPT_TOO_LARGE,
        ),
    ],
)
def test_refused(given: Input, reason: Reason) -> None:
    with pytest.raises(AgentmemError) as caught:
        ask(given)
    assert caught.value.reason is reason
    assert "x" * 5 not in caught.value.message


@pytest.mark.parametrize(
    "given",
    [
        TokenInput((0, 511)),
        TextInput("x" * MOST),
        TextInput("é" * (MOST // 2)),
        user("x"),
        ChatInput((Message("tool", ("",)),)),  # a tool may well return nothing
        ChatInput((Message("assistant", (), (ToolCall("1", "f", "{}"),)),)),
    ],
)
def test_taken(given: Input) -> None:
    ask(given)

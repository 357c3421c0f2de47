"""Page tokens: what a listing gave works there, and nothing else works anywhere."""

from __future__ import annotations

import base64

import pytest
from agentmem_daemon import paging

from agentmem.errors import AgentmemError, Reason

AGENTS, TURNS = ("agents", "default"), ("turns", "default", "alice")


@pytest.mark.parametrize("key", ["alice", "é🙂", "a/b=+", "x" * 256])
def test_tokens_come_back(key: str) -> None:
    assert paging.last_key(AGENTS, paging.page_token(AGENTS, key)) == key


def test_numbers() -> None:
    assert paging.last_number(TURNS, paging.page_token(TURNS, "12")) == 12


def test_no_token_is_the_first_page() -> None:
    assert paging.last_key(AGENTS, "") == ""
    assert paging.last_number(TURNS, "") == 0


def encoded(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode()


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        "%%%",
        "é",
        "a",
        encoded(b"\xff\xfe"),
        encoded(b"2\0agents\0default\0alice"),
        encoded(b"1\0agents\0default\0"),
        encoded(b"1\0agents\0default"),
        paging.page_token(("agents", "other"), "alice"),
        paging.page_token(TURNS, "3"),
        paging.page_token(AGENTS, "alice") + "\n",
    ],
)
def test_other_tokens_are_refused(token: str) -> None:
    with pytest.raises(AgentmemError) as caught:
        paging.last_key(AGENTS, token)
    assert caught.value.reason is Reason.PAGE_TOKEN_INVALID


@pytest.mark.parametrize("key", ["x", "-1", "1.5", "²", "9" * 40])
def test_keys_that_are_no_numbers(key: str) -> None:
    with pytest.raises(AgentmemError) as caught:
        paging.last_number(TURNS, paging.page_token(TURNS, key))
    assert caught.value.reason is Reason.PAGE_TOKEN_INVALID


def test_limits() -> None:
    assert [paging.page_limit(size) for size in (0, 1, 1000)] == [100, 1, 1000]
    with pytest.raises(AgentmemError) as caught:
        paging.page_limit(1001)
    assert caught.value.reason is Reason.INPUT_INVALID

"""Requests are taken strictly: good ones arrive whole, each mistake gets its one reason."""

from __future__ import annotations

from typing import Any

import pytest
from agentmem_daemon import requests, turn_requests
from google.protobuf.duration_pb2 import Duration

from agentmem.engine.request import ChatInput, Durability, OnCancel, Priority, Sampling, TextInput, Thinking, TokenInput
from agentmem.errors import AgentmemError, Code, Reason
from agentmem.types import AgentRef, Message, Projection, Residency, Share, ToolCall, TurnKind
from agentmem.v1 import agents_pb2, generation_pb2, latent_pb2, maintenance_pb2, types_pb2

TEXT = types_pb2.Input(text="hi")
ALICE = types_pb2.AgentRef(name="alice")


def chat(**message: Any) -> types_pb2.Input:
    return types_pb2.Input(chat=types_pb2.ChatMessages(messages=[types_pb2.ChatMessage(**message)]))


def said(*texts: str) -> list[types_pb2.ContentPart]:
    return [types_pb2.ContentPart(text=text) for text in texts]


def call(name: str = "look", arguments: str = "{}") -> types_pb2.ToolCall:
    return types_pb2.ToolCall(id="1", name=name, arguments=arguments)


def generate(**fields: Any) -> Any:
    return turn_requests.generate_request(generation_pb2.GenerateRequest(**({"agent": ALICE, "input": TEXT} | fields)))


def test_defaults() -> None:
    request = generate()
    assert request.agent == AgentRef("default", "alice")
    assert request.input == TextInput("hi")
    assert request.sampling == Sampling()
    assert (request.on_cancel, request.create, request.rebuild) == (OnCancel.COMMIT, False, False)
    assert (request.request_id, request.expect_turn) == ("", None)
    assert request.durability is Durability.DURABLE
    assert request.priority is Priority.NORMAL


def test_everything_set() -> None:
    sampling = generation_pb2.Sampling(temperature=0.5, top_p=0.9, top_k=40, seed=0, max_tokens=1, stop=["a", "é"])
    sampling.json_schema = "{}"
    request = generate(
        agent=types_pb2.AgentRef(namespace="team", name="../Bob 🙂"),
        mode=generation_pb2.INPUT_MODE_APPEND,
        sampling=sampling,
        on_cancel=generation_pb2.ON_CANCEL_DISCARD,
        durability=generation_pb2.DURABILITY_WRITE_BEHIND,
        priority=types_pb2.PRIORITY_HIGH,
        create=True,
        rebuild=True,
        request_id="once",
        expect_turn=0,
    )
    assert request.agent == AgentRef("team", "../Bob 🙂")
    assert request.sampling == Sampling(0.5, 0.9, 40, 0, 1, ("a", "é"), "{}")
    assert (request.on_cancel, request.create, request.rebuild) == (OnCancel.DISCARD, True, True)
    assert (request.request_id, request.expect_turn) == ("once", 0)
    assert request.durability is Durability.WRITE_BEHIND


def test_append_has_no_sampling() -> None:
    request = turn_requests.append_request(generation_pb2.AppendRequest(agent=ALICE, input=TEXT, expect_turn=2))
    assert (request.sampling, request.expect_turn) == (None, 2)


def test_thoughts() -> None:
    request = turn_requests.think_request(
        latent_pb2.ThinkRequest(agent=ALICE, steps=3, priority=types_pb2.PRIORITY_LOW)
    )
    assert (request.input, request.sampling, request.thinking) == (None, None, Thinking(3, Projection.RIDGE))
    assert (request.kind, request.priority) == (TurnKind.THINK, Priority.LOW)
    given = latent_pb2.ThinkRequest(agent=ALICE, steps=3, input=TEXT, projection=latent_pb2.PROJECTION_SOFTMAX)
    assert turn_requests.think_request(given).thinking == Thinking(3, Projection.SOFTMAX)
    for bad in ({"steps": 0}, {"steps": 3, "projection": 9}, {"steps": 3, "input": types_pb2.Input()}):
        with pytest.raises(AgentmemError) as caught:
            turn_requests.think_request(latent_pb2.ThinkRequest(agent=ALICE, **bad))
        assert caught.value.code is Code.INVALID_ARGUMENT


def test_messages_keep_all_they_have() -> None:
    given = chat(role="assistant", parts=said("a", "b"), tool_calls=[call(arguments='{"x": 1}')], reasoning="why")
    answer = chat(role="tool", parts=said("found"), tool_call_id="1")
    given.chat.messages.extend(answer.chat.messages)
    assert turn_requests.turn_input(given) == ChatInput(
        (
            Message("assistant", ("a", "b"), (ToolCall("1", "look", '{"x": 1}'),), "", "why"),
            Message("tool", ("found",), (), "1"),
        )
    )


def test_token_ids() -> None:
    given = types_pb2.Input(token_ids=types_pb2.TokenIds(ids=[0, 2**32 - 1]))
    assert turn_requests.turn_input(given) == TokenInput((0, 2**32 - 1))


@pytest.mark.parametrize("name", ["a", "a" * 256, "é" * 128, "a/b", "..", "🙂", "Bob", "a\u2028b", "e\u0301", "ﬁ"])
def test_names_that_do(name: str) -> None:
    assert requests.agent_name(name) == name


@pytest.mark.parametrize("name", ["", "a" * 257, "é" * 129, "a\nb", "\0", "a\x7f", "a\x85"])
def test_names_that_do_not(name: str) -> None:
    with pytest.raises(AgentmemError) as caught:
        requests.agent_name(name)
    assert caught.value.reason is Reason.AGENT_NAME_INVALID


BAD_SAMPLING: list[dict[str, Any]] = [
    {"temperature": float("nan")},
    {"temperature": float("inf")},
    {"temperature": -0.1},
    {"temperature": 101},
    {"top_p": float("nan")},
    {"top_p": 0.0},
    {"top_p": 1.1},
    {"top_p": -1},
    {"max_tokens": 0},
    {"stop": ["x"] * 17},
    {"stop": [""]},
    {"stop": ["ok", "é" * 129]},
]
MISTAKES: list[tuple[dict[str, Any], Reason]] = [
    ({"agent": None}, Reason.AGENT_NAME_INVALID),
    ({"agent": types_pb2.AgentRef(name="a", namespace="n\n")}, Reason.NAMESPACE_INVALID),
    ({"agent": types_pb2.AgentRef(name="a", namespace="n" * 257)}, Reason.NAMESPACE_INVALID),
    ({"mode": 9}, Reason.INPUT_INVALID),
    ({"on_cancel": 9}, Reason.INPUT_INVALID),
    ({"durability": 9}, Reason.INPUT_INVALID),
    ({"request_id": "r" * 257}, Reason.INPUT_INVALID),
    ({"request_id": "r\n"}, Reason.INPUT_INVALID),
    ({"input": None}, Reason.EMPTY_INPUT),
    ({"input": types_pb2.Input()}, Reason.EMPTY_INPUT),
    ({"input": types_pb2.Input(text="")}, Reason.EMPTY_INPUT),
    ({"input": types_pb2.Input(token_ids=types_pb2.TokenIds())}, Reason.EMPTY_INPUT),
    ({"input": types_pb2.Input(chat=types_pb2.ChatMessages())}, Reason.EMPTY_INPUT),
    ({"input": chat(role="user")}, Reason.EMPTY_INPUT),
    ({"input": chat(role="user", parts=said("", ""))}, Reason.EMPTY_INPUT),
    ({"input": chat(parts=said("hi"))}, Reason.ROLE_INVALID),
    ({"input": chat(role="User", parts=said("hi"))}, Reason.ROLE_INVALID),
    ({"input": chat(role="user", parts=[types_pb2.ContentPart()])}, Reason.INPUT_INVALID),
    ({"input": chat(role="user", parts=said("hi"), tool_calls=[call()])}, Reason.INPUT_INVALID),
    ({"input": chat(role="user", parts=said("hi"), tool_call_id="1")}, Reason.INPUT_INVALID),
    ({"input": chat(role="user", parts=said("hi"), reasoning="so")}, Reason.INPUT_INVALID),
    ({"input": chat(role="assistant", tool_calls=[call(name="")])}, Reason.INPUT_INVALID),
    ({"input": chat(role="assistant", tool_calls=[call(arguments="")])}, Reason.INPUT_INVALID),
    ({"input": chat(role="assistant", tool_calls=[call(arguments="[1]")])}, Reason.INPUT_INVALID),
    ({"input": chat(role="assistant", tool_calls=[call(arguments='{"a":' * 100_000)])}, Reason.INPUT_INVALID),
    *(({"sampling": generation_pb2.Sampling(**fields)}, Reason.SAMPLING_INVALID) for fields in BAD_SAMPLING),
]


@pytest.mark.parametrize(("fields", "reason"), MISTAKES)
def test_each_mistake_has_its_reason(fields: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(AgentmemError) as caught:
        generate(**fields)
    assert caught.value.reason is reason
    assert caught.value.message.endswith(".")


def test_error_sentences_do_not_quote_what_was_said() -> None:
    with pytest.raises(AgentmemError) as caught:
        generate(input=chat(role="SECRET", parts=said("SECRET")))
    assert "SECRET" not in caught.value.message + str(caught.value.metadata)


def test_expect_turn_zero_is_not_unset() -> None:
    assert requests.expect_turn(agents_pb2.DeleteAgentRequest()) is None
    assert requests.expect_turn(agents_pb2.DeleteAgentRequest(expect_turn=0)) == 0


def test_words_for_choices() -> None:
    assert requests.share(types_pb2.SHARE_UNSPECIFIED) is None
    assert requests.share(types_pb2.SHARE_PRIVATE) is Share.PRIVATE
    assert requests.evict_to(types_pb2.RESIDENCY_UNSPECIFIED) is Residency.WARM
    assert requests.evict_to(types_pb2.RESIDENCY_COLD) is Residency.COLD


def test_a_time_to_live_of_zero_is_not_unset() -> None:
    assert requests.ttl(agents_pb2.UpdateAgentRequest()) is None
    assert requests.ttl(agents_pb2.UpdateAgentRequest(ttl=Duration())) == 0
    assert requests.ttl(agents_pb2.CreateAgentRequest(ttl=Duration(seconds=1, nanos=500_000_000))) == 1.5


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({}, {}),
        ({"expired": False}, {}),
        ({"expired": True}, {"expired": True}),
        ({"history_of": "alice"}, {"agent": "alice", "expect_turn": None}),
        ({"older_than": Duration(seconds=60)}, {"older_than_s": 60}),
        ({"older_than": Duration()}, {"older_than_s": 0}),
    ],
)
def test_what_to_prune(fields: dict[str, Any], what: dict[str, Any]) -> None:
    assert requests.prune(maintenance_pb2.PruneRequest(**fields)) == what


def test_import_header() -> None:
    def header(**fields: Any) -> tuple[str, str | None, bool, str]:
        return requests.import_header(agents_pb2.ImportAgentRequest(header=agents_pb2.ImportHeader(**fields)))

    assert header() == ("default", None, False, "")
    team = types_pb2.AgentRef(namespace="team", name="bob")
    assert header(agent=team, text_only=True, request_id="r") == ("team", "bob", True, "r")


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda: requests.share(9), Reason.INPUT_INVALID),
        (lambda: requests.evict_to(types_pb2.RESIDENCY_HOT), Reason.INPUT_INVALID),
        (lambda: requests.ttl(agents_pb2.UpdateAgentRequest(ttl=Duration(seconds=-1))), Reason.INPUT_INVALID),
        (lambda: requests.ttl(agents_pb2.UpdateAgentRequest(ttl=Duration(seconds=1 << 40))), Reason.INPUT_INVALID),
        (lambda: requests.prune(maintenance_pb2.PruneRequest(history_of="")), Reason.AGENT_NAME_INVALID),
        (lambda: requests.new_namespace(""), Reason.NAMESPACE_INVALID),
        (lambda: requests.new_namespace("a\n"), Reason.NAMESPACE_INVALID),
        (lambda: requests.import_header(None), Reason.INPUT_INVALID),
        (lambda: requests.import_header(agents_pb2.ImportAgentRequest(chunk=b"x")), Reason.INPUT_INVALID),
    ],
)
def test_what_else_can_be_wrong(read: Any, reason: Reason) -> None:
    with pytest.raises(AgentmemError) as caught:
        read()
    assert caught.value.reason is reason
    assert caught.value.message.endswith(".")


def test_an_expected_turn_is_of_a_history() -> None:
    for other in ({}, {"expired": True}):
        with pytest.raises(AgentmemError) as caught:
            requests.prune(maintenance_pb2.PruneRequest(expect_turn=1, **other))
        assert caught.value.reason is Reason.INPUT_INVALID

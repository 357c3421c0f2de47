from __future__ import annotations

import traceback
from datetime import timedelta
from typing import Any

import pytest
from agentmem_client import InvalidRequest, Message, Slice, ToolCall, calls, choices, inputs, turns

from agentmem.v1 import generation_pb2, types_pb2

REF = inputs.agent_ref("default", "alice")
SURROGATE = "secret \ud800"


def test_a_string_is_one_user_message_after_the_system_message() -> None:
    messages = inputs.chat("Hi", system="Be kind.").chat.messages
    assert [(m.role, m.parts[0].text) for m in messages] == [("system", "Be kind."), ("user", "Hi")]


def test_dicts_and_messages_say_the_same() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    parts = [{"type": "text", "text": "a"}]
    as_dict = {"role": "assistant", "content": parts, "tool_calls": [call], "reasoning": "why", "refusal": None}
    as_message = Message("assistant", "a", tool_calls=(ToolCall("1", "f", "{}"),), reasoning="why")
    assert inputs.prompt(messages=[as_dict]) == inputs.prompt(messages=[as_message])


def test_append_reads_a_string_as_raw_text_and_a_list_as_messages() -> None:
    assert inputs.append("raw", None).text == "raw"
    assert inputs.append([Message("user", "x")], None).chat.messages[0].role == "user"
    assert list(inputs.append(None, [1, 2]).token_ids.ids) == [1, 2]


@pytest.mark.parametrize(
    "given", [{}, {"raw": "a", "token_ids": [1]}, {"messages": "a"}, {"messages": {"role": "user"}}]
)
def test_exactly_one_kind_of_input(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        inputs.prompt(**given)


@pytest.mark.parametrize(
    "message",
    [
        {"content": "no role"},
        {"role": "user", "text": "wrong key"},
        {"role": "user", "content": 7},
        {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "tool_calls": ["f"]},
        "user",
    ],
)
def test_messages_that_cannot_be_sent(message: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        inputs.prompt(messages=[message])
    assert caught.value.reason == "INPUT_INVALID"


@pytest.mark.parametrize(
    "build",
    [
        lambda: inputs.chat(SURROGATE),
        lambda: inputs.chat("a", system=SURROGATE),
        lambda: inputs.prompt(raw=SURROGATE),
        lambda: inputs.agent_ref("default", SURROGATE),
        lambda: inputs.prompt(messages=[{"role": SURROGATE, "content": "a"}]),
        lambda: inputs.prompt(messages=[Message("assistant", tool_calls=(ToolCall("1", "f", SURROGATE),))]),
        lambda: turns.generate(REF, inputs.chat("a"), stop=[SURROGATE]),
        lambda: turns.generate(REF, inputs.chat("a"), request_id=SURROGATE),
        lambda: calls.fork_agent(REF, SURROGATE, None, None, None),
        lambda: calls.create_namespace(SURROGATE, None),
        lambda: calls.delete_namespace(SURROGATE, False, False, None),
        lambda: calls.prune("default", None, False, SURROGATE, False, None, None),
    ],
)
def test_text_that_utf8_cannot_encode_is_refused_without_being_shown(build: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build()
    assert caught.value.reason == "INPUT_INVALID"
    assert caught.value.__suppress_context__
    assert "secret" not in str(caught.value)
    assert "secret" not in "".join(traceback.format_exception_only(caught.value))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_tokens": -1}, "SAMPLING_INVALID"),
        ({"max_tokens": 1 << 32}, "SAMPLING_INVALID"),
        ({"max_tokens": 1.5}, "SAMPLING_INVALID"),
        ({"top_k": -1}, "SAMPLING_INVALID"),
        ({"seed": 1 << 64}, "SAMPLING_INVALID"),
        ({"temperature": "hot"}, "SAMPLING_INVALID"),
        ({"expect_turn": -1}, "INPUT_INVALID"),
        ({"on_cancel": "drop"}, "INPUT_INVALID"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        turns.generate(REF, inputs.chat("a"), **options)
    assert caught.value.reason == reason


@pytest.mark.parametrize("ids", [[-1], [1 << 32], ["a"]])
def test_token_ids_out_of_range(ids: list[Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        inputs.prompt(token_ids=ids)
    assert caught.value.reason == "TOKEN_ID_OUT_OF_RANGE"


def test_what_is_not_given_stays_unset() -> None:
    request = turns.generate(REF, inputs.chat("a"))
    assert request.create
    assert request.mode == generation_pb2.INPUT_MODE_APPEND
    assert not any(request.sampling.HasField(name) for name in ("top_p", "seed", "max_tokens"))
    assert not request.HasField("expect_turn")


def test_every_option_arrives() -> None:
    request = turns.generate(
        REF, inputs.chat("a"), temperature=0.5, top_p=0.9, top_k=4, seed=0, max_tokens=8, stop="END",
        include_token_ids=True, create=False, rebuild=True, request_id="mine", expect_turn=0, on_cancel="discard",
    )  # fmt: skip
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 4)
    assert (sampling.HasField("seed"), sampling.max_tokens, list(sampling.stop)) == (True, 8, ["END"])
    assert (request.create, request.rebuild, request.request_id) == (False, True, "mine")
    assert request.HasField("expect_turn")
    assert request.on_cancel == generation_pb2.ON_CANCEL_DISCARD


@pytest.mark.parametrize("one", ["rules", Slice("rules", 1)])
def test_one_part_needs_no_list(one: str | Slice) -> None:
    assert inputs.slices(one) == inputs.slices([one])
    assert [part.agent for part in inputs.slices(one)] == ["rules"]


@pytest.mark.parametrize("wrong", [5, None, [5], [None], {"rules": 1}.items(), [b"rules"]])
def test_what_is_no_part(wrong: Any) -> None:
    with pytest.raises(InvalidRequest, match="part") as caught:
        inputs.slices(wrong)
    assert caught.value.reason == "INPUT_INVALID"


def test_a_schema_is_text_or_what_json_can_say() -> None:
    def sent(schema: Any) -> str:
        return turns.generate(REF, inputs.chat("a"), json_schema=schema).sampling.json_schema

    assert (sent(None), sent('{"type": "object"}')) == ("", '{"type": "object"}')
    assert sent({"enum": ["é", 1]}) == '{"enum": ["\\u00e9", 1]}'
    assert sent({}) == "{}"
    for wrong in ({"a": object()}, {"a": {1}}, 7, SURROGATE):
        with pytest.raises(InvalidRequest):
            sent(wrong)


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="temprature"):
        turns.generate(REF, inputs.chat("a"), temprature=1)  # type: ignore[call-arg]


def test_each_request_gets_an_id_of_its_own() -> None:
    first, second = (turns.generate(REF, inputs.chat("a")).request_id for _ in range(2))
    assert first
    assert first != second


def test_a_span_of_time_is_seconds_or_a_timedelta() -> None:
    assert inputs.span(1.5, "ttl") == inputs.span(timedelta(milliseconds=1500), "ttl")
    assert inputs.span(0, "ttl").ToTimedelta() == timedelta()
    assert inputs.optional_span(None, "ttl") is None


@pytest.mark.parametrize("value", ["7d", float("nan"), float("inf"), 1e300])
def test_what_is_no_span_of_time(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="ttl must be"):
        inputs.span(value, "ttl")


def test_words_for_choices() -> None:
    assert choices.share(None) == types_pb2.SHARE_UNSPECIFIED
    assert choices.share("private") == choices.share("PRIVATE") == types_pb2.SHARE_PRIVATE
    assert choices.evict_to("cold") == types_pb2.RESIDENCY_COLD
    assert choices.durability("write_behind") == generation_pb2.DURABILITY_WRITE_BEHIND
    assert [choices.priority(word) for word in ("low", "NORMAL", "high")] == [
        types_pb2.PRIORITY_LOW, types_pb2.PRIORITY_NORMAL, types_pb2.PRIORITY_HIGH,
    ]  # fmt: skip
    with pytest.raises(InvalidRequest, match="priority must be"):
        choices.priority("urgent")
    for wrong in ("hot", "", None, 1):
        with pytest.raises(InvalidRequest, match="to must be 'warm' or 'cold'"):
            choices.evict_to(wrong)  # type: ignore[arg-type]


def test_a_prune_has_one_target() -> None:
    with pytest.raises(InvalidRequest):
        calls.prune("default", 60, True, None, False, None, None)
    with pytest.raises(InvalidRequest):
        calls.prune("default", 60, False, "alice", False, None, None)
    assert calls.prune("default", None, False, None, True, None, None).request.WhichOneof("what") is None
    assert calls.prune("default", 0, False, None, True, None, None).request.WhichOneof("what") == "older_than"
    assert calls.prune("default", None, True, None, True, None, None).request.expired


def test_an_update_sends_only_what_is_given() -> None:
    request = calls.update_agent(REF, False, None, None, None, None).request
    assert (request.HasField("pinned"), request.pinned, request.HasField("ttl")) == (True, False, False)
    request = calls.update_agent(REF, None, 0, "private", None, None).request
    assert (request.HasField("pinned"), request.HasField("ttl"), request.share) == (
        False,
        True,
        types_pb2.SHARE_PRIVATE,
    )

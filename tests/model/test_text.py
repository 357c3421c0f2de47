"""New messages are rendered alone, and the pieces make what the template makes of the whole."""

from __future__ import annotations

import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.model import loader
from agentmem.model.text import TextCodec
from agentmem.types import Message
from tests.helpers.checkpoints import Spec, write

SYSTEM, USER, REPLY, MORE = (
    Message("system", ("be brief",)),
    Message("user", ("the fox",)),
    Message("assistant", ("the dog",)),
    Message("user", ("and the memory",)),
)


@pytest.fixture(scope="module", params=[True, False], ids=["bos", "nobos"])
def codec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TextCodec:
    folder = write(tmp_path_factory.mktemp("ck"), Spec(bos=request.param, layers=1))
    return loader.load(str(folder)).text


def _whole(codec: TextCodec, messages: list[Message], reply: bool) -> list[int]:
    plain = [{"role": m.role, "content": m.text} for m in messages]
    text = codec._tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=reply)
    return codec._tokenizer.encode(text, add_special_tokens=False)


def test_pieces_make_the_whole(codec: TextCodec) -> None:
    """A generated reply that ended by itself: its end token is in the timeline, the rest of its closing is not."""
    first = codec.encode_chat([SYSTEM, USER], None, False, True).ids
    said = codec._tokenizer.encode(REPLY.text, add_special_tokens=False) + [next(iter(codec.eos_ids))]
    second = codec.encode_chat([MORE], said[-1], True, True).ids
    assert first + said + second == _whole(codec, [SYSTEM, USER, REPLY, MORE], True)


def test_a_reply_cut_short_is_closed_first(codec: TextCodec) -> None:
    first = codec.encode_chat([USER], None, False, True).ids
    said = codec._tokenizer.encode(REPLY.text, add_special_tokens=False)
    second = codec.encode_chat([MORE], said[-1], True, True).ids
    assert first + said + second == _whole(codec, [USER, REPLY, MORE], True)


def test_appended_messages_are_closed_already(codec: TextCodec) -> None:
    first = codec.encode_chat([USER, REPLY], None, False, False).ids
    second = codec.encode_chat([MORE], first[-1], False, True).ids
    assert first + second == _whole(codec, [USER, REPLY, MORE], True)


def test_appended_user_then_assistant(codec: TextCodec) -> None:
    first = codec.encode_chat([USER], None, False, False).ids
    second = codec.encode_chat([REPLY, MORE], first[-1], False, True).ids
    assert first + second == _whole(codec, [USER, REPLY, MORE], True)


def test_no_second_bos(codec: TextCodec) -> None:
    bos = codec._tokenizer.bos_token_id
    later = codec.encode_chat([MORE], 7, True, True).ids + codec.encode_text("more text", empty=False).ids
    assert bos not in later


def test_message_ranges_cover_the_new_ids(codec: TextCodec) -> None:
    encoded = codec.encode_chat([SYSTEM, USER], None, False, True)
    assert encoded.messages[0].start == 0
    assert encoded.messages[0].end == encoded.messages[1].start
    assert encoded.messages[1].end == len(encoded.ids)
    assert "be brief" in codec.decode(encoded.ids[: encoded.messages[0].end])
    assert "fox" not in codec.decode(encoded.ids[: encoded.messages[0].end])


def test_any_text_round_trips(codec: TextCodec) -> None:
    for text in ("plain", "Grüße, 世界 🦊", "tabs\tand\nlines", "\x00\x7f"):
        assert codec.decode(codec.encode_text(text, empty=False).ids) == text


def test_template_that_refuses_says_so(codec: TextCodec) -> None:
    strict = TextCodec(codec._tokenizer)
    template = codec._tokenizer._tokenizer.chat_template
    try:
        codec._tokenizer._tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
        with pytest.raises(AgentmemError) as caught:
            strict.encode_chat([USER], None, False, True)
    finally:
        codec._tokenizer._tokenizer.chat_template = template
    assert caught.value.reason is Reason.CHAT_TEMPLATE_REFUSED

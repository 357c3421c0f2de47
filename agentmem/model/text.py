"""Text to ids and back. New messages are rendered alone; what is in the timeline is never encoded again.

Chat templates render whole conversations. To get the text of new messages only, they are rendered behind a stand-in
exchange that ends in a marker, and all up to the marker is cut off. The stand-in also shows with which text the
template closes a message, which a generated reply still lacks.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentmem.errors import AgentmemError, Reason
from agentmem.types import Message, TurnMessage

_MARK = "agentmem-7d1f-mark"


@dataclass(frozen=True)
class Encoded:
    """New ids and the messages they hold, with positions relative to the first new id."""

    ids: list[int]
    messages: tuple[TurnMessage, ...]


class TextCodec:
    """One model's tokenizer and chat template. `tokenizer` is mlx-lm's wrapper. Thread-safe for encoding."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.eos_ids: frozenset[int] = frozenset(tokenizer.eos_token_ids)
        self.has_chat_template: bool = tokenizer.has_chat_template

    def detokenizer(self) -> Any:
        """A fresh streaming detokenizer (mlx-lm's): add_token, last_segment, finalize."""
        return self._tokenizer.detokenizer

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids))

    def encode_text(self, text: str, empty: bool) -> Encoded:
        """Raw text; the tokenizer's leading token goes in front on an empty timeline only."""
        ids = self._tokenizer.encode(text, add_special_tokens=empty)
        return Encoded(ids, (TurnMessage(Message("text", (text,)), 0, len(ids)),))

    def encode_ids(self, ids: Sequence[int]) -> Encoded:
        return Encoded(list(ids), (TurnMessage(Message("text", (self.decode(ids),)), 0, len(ids)),))

    def encode_chat(self, messages: Sequence[Message], last_id: int | None, unclosed: bool, reply: bool) -> Encoded:
        """New messages behind a timeline.

        last_id: the timeline's last id, None if it is empty. unclosed: it ends in a generated reply whose closing
        text has not been fed. reply: end with what makes the model speak.
        Raises AgentmemError: CHAT_TEMPLATE_MISSING, CHAT_TEMPLATE_REFUSED.
        """
        if not self.has_chat_template:
            raise AgentmemError(
                Reason.CHAT_TEMPLATE_MISSING, "this model has no chat template; send text or token ids instead"
            )
        base = [] if last_id is None else _stand_in(messages[0].role)
        news = [_template_message(m) for m in messages]
        ends = [self._tail(base, news[: i + 1], unclosed, False) for i in range(len(news))]
        text = self._tail(base, news, unclosed, reply)
        ids, starts = self._encode_with_starts(text)
        if unclosed and ids and last_id in self.eos_ids and ids[0] == last_id:
            ids, starts = ids[1:], starts[1:]  # the model has ended its reply by itself
        return Encoded(ids, _ranges(messages, [len(e) for e in ends], starts))

    def _tail(self, base: list[dict], news: list[dict], unclosed: bool, reply: bool) -> str:
        text = self._render(base + news, reply)
        if not base:
            return text
        _, found, behind = text.partition(_MARK)
        closing = "" if unclosed else self._render(base, False).partition(_MARK)[2]
        if not (found and behind.startswith(closing)):
            raise AgentmemError(
                Reason.CHAT_TEMPLATE_REFUSED, "the model's chat template does not let messages follow earlier ones"
            )
        return behind.removeprefix(closing)

    def _render(self, messages: list[dict], reply: bool) -> str:
        try:
            return self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=reply)
        except Exception as error:  # templates are programs of their own and raise what they like
            roles = " ".join(m["role"] for m in messages)
            raise AgentmemError(
                Reason.CHAT_TEMPLATE_REFUSED, f"the model's chat template does not take these roles here: {roles}"
            ) from error

    def _encode_with_starts(self, text: str) -> tuple[list[int], list[int]]:
        """Ids of template text (no token is added), and the character at which each begins."""
        inner = self._tokenizer._tokenizer
        if not inner.is_fast:
            ids = inner.encode(text, add_special_tokens=False)
            return ids, [0] * len(ids)
        out = inner(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(out["input_ids"]), [begin for begin, _ in out["offset_mapping"]]


def _stand_in(next_role: str) -> list[dict[str, Any]]:
    """A short exchange that a message of `next_role` may follow; its last content is the marker."""
    if next_role == "assistant":
        return [{"role": "user", "content": _MARK}]
    return [{"role": "user", "content": "-"}, {"role": "assistant", "content": _MARK}]


def _template_message(message: Message) -> dict[str, Any]:
    out: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.reasoning:
        out["reasoning_content"] = message.reasoning
    if message.tool_call_id:
        out["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.loads(c.arguments)}}
            for c in message.tool_calls
        ]
    return out


def _ranges(messages: Sequence[Message], ends: list[int], starts: list[int]) -> tuple[TurnMessage, ...]:
    """Token ranges from the characters at which each rendered message ends."""
    out, begin = [], 0
    for i, message in enumerate(messages):
        end = len(starts) if i == len(messages) - 1 else max(begin, bisect_left(starts, ends[i]))
        out.append(TurnMessage(message, begin, end))
        begin = end
    return tuple(out)

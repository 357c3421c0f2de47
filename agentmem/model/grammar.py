"""JSON Schemas as grammars over a model's tokens: which token may come next, so that the text becomes what was asked.

Compiled and followed by llguidance: https://github.com/guidance-ai/llguidance. Thread-safe, and knows no MLX.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentmem.errors import AgentmemError, Reason

MAX_SCHEMA_BYTES = 64 << 10
KEPT = 32
"""Schemas that are kept compiled."""
_SHOWN = 200
"""Characters of a complaint about a schema."""


class Document:
    """Where a reply stands in the document that it writes."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher, self._vocab_size = matcher, vocab_size

    def accept(self, token: int) -> None:
        """The token that comes next. Raises SCHEMA_UNFULFILLABLE."""
        if not self._matcher.consume_token(token):
            raise self._stuck()

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next, [vocab]; behind a whole document the model's end tokens only.

        Raises SCHEMA_UNFULFILLABLE.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little", count=self._vocab_size).astype(np.bool_)
        if self._matcher.is_error() or not allowed.any():
            raise self._stuck()
        return allowed

    def _stuck(self) -> AgentmemError:
        return AgentmemError(
            Reason.SCHEMA_UNFULFILLABLE,
            "the reply cannot go on: what may follow by the JSON Schema is too much to compute, or nothing that this "
            "model's tokens spell; give a simpler schema",
        )


class Grammars:
    """Of one model. tokenizer: mlx-lm's wrapper; eos_ids: its end tokens; vocab_size: of the logits."""

    def __init__(self, tokenizer: Any, eos_ids: frozenset[int], vocab_size: int) -> None:
        self._tokenizer, self._eos_ids, self._vocab_size = tokenizer, sorted(eos_ids), vocab_size
        self._tokens: Any = None
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, schema: str) -> None:
        """Compiles a schema. The first one of a model with many tokens takes a second.

        Raises AgentmemError: SCHEMA_INVALID, which says why, and SCHEMA_UNSUPPORTED for this model.
        """
        with self._lock:
            self._matcher(schema)

    def document(self, schema: str) -> Document:
        """An empty one. Raises what `check` does."""
        with self._lock:
            return Document(self._matcher(schema).deep_copy(), self._vocab_size)

    def _matcher(self, schema: str) -> Any:
        if schema not in self._compiled:
            self._compiled[schema] = self._compile(schema)
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(schema)
        return self._compiled[schema]

    def _compile(self, schema: str) -> Any:
        from llguidance import LLMatcher, LLParserLimits

        _check_form(schema)
        if self._tokens is None:
            self._tokens = self._read_tokens()
        try:
            # Without bounds on whitespace a model may write nothing else.
            grammar = LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_flexible": False})
        except ValueError as error:
            raise _invalid(str(error)) from None
        matcher = LLMatcher(self._tokens, grammar, log_level=0, limits=LLParserLimits(verbose_errors=False))
        if matcher.is_error():
            raise _invalid(matcher.get_error())
        return matcher

    def _read_tokens(self) -> Any:
        from llguidance import LLTokenizer

        inner = self._tokenizer._tokenizer
        if not inner.is_fast:
            raise _unsupported("it has no fast tokenizer")
        try:
            return LLTokenizer(
                inner.backend_tokenizer.to_str(),
                n_vocab=max(self._vocab_size, len(inner)),
                eos_token=self._eos_ids,
                slices=LLTokenizer.json_slices(),
            )
        except ValueError as error:
            raise _unsupported("llguidance cannot read its tokenizer") from error


def _check_form(schema: str) -> None:
    try:
        size = len(schema.encode())
        value = json.loads(schema) if size <= MAX_SCHEMA_BYTES else {}
    except UnicodeEncodeError:
        raise _invalid("it holds text that is not valid Unicode") from None
    except (ValueError, RecursionError):
        raise _invalid("it is not JSON") from None
    if size > MAX_SCHEMA_BYTES:
        raise _invalid(f"it has {size} bytes; {MAX_SCHEMA_BYTES} are the most")
    if not isinstance(value, dict):
        raise _invalid("it is not a JSON object")


def _invalid(why: str) -> AgentmemError:
    line = " ".join(why.split())  # llguidance draws arrows below patterns
    shown = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
    return AgentmemError(Reason.SCHEMA_INVALID, f"The JSON Schema cannot be enforced: {shown}.", field="json_schema")


def _unsupported(why: str) -> AgentmemError:
    return AgentmemError(Reason.SCHEMA_UNSUPPORTED, f"This model cannot be held to a JSON Schema: {why}.")

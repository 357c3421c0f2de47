"""Any text becomes words that FTS5 takes for words."""

from __future__ import annotations

import sqlite3
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentmem.primitives.words import END_WORDS, match_expression, query_ends, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Review my pull-request, please!", ["review", "pull", "request"]),
        ("'\"* NEAR(a, 2) AND title:x ^y", ["near", "2", "title", "x", "y"]),
        ("Straße ＦＵＬＬ", ["strasse", "full"]),
        ("what is it", ["what", "is", "it"]),
        ("代码审查 now", ["代码", "码审", "审查", "now"]),
        ("我", ["我"]),
        ("x\u0301 \u0301", [unicodedata.normalize("NFKC", "x\u0301")]),
        ("C++ v1.2", ["c", "v1", "2"]),
        ("\ud800\x00 \u2028", []),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_both_ends_of_a_long_query_count() -> None:
    beginning, end = query_ends("begin " + " ".join(f"w{i}" for i in range(50_000)) + " finish")
    assert (len(beginning), len(end)) == (END_WORDS, END_WORDS)
    assert (beginning[0], end[-1]) == ("begin", "finish")
    assert query_ends("code code, w w w x: test code") == (["code", "w", "x", "test"], ["w", "x", "test", "code"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Could you please help me with the first 3 tests now?", ["tests"]),
        ("go on", []),
        ("the of and", ["the", "of", "and"]),
        ("42", []),
    ],
)
def test_numbers_and_words_of_any_request_count_nothing(query: str, expected: list[str]) -> None:
    assert query_ends(query) == (expected, expected)


@given(st.text() | st.text(alphabet='"*^:(){}-+ AND NOT NEAR\x00\ud800'))
@example('" OR 1 --')
@example("หนังสือ हिन्दी")
def test_any_text_is_a_query(text: str) -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE words USING fts5(text, tokenize = 'porter unicode61 remove_diacritics 2')")
    if found := words(text):
        db.execute("INSERT INTO words VALUES (?)", (" ".join(found),))
    if expression := match_expression(words(text)):
        assert db.execute("SELECT count(*) FROM words WHERE words MATCH ?", (expression,)).fetchone() == (1,)
    db.close()

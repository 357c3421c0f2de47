"""Words of any text, for the knowledge pool's index. The same function makes those of entries and of queries."""

from __future__ import annotations

import re
import unicodedata

MAX_WORDS = 64
"""Of a query: its beginning and its end say what is to be done; what lies between is mostly what to do it with."""
MAX_SCANNED = 8192
"""Characters at each end of a text that are looked at."""

# Scripts that put no spaces between words: Thai to Khmer, kana, Han, Hangul (whose spaced words carry endings).
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_PIECES = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_FUNCTION_WORDS = frozenset(
    "a about all an and any are as at be by can could do does each for from give had has have how i if in into is it "
    "its many me more most much my no not of on one or our out please should so some than that the their them then "
    "there these they this those to us was we were what when where which who whom whose why will with would you "
    "your".split()
)


def words(text: str) -> list[str]:
    """Words of letters, digits and marks, folded, in order. Unspaced scripts give overlapping pairs of characters.

    English function words go, unless there are no others. Never holds quotes, operators, controls or surrogates.
    """
    if len(text) > 2 * MAX_SCANNED:
        text = f"{text[:MAX_SCANNED]} {text[-MAX_SCANNED:]}"
    folded = unicodedata.normalize("NFKC", text).casefold()
    spaced = "".join(c if unicodedata.category(c)[0] in "LNM" else " " for c in folded)
    found = [p for word in spaced.split() for piece in _PIECES.findall(word) for p in _parts(piece)]
    return [w for w in found if w not in _FUNCTION_WORDS] or found


def query_words(text: str) -> list[str]:
    """The distinct words to search for, at most MAX_WORDS: from both ends."""
    found = list(dict.fromkeys(words(text)))
    half = MAX_WORDS // 2
    return found if len(found) <= MAX_WORDS else found[:half] + found[-half:]


def match_expression(text: str) -> str:
    """An FTS5 expression that any of the words fulfils; empty if there are none. Quoted, none is an operator."""
    return " OR ".join(f'"{word}"' for word in query_words(text))


def _parts(piece: str) -> list[str]:
    if not any(unicodedata.category(c)[0] in "LN" for c in piece):  # marks that belong to nothing
        return []
    if not re.match(f"[{_UNSPACED}]", piece) or len(piece) == 1:
        return [piece]
    return [piece[i : i + 2] for i in range(len(piece) - 1)]

"""Words of any text, for the knowledge pool's index. The same function makes those of entries and of queries."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

END_WORDS = 8
"""Of a query's beginning, and of its end, which say what is to be done; between is mostly what to do it with."""
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
"""Not in the index: adding to them makes another format of it."""
_WORDS_OF_ANY_REQUEST = frozenset(
    "above after again also always am another anything around because been before being below best better between "
    "both but did doing done down during either else ever every few first following get go going good got great he "
    "help her here him his just keep kind know last later let like long lot made make makes making may maybe might "
    "must need never new next nothing now off often ok okay old only other others over own put really right same say "
    "second see she since something still such sure take tell than thing things think though three through today "
    "together tomorrow too try two under until up use used using very want way well went whether while within without "
    "yes yesterday yet".split()
)
"""Of queries they count nothing."""
_ENDS_AS_WRITTEN = re.compile(r"(\w{3,}[iy])([sz])(e|es|ed|ing|er|ers|ation|ations)")


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


def query_ends(text: str) -> tuple[list[str], list[str]]:
    """The distinct words to search for: at most END_WORDS of the beginning, and as many of the end, in that order.

    Numbers go, and words of any request.
    """
    found = [w for w in words(text) if not (w in _WORDS_OF_ANY_REQUEST or w.isdecimal())]
    beginning, end = list(dict.fromkeys(found)), list(dict.fromkeys(reversed(found)))
    return beginning[:END_WORDS], end[:END_WORDS][::-1]


def match_expression(found: Iterable[str]) -> str:
    """An FTS5 expression that any of the words fulfils, in British or American spelling; empty if there are none.

    Quoted, none is an operator.
    """
    return " OR ".join(f'"{one}"' for one in dict.fromkeys(one for word in found for one in _spellings(word)))


def _spellings(word: str) -> tuple[str, ...]:
    """A word as it is, and as the others write it: summarise, summarize."""
    if (ends := _ENDS_AS_WRITTEN.fullmatch(word)) is None:
        return (word,)
    stem, letter, ending = ends.groups()
    return word, stem + ("z" if letter == "s" else "s") + ending


def _parts(piece: str) -> list[str]:
    if not any(unicodedata.category(c)[0] in "LN" for c in piece):  # marks that belong to nothing
        return []
    if not re.match(f"[{_UNSPACED}]", piece) or len(piece) == 1:
        return [piece]
    return [piece[i : i + 2] for i in range(len(piece) - 1)]

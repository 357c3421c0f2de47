from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentmem.engine.stops import StopFilter


def _run(pieces: list[str], stops: tuple[str, ...]) -> tuple[str, str]:
    stop_filter = StopFilter(stops)
    out = "".join(stop_filter.push(p) for p in pieces)
    return out + stop_filter.flush(), stop_filter.matched


def test_stop_across_pieces_is_never_sent() -> None:
    stop_filter = StopFilter(("END",))
    assert stop_filter.push("so E") == "so "
    assert stop_filter.push("N") == ""
    assert stop_filter.push("D more") == ""
    assert stop_filter.matched == "END"


def test_false_alarm_is_sent_after_all() -> None:
    assert _run(["a E", "N", "x"], ("END",)) == ("a ENx", "")


@given(st.lists(st.text("ab", max_size=3), max_size=12), st.lists(st.text("ab", min_size=1, max_size=3), max_size=3))
def test_any_cutting_gives_what_the_whole_text_gives(pieces: list[str], stops: list[str]) -> None:
    text = "".join(pieces)
    hits = [text.find(s) + len(s) for s in stops if s in text]
    out, matched = _run(pieces, tuple(stops))
    if not hits:
        assert (out, matched) == (text, "")
    else:
        assert matched in stops
        assert text.startswith(out + matched)
        assert len(out + matched) <= len(text)

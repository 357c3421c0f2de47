"""What is printed: tables, JSON, figures, and text that must not drive the terminal."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agentmem_daemon.cli.figures import ago, moment, seconds, size
from agentmem_daemon.cli.harmless import harmless
from agentmem_daemon.cli.output import plain, print_table, print_text
from hypothesis import given
from hypothesis import strategies as st


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def table(*rows: tuple[str, ...]) -> str:
    stream = io.StringIO()
    print_table(("NAME", "TOKENS>"), rows, stream=stream)
    return stream.getvalue()


def test_a_piped_table_is_plain_whole_and_without_borders() -> None:
    name = "n" * 300
    lines = table((name, "7"), ("bob", "1234")).splitlines()
    assert lines == [f"{'NAME':300}  TOKENS", f"{name}       7", f"{'bob':300}    1234"]


def test_a_table_shows_names_as_they_are() -> None:
    assert "[bold]:smile:[/bold]" in table(("[bold]:smile:[/bold]", "1"))


def test_control_characters_cannot_reach_the_terminal() -> None:
    assert harmless("\x1b]0;title\x07") == "␛]0;title␇"
    assert harmless("a\tb\nc") == "a\tb\nc"
    assert harmless("\r\x7f\x9b\u202e") == "␍␡\ufffd\ufffd"
    assert harmless("naïve 日本 🦙") == "naïve 日本 🦙"


@given(st.text(), st.text())
def test_harmless_works_piece_by_piece(first: str, second: str) -> None:
    assert harmless(first) + harmless(second) == harmless(first + second)
    assert all(c in "\n\t" or (c >= " " and not "\x7f" <= c < "\xa0") for c in harmless(first))


def test_text_is_made_harmless_on_a_terminal_only() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    print_text("\x1b[2J", terminal)
    print_text("\x1b[2J", pipe)
    assert terminal.getvalue() == "␛[2J"
    assert pipe.getvalue() == "\x1b[2J"


def test_plain_knows_every_kind_of_result() -> None:
    @dataclass(frozen=True)
    class Inner:
        when: datetime | None
        long: timedelta

    value = {"a": (Inner(datetime(2026, 1, 2, tzinfo=UTC), timedelta(milliseconds=1500)), Inner(None, timedelta()))}
    assert plain(value) == {
        "a": [{"when": "2026-01-02T00:00:00+00:00", "long": 1.5}, {"when": None, "long": 0.0}],
    }


def test_figures() -> None:
    assert [size(n) for n in (0, 999, 1000, 9_949, 9_950, 165_736, 999_499, 999_500, 25_000_000)] == [
        "0 B", "999 B", "1.0 kB", "9.9 kB", "10 kB", "166 kB", "999 kB", "1.0 MB", "25 MB",
    ]  # fmt: skip
    assert [seconds(s) for s in (0.0031, 0.0999, 0.25, 1.25)] == ["3.1 ms", "99.9 ms", "250 ms", "1.25 s"]
    now = datetime(2026, 1, 2, tzinfo=UTC)
    passed = [timedelta(seconds=3), timedelta(minutes=1), timedelta(minutes=59), timedelta(hours=5), timedelta(days=9)]
    assert [ago(now - p, now) for p in passed] == [
        "just now", "1 minute ago", "59 minutes ago", "5 hours ago", "9 days ago",
    ]  # fmt: skip
    assert ago(None) == moment(None) == "-"

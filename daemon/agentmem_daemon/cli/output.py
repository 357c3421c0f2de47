"""What commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO

from agentmem_daemon.cli.harmless import harmless

if TYPE_CHECKING:
    from agentmem_client import AgentInfo

PIPED_WIDTH = 100_000
"""Columns of a table that no terminal shows: whoever reads it gets whole values."""


def say(message: str) -> None:
    """A line for people, on stderr."""
    print(harmless(message), file=sys.stderr, flush=True)


def print_text(text: str, stream: TextIO | None = None) -> None:
    """Model output as it comes. On a terminal control characters are made harmless; a pipe gets them as they are."""
    stream = stream or sys.stdout
    stream.write(harmless(text) if stream.isatty() else text)
    stream.flush()


def print_json(document: Any, on_one_line: bool = False) -> None:
    """One JSON document on stdout."""
    print(json.dumps(plain(document), ensure_ascii=False, indent=None if on_one_line else 2), flush=on_one_line)


def plain(value: Any) -> Any:
    """Results as JSON knows them: dataclasses by field name, times as ISO 8601, durations in seconds."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else value


def without(result: Any, key: str) -> dict[str, Any]:
    """A result as JSON, less what only a closer look has."""
    return {name: value for name, value in plain(result).items() if name != key}


def facts(agent: AgentInfo) -> dict[str, Any]:
    """An agent as JSON, less its blocks."""
    return without(agent, "blocks")


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], header: bool = True, stream: TextIO | None = None
) -> None:
    """A borderless table. Columns whose title ends in '>' are set flush right, and lose the sign.

    A narrow terminal folds long cells; nothing is ever cut off. In a pipe there is no colour and no folding.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    stream = stream or sys.stdout
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=header)
    for title in columns:
        right = title.endswith(">")
        table.add_column(title.removesuffix(">"), justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    if stream.isatty():
        Console(file=stream, highlight=False).print(table)
        return
    console = Console(file=stream, width=PIPED_WIDTH, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    stream.writelines(line.rstrip() + "\n" for line in capture.get().splitlines())

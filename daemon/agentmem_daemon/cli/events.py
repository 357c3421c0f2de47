"""`events`: what the daemon did on its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.durations import duration
from agentmem_daemon.cli.errors import EXIT_INTERRUPTED
from agentmem_daemon.cli.figures import moment, size
from agentmem_daemon.cli.harmless import harmless
from agentmem_daemon.cli.interrupt import ctrl_c
from agentmem_daemon.cli.options import Json, Socket
from agentmem_daemon.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from agentmem_client import Event

FOLLOW_S = 0.5
"""Seconds between two looks of `--follow`."""


def events(
    agent: Annotated[str | None, typer.Option("--agent", metavar="AGENT", help="Only of this agent.")] = None,
    since: Annotated[
        timedelta | None,
        typer.Option("--since", metavar="DURATION", parser=duration, help="Only those of the last 90s, 12h, 7d."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come, until Ctrl-C.")] = False,
    socket: Socket = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Only of its agents. [default: all]")
    ] = None,
    as_json: Json = False,
) -> None:
    """List what the daemon did on its own: state it gave up, requests it had no room for, damage it mended."""
    begin = None if since is None else datetime.now(UTC) - since
    with connect(socket) as client:
        pages = partial(client.events, namespace, agent=agent, since=begin)
        if follow:
            _follow(pages, _print_line if not as_json else lambda event: print_json(event, on_one_line=True))
            raise typer.Exit(EXIT_INTERRUPTED)
        found = list(pages())
    if as_json:
        print_json({"events": found})
    elif found:
        print_table(("WHEN", "WHAT", "NAMESPACE", "AGENT", "BYTES>", "POSITIONS", "REASON"), [_row(e) for e in found])
    else:
        say("Nothing happened.")


def _follow(pages: Callable[..., Iterator[Event]], show: Callable[[Event], None]) -> None:
    """Shows each event once, until Ctrl-C. Asks for what is behind the last one, again and again."""
    last, told_to_stop = 0, threading.Event()
    with ctrl_c(told_to_stop.set):
        while not told_to_stop.is_set():
            for event in pages(after=last):
                show(event)
                last = event.number
            told_to_stop.wait(FOLLOW_S)


def _print_line(event: Event) -> None:
    print(harmless("  ".join(cell for cell in _row(event) if cell != "-")), flush=True)


def _row(event: Event) -> tuple[str, ...]:
    positions = f"{event.start}..{event.end}" if event.end else "-"
    nbytes = size(event.bytes) if event.bytes else "-"
    about = (event.namespace or "-", event.agent or "-", nbytes, positions, event.reason or "-")
    return (moment(event.time), event.kind, *about)

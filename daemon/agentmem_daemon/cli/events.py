"""`events`: what the daemon did on its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.durations import duration
from agentmem_daemon.cli.figures import moment, size
from agentmem_daemon.cli.options import Json, Socket
from agentmem_daemon.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from agentmem_client import Event


def events(
    agent: Annotated[str | None, typer.Option("--agent", metavar="AGENT", help="Only of this agent.")] = None,
    since: Annotated[
        timedelta | None,
        typer.Option("--since", metavar="DURATION", parser=duration, help="Only those of the last 90s, 12h, 7d."),
    ] = None,
    socket: Socket = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Only of its agents. [default: all]")
    ] = None,
    as_json: Json = False,
) -> None:
    """List what the daemon did on its own: state it gave up, requests it had no room for, damage it mended."""
    with connect(socket) as client:
        begin = None if since is None else datetime.now(UTC) - since
        found = list(client.events(namespace, agent=agent, since=begin))
    if as_json:
        print_json({"events": found})
    elif found:
        print_table(("WHEN", "WHAT", "NAMESPACE", "AGENT", "BYTES>", "POSITIONS", "REASON"), [_row(e) for e in found])
    else:
        say("Nothing happened.")


def _row(event: Event) -> tuple[str, ...]:
    positions = f"{event.start}..{event.end}" if event.end else "-"
    nbytes = size(event.bytes) if event.bytes else "-"
    about = (event.namespace or "-", event.agent or "-", nbytes, positions, event.reason or "-")
    return (moment(event.time), event.kind, *about)

"""`export` and `import`: an agent as one file, to keep or to take elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentmem_daemon.cli.confirm import confirm
from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.errors import CommandError
from agentmem_daemon.cli.figures import size
from agentmem_daemon.cli.options import AgentName, Json, Namespace, Socket, Yes
from agentmem_daemon.cli.output import facts, print_json, say

File = Annotated[Path, typer.Argument(metavar="FILE")]


def export(
    agent: AgentName,
    file: File,
    yes: Yes = False,
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Write an agent to one file, which is never encrypted. Asks before it replaces one."""
    if file.exists():
        confirm(f"Replace {file}?", yes)
    try:
        with connect(socket) as client:
            written = client.agent(agent, namespace).export(file)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}.", "FILE_UNWRITABLE") from error
    say(f"{agent} is in {file} ({size(written)}).")
    if as_json:
        print_json({"agent": agent, "file": str(file), "bytes": written})


def import_(
    file: File,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="The agent's name. [default: the one in the file]")
    ] = None,
    text_only: Annotated[
        bool, typer.Option("--text-only", help="Take only what was said, and recompute the state: for another model.")
    ] = False,
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Make an agent from an exported file."""
    try:
        with connect(socket) as client:
            info = client.import_agent(file, name, namespace, text_only=text_only)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.", "FILE_UNREADABLE") from error
    say(f"{info.name} remembers {info.tokens} tokens.")
    if as_json:
        print_json({"agent": facts(info)})

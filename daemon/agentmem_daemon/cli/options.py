"""Options that several commands share. Help texts are written once, here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Socket = Annotated[
    Path | None,
    typer.Option(
        "--socket", metavar="PATH", help="The daemon's socket. [default: AGENTMEM_SOCKET, else the usual place]"
    ),
]
Namespace = Annotated[
    str,
    typer.Option(
        "--namespace", "-n", metavar="NAME", help="The agents' namespace. [default: default]", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document with stable keys.")]
AgentName = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")]
Encrypt = Annotated[
    str | None,
    typer.Option(
        "--encrypt",
        metavar="keychain|FILE",
        help="Where the key of an encrypted state folder is (`agentmem key create` makes one). A new folder is "
        "encrypted with it, an unencrypted one refused. [default: AGENTMEM_ENCRYPT, else no key]",
    ),
]
Rebuild = Annotated[
    bool, typer.Option("--rebuild", help="If another model computed the agent's memory, recompute it from the record.")
]

WriteBehind = Annotated[
    bool, typer.Option("--write-behind", help="Do not wait for the disk: a crash may lose the turn.")
]

Priority = Annotated[
    Literal["low", "normal", "high"], typer.Option("--priority", help="Which of several requests goes first.")
]


def durability(write_behind: bool) -> Literal["durable", "write_behind"]:
    """The client's word for it."""
    return "write_behind" if write_behind else "durable"


def pass_on(ctx: typer.Context, **given: Any) -> None:
    """Options that stood before the command become its defaults: behind it wins."""
    ctx.default_map = {str(ctx.invoked_subcommand): {name: value for name, value in given.items() if value}}

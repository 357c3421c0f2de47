"""`namespace create`, `namespace ls` and `namespace rm`."""

from __future__ import annotations

from typing import Annotated

import typer

from agentmem_daemon.cli.confirm import confirm
from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.figures import moment, size
from agentmem_daemon.cli.options import DryRun, Json, Socket, Yes, pass_on
from agentmem_daemon.cli.output import print_json, print_table, say

Name = Annotated[str, typer.Argument(metavar="NAME", help="The namespace's name.", show_default=False)]

app = typer.Typer(help="Isolation domains: nothing is shared across them.", no_args_is_help=True)


@app.callback()
def options(ctx: typer.Context, socket: Socket = None, as_json: Json = False) -> None:
    pass_on(ctx, socket=socket, as_json=as_json)


@app.command()
def create(name: Name, socket: Socket = None, as_json: Json = False) -> None:
    """Make a namespace with a secret of its own."""
    with connect(socket) as client:
        client.create_namespace(name)
    say(f"The namespace {name} is there.")
    if as_json:
        print_json({"namespace": name})


@app.command()
def ls(socket: Socket = None, as_json: Json = False) -> None:
    """List all namespaces."""
    with connect(socket) as client:
        namespaces = client.namespaces()
    if as_json:
        print_json({"namespaces": namespaces})
    else:
        print_table(
            ("NAMESPACE", "AGENTS>", "CREATED"), [(n.name, str(n.agents), moment(n.create_time)) for n in namespaces]
        )


@app.command()
def rm(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Forget its agents with it, pinned ones too.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Remove a namespace with its secret. Asks first."""
    confirm(f"Remove the namespace {name!r}{' and all its agents' if force else ''} for good?", yes or dry_run)
    with connect(socket) as client:
        gone = client.delete_namespace(name, force=force, dry_run=dry_run)
    agents = f"{gone.agents} agent{'s' if gone.agents != 1 else ''}, {size(gone.freed_bytes)}"
    say(f"Would remove {name} ({agents})." if dry_run else f"Removed {name} ({agents} freed).")
    if as_json:
        print_json({"namespace": name} | vars(gone))

"""`namespace create` and `namespace ls`."""

from __future__ import annotations

from typing import Annotated

import typer

from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.figures import moment
from agentmem_daemon.cli.options import Json, Socket, pass_on
from agentmem_daemon.cli.output import print_json, print_table, say

app = typer.Typer(help="Isolation domains: nothing is shared across them.", no_args_is_help=True)


@app.callback()
def options(ctx: typer.Context, socket: Socket = None, as_json: Json = False) -> None:
    pass_on(ctx, socket=socket, as_json=as_json)


@app.command()
def create(name: Annotated[str, typer.Argument(metavar="NAME")], socket: Socket = None, as_json: Json = False) -> None:
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

"""`span add` and `span list`: documents that are read once, to be put into agents' memories with `splice`.

A document is an agent like any other: one that has read a text, and nothing else.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from agentmem_daemon.cli.agents import print_agents
from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.options import Json, Namespace, Socket, pass_on
from agentmem_daemon.cli.output import facts, print_json, say
from agentmem_daemon.cli.source import read_text
from agentmem_daemon.cli.splice import whole
from agentmem_daemon.cli.summary import say_if_unsaved, say_warnings

if TYPE_CHECKING:
    from agentmem_client import Client
    from agentmem_client.types import AgentInfo

app = typer.Typer(help="Documents that are read once, for `splice`.", no_args_is_help=True)


@app.callback()
def options(ctx: typer.Context, socket: Socket = None, namespace: Namespace = "", as_json: Json = False) -> None:
    pass_on(ctx, socket=socket, namespace=namespace, as_json=as_json)


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it; no agent may have the name.")],
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The text; - for standard input.")],
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Read a document once."""
    from agentmem_client import AgentmemError

    text = read_text(file)
    with connect(socket) as client:
        agent = client.agent(name, namespace)
        agent.create()
        try:
            read = agent.append(text, create=False, expect_turn=0)
        except BaseException:  # Ctrl-C too: the same command must be possible again
            with suppress(AgentmemError):  # what went wrong first is what counts
                agent.delete()
            raise
    say_warnings(read.warnings)
    say_if_unsaved(read)
    put = f"agentmem splice AGENT {whole(name)}"
    say(f"{name} has {read.usage.prompt_tokens} tokens; put it behind an agent's memory: {put}")
    if as_json:
        print_json(read)


@app.command("list")
def list_(socket: Socket = None, namespace: Namespace = "default", as_json: Json = False) -> None:
    """List the agents that have read one text, and nothing else."""
    with connect(socket) as client:
        spans = [agent for agent in client.agents(namespace) if _is_document(client, agent)]
    if as_json:
        print_json({"agents": [facts(agent) for agent in spans]})
    elif spans:
        print_agents(spans)
    else:
        say("No documents yet. Add one: agentmem span add NAME FILE")


def _is_document(client: Client, agent: AgentInfo) -> bool:
    if agent.turn != 1:
        return False
    (turn,) = client.agent(agent.name, agent.namespace).turns(include_messages=True)
    return turn.kind == "APPEND" and [entry.message.role for entry in turn.messages] == ["text"]

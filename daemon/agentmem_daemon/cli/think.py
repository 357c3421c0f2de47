"""`think`: have an agent take latent steps."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.options import (
    AgentName,
    Json,
    Namespace,
    Priority,
    Rebuild,
    Socket,
    WriteBehind,
    durability,
)
from agentmem_daemon.cli.output import print_json, say
from agentmem_daemon.cli.summary import say_if_unsaved, say_stats, say_warnings


def think(
    agent: AgentName,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Latent positions to add.")],
    text: Annotated[
        str | None,
        typer.Option("--text", help="A user's message to think about. [default: go on from where the agent is]"),
    ] = None,
    projection: Annotated[
        Literal["identity", "ridge", "softmax"],
        typer.Option("--projection", help="How a hidden state becomes the next input."),
    ] = "ridge",
    rebuild: Rebuild = False,
    write_behind: WriteBehind = False,
    priority: Priority = "normal",
    stats: Annotated[bool, typer.Option("--stats", help="Print usage and timings on stderr.")] = False,
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Have an agent think without a word: its last hidden state is fed back to it, step by step."""
    with connect(socket) as client:
        content = None if text is None else [{"role": "user", "content": text}]
        thought = client.agent(agent, namespace).think(
            steps,
            content,
            projection=projection,
            create=text is not None,
            rebuild=rebuild,
            durability=durability(write_behind),
            priority=priority,
        )
    say_warnings(thought.warnings)
    say_if_unsaved(thought)
    if as_json:
        print_json(thought)
    elif stats:
        say_stats(thought.turn, thought.usage, thought.timings, thought.finish_reason)
    else:
        remembers = thought.usage.prompt_tokens + thought.usage.latent_steps
        say(f"{agent} took {thought.usage.latent_steps} latent steps; it remembers {remembers} positions.")

"""`append`: have an agent read something, without a reply."""

from __future__ import annotations

from typing import Annotated

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
from agentmem_daemon.cli.source import read_text
from agentmem_daemon.cli.summary import say_if_unsaved, say_stats, say_warnings


def append(
    agent: AgentName,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The text to read; - for standard input.")],
    raw: Annotated[bool, typer.Option("--raw", help="Add the text as it is, not as a user's message.")] = False,
    rebuild: Rebuild = False,
    write_behind: WriteBehind = False,
    priority: Priority = "normal",
    stats: Annotated[bool, typer.Option("--stats", help="Print usage and timings on stderr.")] = False,
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Add a text to an agent's memory."""
    text = read_text(file)
    with connect(socket) as client:
        content = text if raw else [{"role": "user", "content": text}]
        appended = client.agent(agent, namespace).append(
            content, rebuild=rebuild, durability=durability(write_behind), priority=priority
        )
    say_warnings(appended.warnings)
    say_if_unsaved(appended)
    if as_json:
        print_json(appended)
    elif stats:
        say_stats(appended.turn, appended.usage, appended.timings)
    else:
        computed = appended.usage.prefill_tokens + appended.usage.recomputed_tokens
        say(f"{agent} remembers {appended.usage.prompt_tokens} tokens, {computed} of them computed now.")

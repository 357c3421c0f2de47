"""`splice`: put parts of other agents' memories behind an agent's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

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

if TYPE_CHECKING:
    from agentmem_client import Slice

_RANGE = re.compile(r"(.+):([0-9]*)-([0-9]*)", re.DOTALL)


def splice(
    agent: AgentName,
    parts: Annotated[
        list[str],
        typer.Argument(
            metavar="PART...",
            help="NAME, or NAME:START-END for some of its positions. Either end may be left out, and both: NAME:- is "
            "the whole of an agent whose own name ends like a range.",
            show_default=False,
        ),
    ],
    reposition: Annotated[
        Literal["exact", "reposition", "blend"],
        typer.Option(
            "--reposition",
            help="Compute the parts anew in context, take their state as it is, or take it and compute those positions "
            "anew that miss their context most.",
        ),
    ] = "reposition",
    order: Annotated[
        Literal["given", "canonical"], typer.Option("--order", help="As given, or by what the parts are.")
    ] = "given",
    ratio: Annotated[
        float | None, typer.Option("--ratio", min=0, max=1, help="Share to compute anew when blending. [default: 0.15]")
    ] = None,
    rebuild: Rebuild = False,
    write_behind: WriteBehind = False,
    priority: Priority = "normal",
    stats: Annotated[bool, typer.Option("--stats", help="Print usage and timings on stderr.")] = False,
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Put parts of other agents' memories behind an agent's own, as they are."""
    with connect(socket) as client:
        spliced = client.agent(agent, namespace).splice(
            [part(text) for text in parts],
            reposition=reposition,
            order=order,
            ratio=ratio,
            rebuild=rebuild,
            durability=durability(write_behind),
            priority=priority,
        )
    say_warnings(spliced.warnings)
    say_if_unsaved(spliced)
    if as_json:
        print_json(spliced)
    elif stats:
        say_stats(spliced.turn, spliced.usage, spliced.timings)
    else:
        usage = spliced.usage
        where = ", ".join(f"{parts[one.part]} at {one.start}" for one in spliced.parts)
        say(
            f"{agent} remembers {usage.prompt_tokens} tokens, {usage.prefill_tokens} of them computed now: {where} "
            f"({usage.exactness.lower()})."
        )


def whole(name: str) -> str:
    """The argument that names all of an agent."""
    return f"{name}:-" if _RANGE.fullmatch(name) else name


def part(text: str) -> Slice:
    """What an argument names. Of several ranges at its end the last one is meant, the others are the name's."""
    from agentmem_client import Slice

    found = _RANGE.fullmatch(text)
    if found is None:
        return Slice(text)
    name, start, end = found.groups()
    return Slice(name, int(start or 0), int(end) if end else None)

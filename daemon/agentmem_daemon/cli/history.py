"""`log`, `fork`, `rewind` and `diff`: what an agent went through, and how to go on from an earlier turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.figures import moment
from agentmem_daemon.cli.options import AgentName, Json, Namespace, Socket
from agentmem_daemon.cli.output import facts, plain, print_json, print_table, say

if TYPE_CHECKING:
    from agentmem_client import AgentInfo, Turn

EXCERPT = 48
"""Characters of what was said that a table shows of a turn."""


def log(agent: AgentName, socket: Socket = None, namespace: Namespace = "default", as_json: Json = False) -> None:
    """List an agent's turns and what was said in them."""
    with connect(socket) as client:
        turns = client.agent(agent, namespace).turns(include_messages=True)
    if as_json:
        print_json({"agent": agent, "turns": turns})
    elif turns:
        print_turns(turns, said=True)
    else:
        say(f"{agent} has no turns.")


def print_turns(turns: Sequence[Turn], said: bool = False) -> None:
    """said: with the beginning of what was said in each."""
    columns = ("TURN>", "KIND", "POSITIONS", "TOKENS>", "FINISH", "WHEN", *(("SAID",) if said else ()))
    rows = [
        (
            str(t.number),
            t.kind,
            f"{t.start}..{t.end}",
            str(t.end - t.start),
            t.finish_reason or "-",
            moment(t.create_time),
            *((_excerpt(t),) if said else ()),
        )
        for t in turns
    ]
    print_table(columns, rows)


def _excerpt(turn: Turn) -> str:
    """The beginning of the turn's first message, on one line."""
    message = next((one.message for one in turn.messages if one.message.content), None)
    if message is None:
        return f"{turn.end - turn.start} latent steps" if turn.kind == "THINK" else "-"
    text = " ".join(message.content.split())
    return f"{message.role}: {text if len(text) <= EXCERPT else text[: EXCERPT - 1] + '…'}"


def fork(
    agent: AgentName,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new agent's name.")],
    at: Annotated[
        int | None,
        typer.Option("--at", metavar="TURN", min=0, help="Begin at the end of this turn. [default: the last]"),
    ] = None,
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Make a new agent that remembers what another did at a turn."""
    with connect(socket) as client:
        made = client.agent(agent, namespace).fork(new, at_turn=at)
        _print_stand(made.info(), made.tokens_to_recompute, f"{new} begins", as_json)


def rewind(
    agent: AgentName,
    to: Annotated[int, typer.Option("--to", metavar="TURN", min=0, help="The turn to go back to; 0 empties it.")],
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Set an agent back to the end of an earlier turn. Rewinding to a later one undoes it."""
    with connect(socket) as client:
        rewound = client.agent(agent, namespace).rewind(to)
    _print_stand(rewound.agent, rewound.tokens_to_recompute, f"{agent} goes on", as_json)


def _print_stand(info: AgentInfo, tokens_to_recompute: int, who: str, as_json: bool) -> None:
    cost = f", {tokens_to_recompute} of them to be recomputed" if tokens_to_recompute else ""
    say(f"{who} with {info.tokens} tokens{cost}. Its last turn is {info.turn}.")
    if as_json:
        print_json({"agent": facts(info), "tokens_to_recompute": tokens_to_recompute})


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="An agent's name.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another agent's name.")],
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Show where the timelines of two agents part."""
    with connect(socket) as client:
        parting = client.agent(a, namespace).diff(b)
    if as_json:
        print_json({**plain(parting), "same": parting.same})
        return
    same = "Their timelines are the same." if parting.same else f"They part at position {parting.position}."
    say(same if parting.position or parting.same else "They have nothing in common.")
    sides = ((a, parting.a_tokens, parting.a_turn), (b, parting.b_tokens, parting.b_turn))
    print_table(
        ("AGENT", "TOKENS>", "IN COMMON>", "PARTS IN TURN>"),
        [(name, str(tokens), str(parting.position), str(turn or "-")) for name, tokens, turn in sides],
    )

"""`ps`, `ls`, `show` and `rm`: what agents there are, what one of them holds, and how to forget one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.errors import EXIT_FAILED, report
from agentmem_daemon.cli.figures import ago, moment, size
from agentmem_daemon.cli.options import AgentName, Json, Namespace, Socket
from agentmem_daemon.cli.output import plain, print_json, print_table, say

if TYPE_CHECKING:
    from agentmem_client import AgentInfo, Turn

KEY_PREFIX = 12
"""Hex digits of a block key that a table shows."""


def ps(socket: Socket = None, namespace: Namespace = "default", as_json: Json = False) -> None:
    """List the agents whose memory is in RAM."""
    _list_agents(socket, namespace, as_json, hot_only=True)


def ls(socket: Socket = None, namespace: Namespace = "default", as_json: Json = False) -> None:
    """List all agents."""
    _list_agents(socket, namespace, as_json, hot_only=False)


def _list_agents(socket: Socket, namespace: str, as_json: bool, hot_only: bool) -> None:
    with connect(socket) as client:
        agents = list(client.agents(namespace, hot_only=hot_only))
    if as_json:
        print_json({"agents": [_facts(agent) for agent in agents]})
    elif agents:
        print_agents(agents)
    else:
        say("No agent's memory is in RAM." if hot_only else "No agents yet. Talk to one: agentmem chat NAME")


def print_agents(agents: Sequence[AgentInfo]) -> None:
    print_table(
        ("NAME", "STATE", "TURNS>", "TOKENS>", "RAM>", "DISK>", "LAST USED"),
        [
            (
                a.name,
                _state(a),
                str(a.turn),
                str(a.tokens),
                size(a.ram_bytes),
                size(a.disk_bytes),
                ago(a.last_used_time),
            )
            for a in agents
        ],
    )


def show(agent: AgentName, socket: Socket = None, namespace: Namespace = "default", as_json: Json = False) -> None:
    """Show an agent's turns, blocks and usage."""
    with connect(socket) as client:
        handle = client.agent(agent, namespace)
        info, turns = handle.info(), list(handle.turns())
        model = client.status().model
    limit = model.context_limit if model else 0
    if as_json:
        print_json({"agent": info, "turns": turns_as_json(turns), "totals": totals(info, turns, limit)})
    else:
        print_agent(info, turns, limit)


def print_agent(info: AgentInfo, turns: Sequence[Turn], context_limit: int) -> None:
    """Facts, turns, blocks and totals, one table each."""
    facts = {
        "agent": info.name,
        "namespace": info.namespace,
        "state": _state(info),
        "exactness": info.exactness.lower(),
        "created": moment(info.create_time),
        "last used": moment(info.last_used_time),
        "computed by": info.state_id or "-",
    }
    print_table(("", ""), list(facts.items()), header=False)
    print()
    print_table(
        ("TURN>", "KIND", "POSITIONS", "TOKENS>", "FINISH", "WHEN"),
        [
            (
                str(t.number),
                t.kind,
                f"{t.start}..{t.end}",
                str(t.end - t.start),
                t.finish_reason or "-",
                moment(t.create_time),
            )
            for t in turns
        ],
    )
    print()
    print_table(
        ("BLOCK", "KIND", "START>", "USED>", "BYTES>"),
        [(b.key[:KEY_PREFIX], b.kind, str(b.start), str(b.used), str(b.bytes)) for b in info.blocks],
    )
    print()
    sums = totals(info, turns, context_limit)
    room = f" of {context_limit} ({info.tokens / context_limit:.0%})" if context_limit else ""
    print_table(
        ("", ""),
        [
            ("tokens", f"{info.tokens}{room}"),
            ("turns", str(sums["turns"])),
            ("blocks", f"{sums['blocks']} ({size(sums['block_bytes'])})"),
            ("on disk", size(info.disk_bytes)),
            ("in RAM", size(info.ram_bytes)),
        ],
        header=False,
    )


def totals(info: AgentInfo, turns: Sequence[Turn], context_limit: int) -> dict[str, int]:
    return {
        "tokens": info.tokens,
        "context_limit": context_limit,
        "turns": len(turns),
        "blocks": len(info.blocks),
        "block_bytes": sum(block.bytes for block in info.blocks),
        "disk_bytes": info.disk_bytes,
        "ram_bytes": info.ram_bytes,
    }


def turns_as_json(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    return [_without(turn, "messages") for turn in turns]


def rm(
    agents: Annotated[list[str], typer.Argument(metavar="AGENT", help="The agents' names.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Forget agents for good. Asks first."""
    from agentmem_client import AgentmemError, DaemonNotRunning

    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("Nobody is there to be asked: add --yes.", param_hint="--yes")
        typer.confirm(f"Forget {', '.join(map(repr, agents))} for good?", abort=True, err=True)
    deleted, failed = [], False
    with connect(socket) as client:
        for name in dict.fromkeys(agents):
            try:
                freed = client.agent(name, namespace).delete()
            except DaemonNotRunning:
                raise
            except AgentmemError as error:  # the others can go all the same
                report(error)
                failed = True
                continue
            deleted.append({"agent": name, "freed_bytes": freed})
            say(f"Forgot {name} ({size(freed)} freed).")
    if as_json:
        print_json({"deleted": deleted})
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _state(agent: AgentInfo) -> str:
    return agent.residency.lower() if agent.model_matches else "other model"


def _facts(agent: AgentInfo) -> dict[str, Any]:
    return _without(agent, "blocks")


def _without(result: Any, key: str) -> dict[str, Any]:
    """A result as JSON, less what only a closer look has."""
    return {name: value for name, value in plain(result).items() if name != key}

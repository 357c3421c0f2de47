"""`ps`, `ls`, `show` and `rm`: what agents there are, what one of them holds, and how to forget one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from agentmem_daemon.cli.confirm import confirm
from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.errors import EXIT_FAILED, report
from agentmem_daemon.cli.figures import ago, moment, size
from agentmem_daemon.cli.history import print_turns
from agentmem_daemon.cli.options import AgentName, DryRun, Json, Namespace, Socket, Yes
from agentmem_daemon.cli.output import facts, print_json, print_table, say, without

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
        print_json({"agents": [facts(agent) for agent in agents]})
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
        print_json(
            {
                "agent": info,
                "turns": [without(turn, "messages") for turn in turns],
                "totals": totals(info, turns, limit),
            }
        )
    else:
        print_agent(info, turns, limit)


def print_agent(info: AgentInfo, turns: Sequence[Turn], context_limit: int) -> None:
    """Facts, turns, blocks and totals, one table each."""
    about = {
        "agent": info.name,
        "namespace": info.namespace,
        "state": _state(info),
        "exactness": info.exactness.lower(),
        "created": moment(info.create_time),
        "last used": moment(info.last_used_time),
        "computed by": info.state_id or "-",
        "pinned": "yes" if info.pinned else "no",
        "expires": moment(info.expire_time) if info.expire_time else "never",
        "shares with": "nobody" if info.share == "PRIVATE" else "its namespace",
        "not on disk yet": f"{info.unsaved_turns} turns" if info.unsaved_turns else "nothing",
    }
    print_table(("", ""), list(about.items()), header=False)
    print()
    print_turns(turns)
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


def rm(
    agents: Annotated[list[str], typer.Argument(metavar="AGENT", help="The agents' names.", show_default=False)],
    dry_run: DryRun = False,
    yes: Yes = False,
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Forget agents for good. Asks first."""
    from agentmem_client import AgentmemError, DaemonNotRunning

    confirm(f"Forget {', '.join(map(repr, agents))} for good?", yes or dry_run)
    deleted, failed = [], False
    with connect(socket) as client:
        for name in dict.fromkeys(agents):
            try:
                freed = client.agent(name, namespace).delete(dry_run=dry_run)
            except DaemonNotRunning:
                raise
            except AgentmemError as error:  # the others can go all the same
                report(error)
                failed = True
                continue
            deleted.append({"agent": name, "freed_bytes": freed})
            say(f"Would forget {name} ({size(freed)})." if dry_run else f"Forgot {name} ({size(freed)} freed).")
    if as_json:
        print_json({"deleted": deleted})
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _state(agent: AgentInfo) -> str:
    return agent.residency.lower() if agent.model_matches else "other model"

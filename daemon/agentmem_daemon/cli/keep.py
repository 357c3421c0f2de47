"""`create`, `pin`, `unpin`, `ttl`, `share`, `evict` and `prefetch`: how agents are kept."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmem_daemon.cli.confirm import confirm, require_answerer
from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.durations import duration, duration_or_none
from agentmem_daemon.cli.figures import moment, size
from agentmem_daemon.cli.options import AgentName, DryRun, Json, Namespace, Socket, Yes
from agentmem_daemon.cli.output import facts, plain, print_json, print_table, say

if TYPE_CHECKING:
    from agentmem_client import AgentInfo


class ShareWith(str, Enum):
    NAMESPACE = "namespace"
    PRIVATE = "private"


class EvictTo(str, Enum):
    WARM = "warm"
    COLD = "cold"


def create(
    agent: AgentName,
    private: Annotated[bool, typer.Option("--private", help="No other agent ever reuses its blocks.")] = False,
    ttl: Annotated[
        timedelta | None,
        typer.Option("--ttl", metavar="DURATION", parser=duration, help="`prune --expired` may take it then: 7d, 12h."),
    ] = None,
    pinned: Annotated[bool, typer.Option("--pin", help="Never prune it, and never evict it to make room.")] = False,
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Make an empty agent. Only needed for these options: chat and append make agents as well."""
    with connect(socket) as client:
        share = ShareWith.PRIVATE if private else ShareWith.NAMESPACE
        info = client.agent(agent, namespace).create(share=share.value, ttl=ttl, pinned=pinned)
    _print_kept(info, f"{agent} is there.", as_json)


def pin(agent: AgentName, socket: Socket = None, namespace: Namespace = "default", as_json: Json = False) -> None:
    """Keep an agent: never prune it, and never evict it to make room."""
    _update(agent, socket, namespace, as_json, f"{agent} is pinned.", pinned=True)


def unpin(agent: AgentName, socket: Socket = None, namespace: Namespace = "default", as_json: Json = False) -> None:
    """Undo pin."""
    _update(agent, socket, namespace, as_json, f"{agent} is not pinned.", pinned=False)


def ttl(
    agent: AgentName,
    span: Annotated[
        timedelta,
        typer.Argument(metavar="DURATION|none", parser=duration_or_none, help="From now on: 90s, 30m, 12h, 7d, 2w."),
    ],
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Let an agent expire, whether it is used or not. `prune --expired` deletes expired agents."""
    _update(agent, socket, namespace, as_json, "", ttl=span)


def share(
    agent: AgentName,
    who: Annotated[ShareWith, typer.Argument(metavar="namespace|private", help="Who may reuse its blocks.")],
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Choose who may reuse an agent's blocks."""
    said = "is private" if who is ShareWith.PRIVATE else "shares blocks with its namespace"
    _update(agent, socket, namespace, as_json, f"{agent} {said}.", share=who.value)


def _update(agent: str, socket: Socket, namespace: str, as_json: bool, said: str, **changes: Any) -> None:
    with connect(socket) as client:
        info = client.agent(agent, namespace).update(**changes)
    expiry = f"expires at {moment(info.expire_time)}" if info.expire_time else "never expires"
    _print_kept(info, said or f"{agent} {expiry}.", as_json)


def _print_kept(info: AgentInfo, said: str, as_json: bool) -> None:
    say(said)
    if as_json:
        print_json({"agent": facts(info)})


def evict(
    agent: AgentName,
    to: Annotated[
        EvictTo, typer.Option("--to", help="warm frees RAM; cold also the disk, and the next turn recomputes it.")
    ] = EvictTo.WARM,
    dry_run: DryRun = False,
    yes: Yes = False,
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Free what an agent's state takes. It remembers as before. Asks first if files go."""
    harmless = dry_run or yes or to is EvictTo.WARM
    require_answerer(harmless)
    with connect(socket) as client:
        handle = client.agent(agent, namespace)
        if not harmless:
            disk = size(handle.evict(to.value, dry_run=True).disk_bytes)
            confirm(f"Delete {disk} of {agent!r}'s state, to be recomputed at its next turn?", yes)
        evicted = handle.evict(to.value, dry_run=dry_run)
    if as_json:
        print_json({"agent": agent, "ram_bytes": evicted.ram_bytes, "disk_bytes": evicted.disk_bytes})
        return
    print_table(("AGENT", "RAM FREED>", "DISK FREED>"), [(agent, size(evicted.ram_bytes), size(evicted.disk_bytes))])
    if dry_run:
        say("A dry run: nothing was freed.")


def prefetch(agent: AgentName, socket: Socket = None, namespace: Namespace = "default", as_json: Json = False) -> None:
    """Bring an agent's memory into RAM, ahead of its next turn."""
    with connect(socket) as client:
        done = client.agent(agent, namespace).prefetch()
    if as_json:
        print_json({"agent": agent, **plain(done)})
        return
    recomputed = f", {done.recomputed_tokens} recomputed" if done.recomputed_tokens else ""
    say(
        f"{agent} is in RAM: {done.warm_tokens} tokens from disk ({size(done.bytes_read)} read), "
        f"{done.hot_tokens} were there{recomputed}."
    )

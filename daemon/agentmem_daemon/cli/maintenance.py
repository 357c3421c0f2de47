"""`prune`, `df` and `verify`: what can go, what memory takes on disk, and whether it is intact."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from agentmem_daemon.cli.confirm import confirm, require_answerer
from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.durations import duration
from agentmem_daemon.cli.errors import EXIT_FAILED
from agentmem_daemon.cli.figures import size
from agentmem_daemon.cli.options import DryRun, Json, Namespace, Socket, Yes
from agentmem_daemon.cli.output import plain, print_json, print_table, say

if TYPE_CHECKING:
    from agentmem_client import DiskUsage, Pruned


def prune(
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            "--older-than", metavar="DURATION", parser=duration, help="Agents not used for so long: 30d, 12h."
        ),
    ] = None,
    expired: Annotated[bool, typer.Option("--expired", help="Agents whose time to live is over.")] = False,
    history: Annotated[
        str | None, typer.Option("--history", metavar="AGENT", help="This agent's earlier turns; its memory stays.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Delete what is no longer wanted; without options, files that no agent uses. Never a pinned agent. Asks first."""
    if (older_than is not None) + expired + (history is not None) > 1:
        raise typer.BadParameter("Give one of --older-than, --expired and --history at most.")
    require_answerer(dry_run or yes)
    with connect(socket) as client:
        run = partial(client.prune, namespace, older_than=older_than, expired=expired, history_of=history)
        if not (dry_run or yes) and (would_go := run(dry_run=True)):
            _print_pruned(would_go, sys.stderr)
            confirm(f"Delete these for good ({size(_freed(would_go))})?", yes)
        pruned = run(dry_run=dry_run)
    if as_json:
        print_json({"pruned": pruned, "freed_bytes": _freed(pruned)})
    elif pruned:
        _print_pruned(pruned, sys.stdout)
    if not pruned:
        say("There is nothing to prune.")
    else:
        say(f"{size(_freed(pruned))} {'would be freed. A dry run: nothing was deleted' if dry_run else 'freed'}.")


def _print_pruned(pruned: Sequence[Pruned], stream: TextIO) -> None:
    rows = [
        (p.kind.lower(), p.agent or "-", str(p.turn) if p.kind == "TURN" else "-", size(p.freed_bytes)) for p in pruned
    ]
    print_table(("WHAT", "AGENT", "TURN>", "FREED>"), rows, stream=stream)


def _freed(pruned: Sequence[Pruned]) -> int:
    return sum(one.freed_bytes for one in pruned)


def df(socket: Socket = None, as_json: Json = False) -> None:
    """Show what memory takes on disk, per namespace and agent."""
    with connect(socket) as client:
        usage = client.disk_usage()
    if as_json:
        print_json(usage)
    else:
        _print_usage(usage)


def _print_usage(usage: DiskUsage) -> None:
    """Agents first, then the sums: a block that agents share counts for each of them above, and once below."""
    rows = [
        (n.namespace, a.agent, size(a.exclusive_bytes), size(a.shared_bytes), size(a.record_bytes))
        for n in usage.namespaces
        for a in n.agents
    ]
    if rows:
        print_table(("NAMESPACE", "AGENT", "OWN BLOCKS>", "SHARED BLOCKS>", "RECORDS>"), rows)
        print()
    sums = [
        (f"namespace {n.namespace}", size(n.total_bytes), f"{size(n.shared_bytes)} shared") for n in usage.namespaces
    ]
    sums += [
        ("orphaned", size(usage.orphaned_bytes), "agentmem prune" if usage.orphaned_bytes else ""),
        ("quarantined", size(usage.quarantined_bytes), ""),
        ("catalog", size(usage.catalog_bytes), ""),
        ("total", size(usage.total_bytes), ""),
    ]
    if usage.budget_bytes:
        share = usage.budgeted_bytes / usage.budget_bytes
        sums.append(("budget", size(usage.budget_bytes), f"for the namespaces, {share:.0%} used"))
    print_table(("", ">", ""), sums, header=False)


def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Set aside what is damaged, and mend what can be.")] = False,
    socket: Socket = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Only this one. [default: all]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read and check everything that agents remember. Exit code 1 if something is wrong, and stays so."""
    with connect(socket) as client:
        report = client.verify(namespace, repair=repair)
    if as_json:
        print_json({**plain(report), "ok": report.ok})
    else:
        print_problems(report.problems)
    found = len(report.problems)
    outcome = "all is as it was written" if not found else f"{found} problem{'s' if found > 1 else ''}"
    mended = f", {report.repaired} mended" if report.repaired else ""
    say(f"Checked {report.blocks} blocks and {report.records} records ({size(report.bytes)}): {outcome}{mended}.")
    if not report.ok:
        raise typer.Exit(EXIT_FAILED)


def print_problems(problems: Sequence[Any]) -> None:
    """problems: of the client, or of the store itself. Nothing if there are none."""
    if problems:
        print_table(
            ("WHAT", "NAMESPACE", "AGENT", "TURN>", "REASON"),
            [(p.kind.lower(), p.namespace or "-", p.agent or "-", str(p.turn or "-"), p.reason) for p in problems],
        )

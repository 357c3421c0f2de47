"""`stats` and `status`: what the daemon did since its start, and whether it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.errors import EXIT_FAILED
from agentmem_daemon.cli.figures import seconds, size
from agentmem_daemon.cli.options import Json, Socket
from agentmem_daemon.cli.output import print_json, print_table, say
from agentmem_daemon.cli.shares import hit_rates, percent, step_split

if TYPE_CHECKING:
    from agentmem_client import Stats, StepTimes


def stats(socket: Socket = None, as_json: Json = False) -> None:
    """Show what the daemon did since its start, and what its steps spent their time on."""
    with connect(socket) as client:
        found = client.stats()
    if as_json:
        print_json(found)
        return
    print_table(("", ""), _facts(found), header=False)
    if found.steps.steps:
        print()
        print_table(("DECODE STEP", "EACH>", "TOTAL>", "SHARE>"), _split(found.steps))


def _facts(s: Stats) -> list[tuple[str, str]]:
    rates = hit_rates(s)
    return [
        ("requests", f"{s.running} of {s.max_batch} running, {s.queued} of {s.queue_limit} queued"),
        ("since the start", f"{s.requests_total} requests, {s.errors_total} failed, {s.set_aside_total} set aside"),
        ("agents", f"{s.hot_agents} of {s.agents} in RAM"),
        ("RAM", f"{size(s.hot_bytes)} of {size(s.ram_budget_bytes)}"),
        ("disk", f"{size(s.disk_bytes)} of {size(s.disk_budget_bytes)}"),
        ("not on disk yet", f"{s.unsaved_turns} turns, {size(s.unsaved_bytes)}" if s.unsaved_bytes else "nothing"),
        ("tokens", f"{s.prefill_tokens_total} computed, {s.generated_tokens_total} generated"),
        ("reused", f"{s.reused_hot_tokens_total} from RAM, {s.reused_warm_tokens_total} from disk"),
        ("recomputed", f"{s.recomputed_tokens_total}, {s.quarantined_blocks_total} damaged blocks"),
        ("of all prompts", ", ".join(f"{share:.0%} {name}" for name, share in rates.items()) if rates else "-"),
        ("decode steps", f"{s.steps.steps}, {_batch(s.steps):.1f} tokens each"),
        ("restores", f"{s.restores_total} in {seconds(s.restore_s_total)}, {_hidden(s)} of it hidden"),
    ]


def _batch(steps: StepTimes) -> float:
    return steps.tokens / steps.steps if steps.steps else 0.0


def _hidden(s: Stats) -> str:
    return percent(s.restore_hidden_s_total, s.restore_s_total)


def _split(steps: StepTimes) -> list[tuple[str, ...]]:
    """What a decode step's time goes into; below, what there is time for between two of them."""
    parts = step_split(steps)
    decoding = sum(parts.values())
    whole = decoding + steps.prefill_s
    rows = [
        (name, f"{spent / steps.steps * 1000:.3f} ms", seconds(spent), percent(spent, whole))
        for name, spent in {**parts, "all of it": decoding}.items()
    ]
    return [*rows, ("prompts", "-", seconds(steps.prefill_s), percent(steps.prefill_s, whole))]


def status(socket: Socket = None, as_json: Json = False) -> None:
    """Show whether the daemon serves. Exit code 1 if it runs and does not: it loads, stops, or is stuck."""
    with connect(socket) as client:
        now = client.status()
    if as_json:
        print_json(now)
    else:
        print_table(
            ("", ""),
            [
                ("phase", now.phase.lower()),
                ("model", now.model.name if now.model else "-"),
                ("up for", str(now.uptime).partition(".")[0]),
                ("pid", str(now.pid)),
                ("state folder", now.state_dir),
                ("version", now.version),
            ],
            header=False,
        )
    if now.phase != "SERVING":
        say(f"{now.message} ({now.progress:.0%})" if now.phase == "LOADING" else now.message)
        raise typer.Exit(EXIT_FAILED)

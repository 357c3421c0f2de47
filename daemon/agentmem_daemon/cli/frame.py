"""What `top` shows of two looks at the daemon."""

from __future__ import annotations

from agentmem_client import RunningRequest
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentmem_daemon.cli.figures import seconds, size
from agentmem_daemon.cli.harmless import harmless
from agentmem_daemon.cli.sample import WAITING, Rates, Sample, steps_between
from agentmem_daemon.cli.shares import hit_rates, percent, step_split

BAR = 30
"""Columns of a bar."""


def frame(before: Sample | None, now: Sample) -> RenderableType:
    """Top to bottom: the daemon, its figures, its requests."""
    rates = Rates.between(before, now)
    return Group(_title(now), Text(), _figures(before, now, rates), Text(), _requests(now, rates))


def _title(now: Sample) -> Text:
    status = now.status
    model = harmless(status.model.name) if status.model else "no model yet"
    title = Text(f"agentmem {status.version}  {model}  up {str(status.uptime).partition('.')[0]}  ")
    title.append(status.phase, style="bold green" if status.phase == "SERVING" else "bold red")
    if status.phase != "SERVING":
        title.append(f"\n{harmless(status.message)}", style="red")
    return title


def _figures(before: Sample | None, now: Sample, rates: Rates) -> Table:
    stats, phases = now.stats, now.phases
    shares = hit_rates(stats)
    waiting = sum(phases[phase] for phase in WAITING)
    table = _table()
    table.add_column(style="bold")
    table.add_column()
    for name, value in {
        "agents": f"{stats.hot_agents} of {stats.agents} hot",
        "requests": f"{phases['DECODING']} decoding, {phases['PREFILL']} in prefill, {phases['RESTORING']} restoring, "
        f"{waiting} queued, {phases['SET_ASIDE']} set aside",
        "tokens/s": f"{rates.generated:.1f} generated, {rates.prefill:.1f} prefill",
        "RAM": _bar(stats.hot_bytes, stats.ram_budget_bytes),
        "disk": _bar(stats.disk_bytes, stats.disk_budget_bytes),
        "prompts": ", ".join(f"{share:.0%} {name}" for name, share in shares.items()) if shares else "none yet",
        "steps": _steps(before, now),
    }.items():
        table.add_row(name, value)
    return table


def _bar(used: int, budget: int) -> str:
    filled = min(BAR, round(BAR * used / budget)) if budget else BAR
    return f"{'█' * filled}{'░' * (BAR - filled)} {size(used)} of {size(budget)}, {percent(used, budget)}"


def _steps(before: Sample | None, now: Sample) -> str:
    steps = steps_between(before, now)
    if not steps.steps:
        return "none yet"
    parts = step_split(steps)
    decoding = sum(parts.values())
    whole = decoding + steps.prefill_s
    split = ", ".join(
        f"{percent(spent, whole)} {name}" for name, spent in {**parts, "prompts": steps.prefill_s}.items()
    )
    return f"{seconds(decoding / steps.steps)} each for {steps.tokens / steps.steps:.1f} tokens: {split}"


def _requests(now: Sample, rates: Rates) -> RenderableType:
    if not now.requests:
        return Text("No requests.")
    table = _table(show_header=True, header_style="bold")
    for title in ("AGENT", "PHASE"):
        table.add_column(title, overflow="fold")
    for title in ("QUEUE", "FED", "PROMPT", "GENERATED", "TOKENS/S", "WAITED", "RUNNING"):
        table.add_column(title, justify="right", no_wrap=True)
    for request in now.requests:
        rate = rates.requests.get(request.request_id) if request.tokens_generated else None
        table.add_row(*_row(request, rate))
    return table


def _row(request: RunningRequest, rate: float | None) -> list[Text]:
    name = request.agent if request.namespace == "default" else f"{request.namespace}/{request.agent}"
    cells = (
        name,
        request.phase.lower().replace("_", " "),
        str(request.queue_position or "-"),
        str(request.tokens_fed),
        str(request.prompt_tokens or "-"),
        str(request.tokens_generated),
        "-" if rate is None else f"{rate:.1f}",
        seconds(request.waited_s),
        seconds(request.running_s) if request.phase != "QUEUED" else "-",
    )
    return [Text(harmless(cell)) for cell in cells]


def _table(show_header: bool = False, header_style: str = "") -> Table:
    return Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=show_header, header_style=header_style or None
    )

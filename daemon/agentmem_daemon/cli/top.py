"""`top`: what the daemon does, as it does it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.errors import EXIT_INTERRUPTED
from agentmem_daemon.cli.interrupt import ctrl_c
from agentmem_daemon.cli.options import Json, Socket
from agentmem_daemon.cli.output import PIPED_WIDTH, plain, print_json

if TYPE_CHECKING:
    from agentmem_client import Client

    from agentmem_daemon.cli.sample import Sample


def top(
    interval: Annotated[float, typer.Option("--interval", min=0.1, max=60, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look, and end; so it does in a pipe.")] = False,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Watch requests, tokens per second, memory and steps, until Ctrl-C."""
    told_to_stop = threading.Event()
    with connect(socket) as client, ctrl_c(told_to_stop.set):
        if once or as_json or not sys.stdout.isatty():
            _look_once(client, interval, told_to_stop, as_json)
        else:
            _watch(client, interval, told_to_stop)
    if told_to_stop.is_set():
        raise typer.Exit(EXIT_INTERRUPTED)


def _look_once(client: Client, interval: float, told_to_stop: threading.Event, as_json: bool) -> None:
    """One look: two polls, as rates are differences."""
    from agentmem_daemon.cli.sample import Rates

    before = _sample(client)
    if told_to_stop.wait(interval):
        return
    now = _sample(client)
    if as_json:
        rates = Rates.between(before, now)
        documents = {"status": now.status, "stats": now.stats, "requests": now.requests, "rates": rates}
        print_json({name: plain(document) for name, document in documents.items()})
        return
    from rich.console import Console

    from agentmem_daemon.cli.frame import frame

    on_terminal = sys.stdout.isatty()
    console = Console(highlight=False) if on_terminal else Console(width=PIPED_WIDTH, color_system=None)
    with console.capture() as capture:
        console.print(frame(before, now))
    sys.stdout.writelines(line.rstrip() + "\n" for line in capture.get().splitlines())


def _watch(client: Client, interval: float, told_to_stop: threading.Event) -> None:
    """Look after look on a screen of its own, which gives way to what was there before."""
    from rich.console import Console
    from rich.live import Live

    from agentmem_daemon.cli.frame import frame

    before: Sample | None = None
    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        while not told_to_stop.is_set():
            now = _sample(client)
            live.update(frame(before, now), refresh=True)
            before = now
            told_to_stop.wait(interval)


def _sample(client: Client, clock: Callable[[], float] = time.monotonic) -> Sample:
    from agentmem_daemon.cli.sample import Sample

    return Sample(clock(), client.status(), client.stats(), tuple(client.requests()))

"""How far long work is: a bar on a terminal, else a line whenever there is something new to say. On stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agentmem_daemon.cli.output import say

OnProgress = Callable[[float, str], None]


@contextmanager
def progress() -> Iterator[OnProgress]:
    """Yields a function of (0..1, words). At 1 the bar goes and the words stay."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=1.0)

    def update(fraction: float, message: str) -> None:
        bar.update(task, completed=fraction, description=message)
        if fraction < 1:
            bar.start()
        else:
            bar.stop()
            say(message)

    try:
        yield update
    finally:
        bar.stop()


def _lines() -> OnProgress:
    said = ""

    def update(fraction: float, message: str) -> None:
        nonlocal said
        if message != said:
            said = message
            say(message)

    return update

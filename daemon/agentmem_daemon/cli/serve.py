"""`serve`: run the daemon in the foreground."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from agentmem.types import PrefillPath
from agentmem_daemon.cli.errors import EXIT_USAGE, CommandError
from agentmem_daemon.cli.options import Encrypt, Socket
from agentmem_daemon.cli.progress import progress


class LogLevel(str, Enum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


def serve(
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="PATH_OR_HF_ID", help="The model to serve. [default: the one that ships]"),
    ] = None,
    socket: Socket = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="Folder of everything remembered.")
    ] = None,
    tcp_port: Annotated[
        int | None, typer.Option("--tcp-port", min=1, max=65535, help="Listen on this loopback port too.")
    ] = None,
    ram_budget: Annotated[
        str | None,
        typer.Option("--ram-budget", metavar="SIZE", help="RAM for memories, as in 8GB or 8GiB. [default: by machine]"),
    ] = None,
    disk_budget: Annotated[
        str | None,
        typer.Option(
            "--disk-budget", metavar="SIZE", help="Disk for memories, as in 20GB. [default: a tenth of the free disk]"
        ),
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option("--max-batch", min=1, help="Requests that may run at once. [default: 32]")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option("--metrics-port", min=1, max=65535, help="Offer Prometheus figures on this loopback port."),
    ] = None,
    prefill_path: Annotated[
        PrefillPath | None,
        typer.Option("--prefill-path", help="How prompts are attended to; fused is fast numerics. [default: auto]"),
    ] = None,
    encrypt: Encrypt = None,
    log_level: Annotated[LogLevel | None, typer.Option("--log-level", case_sensitive=False)] = None,
) -> None:
    """Run the daemon until Ctrl-C or SIGTERM."""
    from pydantic import ValidationError

    from agentmem_daemon.lifecycle import run
    from agentmem_daemon.settings import DaemonSettings

    level = None if log_level is None else log_level.value
    options = {"model": model, "socket": socket, "state": state, "tcp_port": tcp_port, "log_level": level}
    options |= {"ram_budget": ram_budget, "disk_budget": disk_budget, "encrypt": encrypt}
    options |= {"max_batch": max_batch, "metrics_port": metrics_port}
    options |= {"prefill_path": None if prefill_path is None else prefill_path.value}
    try:  # what is not given here comes from the environment, else from the defaults
        settings = DaemonSettings.model_validate({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise CommandError(f"The settings are wrong: {wrong}.", "SETTINGS_INVALID", EXIT_USAGE) from None
    with progress() as on_progress:
        code = run(settings, on_progress)
    raise typer.Exit(code)

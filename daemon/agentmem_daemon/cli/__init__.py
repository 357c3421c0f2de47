"""The `agentmem` command. Importing this package loads nothing heavy; commands import what they need when they run."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from agentmem_daemon.extras import EXIT_NO_EXTRA, install_line

INSTALL_LINE = install_line("daemon")


def main() -> None:
    """The script's entry. Exits with 4 if the extra [daemon] is not installed."""
    if find_spec("typer") is None:
        print(f"The agentmem command needs the daemon's packages: {INSTALL_LINE}", file=sys.stderr)
        raise SystemExit(EXIT_NO_EXTRA)
    from agentmem_daemon.cli.app import run

    raise SystemExit(run())

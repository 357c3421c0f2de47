"""`doctor`: mends a state folder whose daemon cannot run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from agentmem_daemon.cli.errors import EXIT_FAILED
from agentmem_daemon.cli.maintenance import print_problems
from agentmem_daemon.cli.options import Encrypt, Json
from agentmem_daemon.cli.output import plain, print_json, say


def doctor(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the catalog anew from turn records and blocks. The old one is kept.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="[default: AGENTMEM_STATE, else the usual place]")
    ] = None,
    encrypt: Encrypt = None,
    as_json: Json = False,
) -> None:
    """Mend a state folder that the daemon cannot open. The daemon must not run."""
    if not rebuild:
        raise typer.BadParameter("Say what to do.", param_hint="--rebuild")
    from agentmem_client.discovery import default_state_dir

    from agentmem.store import masterkey
    from agentmem.store.rebuild import rebuild as rebuild_catalog

    folder = (state or default_state_dir()).expanduser()
    source = encrypt or os.environ.get("AGENTMEM_ENCRYPT")
    report = rebuild_catalog(folder, key=masterkey.load(source) if source else None)
    if as_json:
        print_json(
            {
                "state_dir": str(folder),
                "agents": report.agents,
                "turns": report.turns,
                "set_aside": str(report.set_aside) if report.set_aside else None,
                "problems": plain(report.problems),
            }
        )
    else:
        print_problems(report.problems)
    say(f"The catalog of {folder} is made anew: {report.agents} agents with {report.turns} turns.")
    if report.set_aside:
        say(f"The old one is {report.set_aside}")
    if report.problems:
        raise typer.Exit(EXIT_FAILED)

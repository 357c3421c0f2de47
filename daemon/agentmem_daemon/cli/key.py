"""`key create`: the key of encrypted state folders."""

from __future__ import annotations

from typing import Annotated

import typer

from agentmem_daemon.cli.errors import CommandError
from agentmem_daemon.cli.output import say

app = typer.Typer(help="The key of encrypted state folders.", no_args_is_help=True)


@app.callback()
def options() -> None:
    """The key of encrypted state folders."""


@app.command()
def create(
    place: Annotated[str, typer.Argument(metavar="keychain|FILE", help="The keychain of this computer, or a file.")],
) -> None:
    """Make a key for `serve --encrypt`. One that is there is never replaced."""
    from agentmem.store import masterkey

    try:
        masterkey.create(place)
    except OSError as error:
        raise CommandError(f"{place} cannot be written: {error.strerror}.", "FILE_UNWRITABLE") from error
    where = "the keychain" if place == masterkey.KEYCHAIN else place
    say(f"A new key is in {where}. Keep a copy elsewhere: what is encrypted with it can be read with it alone.")

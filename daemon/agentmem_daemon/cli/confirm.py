"""Asking before something is lost."""

from __future__ import annotations

import sys

import typer


def require_answerer(yes: bool) -> None:
    """Refuses the command where it would have to ask and nobody is there."""
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("Nobody is there to be asked: add --yes.", param_hint="--yes")


def confirm(question: str, yes: bool) -> None:
    """Asks on stderr, unless `yes`. Any answer but yes ends the command with exit code 1."""
    require_answerer(yes)
    if not yes:
        typer.confirm(question, abort=True, err=True)

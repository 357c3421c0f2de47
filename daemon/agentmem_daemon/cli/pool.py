"""`agentmem pool`: the knowledge of which way of working together suited what kind of task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentmem_daemon.cli.confirm import confirm
from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.errors import CommandError
from agentmem_daemon.cli.figures import size
from agentmem_daemon.cli.options import Json, Socket, Yes, pass_on
from agentmem_daemon.cli.output import print_json, print_table, say
from agentmem_daemon.cli.source import argument, read_text

app = typer.Typer(help="Which ways of working together suited what kind of task.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(metavar="FILE")]


@app.callback()
def options(ctx: typer.Context, socket: Socket = None, as_json: Json = False) -> None:
    pass_on(ctx, socket=socket, as_json=as_json)


@app.command("list")
def list_(
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="Only what is nearest to it, best first. [default: all]")
    ] = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """List the pool's entries, or those that suit a query best."""
    with connect(socket) as client:
        pool = client.pool
        entries = list(pool.entries()) if query is None else pool.nearest(argument(query))
    if as_json:
        print_json({"entries": entries})
        return
    if not entries:
        say("There is nothing like it in the pool.")
        return
    print_table(
        ("ID", "TITLE", "SOURCE", "SCORED>", "MEAN>", *(() if query is None else ("SIMILARITY>",))),
        [
            (e.id, e.title, e.source, str(e.outcomes), f"{e.mean_score:.2f}" if e.outcomes else "-")
            + (() if query is None else (f"{e.similarity:.2f}",))
            for e in entries
        ],
    )


@app.command()
def record(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What was asked. The pool keeps it.")],
    plan: Annotated[str, typer.Option("--plan", metavar="FILE|-", help="The plan that was run, as JSON.")],
    score: Annotated[float, typer.Option("--score", min=0, max=1, help="How well it did, 0 to 1.")],
    entry: Annotated[
        str | None,
        typer.Option("--entry", metavar="ID", help="The entry that it came from: it counts there, too."),
    ] = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Note how well a plan did on a query, so that queries like it get what worked."""
    with connect(socket) as client:
        known = client.pool.record(argument(query), read_text(plan), score, entry_id=entry)
    say(f"{known.id}: scored {known.outcomes} times, {known.mean_score:.2f} on average.")
    if as_json:
        print_json({"entry": known})


@app.command()
def forget(
    entry: Annotated[str, typer.Argument(metavar="ID", help="Of a learned entry.")],
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Remove a learned entry, and the text of its query."""
    with connect(socket) as client:
        forgotten = client.pool.forget(entry)
    if not forgotten:
        raise CommandError(f"There is no learned entry {entry}.", "ENTRY_NOT_FOUND")
    say(f"{entry} is forgotten.")
    if as_json:
        print_json({"forgotten": entry})


@app.command()
def export(file: File, yes: Yes = False, socket: Socket = None, as_json: Json = False) -> None:
    """Write all entries to a JSONL file. It holds the queries that were recorded. Asks before it replaces a file."""
    if file.exists():
        confirm(f"Replace {file}?", yes)
    try:
        with connect(socket) as client:
            written = client.pool.export(file)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}.", "FILE_UNWRITABLE") from error
    say(f"The pool is in {file} ({size(written)}).")
    if as_json:
        print_json({"file": str(file), "bytes": written})


@app.command("import")
def import_(file: File, socket: Socket = None, as_json: Json = False) -> None:
    """Take in the entries of an exported file: all, or none if a line is wrong."""
    try:
        with connect(socket) as client:
            changed = client.pool.import_file(file)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.", "FILE_UNREADABLE") from error
    say(f"{changed} entr{'y' if changed == 1 else 'ies'} came or changed.")
    if as_json:
        print_json({"changed": changed})

"""All commands under one roof, and what becomes of their errors."""

from __future__ import annotations

import sys
from io import TextIOWrapper

import typer

from agentmem_daemon.cli import (
    agents,
    append,
    bench,
    chat,
    demo,
    doctor,
    events,
    history,
    keep,
    key,
    maintenance,
    namespaces,
    pool,
    serve,
    span,
    splice,
    stats,
    think,
    together,
    top,
    transfer,
    version,
)
from agentmem_daemon.cli.errors import report
from agentmem_daemon.cli.options import Json, Namespace, Socket, pass_on

app = typer.Typer(
    name="agentmem",
    help="Memory for agents that outlives their process: one daemon, any number of named agents.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # typer's own plain help is faster than rich's boxes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve.serve)
app.command()(demo.demo)
app.command()(stats.status)
app.command()(chat.chat)
app.command()(append.append)
app.command()(together.run)
app.command()(think.think)
app.command()(splice.splice)
app.command()(agents.ps)
app.command()(agents.ls)
app.command()(agents.show)
app.command()(agents.rm)
app.command()(history.log)
app.command()(history.fork)
app.command()(history.rewind)
app.command()(history.diff)
app.command()(keep.create)
app.command()(keep.pin)
app.command()(keep.unpin)
app.command()(keep.ttl)
app.command()(keep.share)
app.command()(keep.evict)
app.command()(keep.prefetch)
app.command()(transfer.export)
app.command("import")(transfer.import_)
app.command()(maintenance.prune)
app.command()(maintenance.df)
app.command()(maintenance.verify)
app.command()(stats.stats)
app.command()(top.top)
app.command()(events.events)
app.command()(doctor.doctor)
app.add_typer(bench.app, name="bench")
app.add_typer(span.app, name="span")
app.add_typer(namespaces.app, name="namespace")
app.add_typer(key.app, name="key")
app.add_typer(pool.app, name="pool")
app.command()(version.version)


@app.callback()
def options(ctx: typer.Context, socket: Socket = None, namespace: Namespace = "", as_json: Json = False) -> None:
    """These options may stand before the command or behind it; behind it wins."""
    pass_on(ctx, socket=socket, namespace=namespace, as_json=as_json)


def run() -> int:
    """Runs the command that the arguments name. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a narrow locale must not break an answer off
    try:
        app(prog_name="agentmem")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:
        code = report(error)
        if code is None:
            raise
        return code
    return 0

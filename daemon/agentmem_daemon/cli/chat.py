"""`chat`: say something to an agent and read its reply as it comes, once or in a conversation."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.errors import EXIT_INTERRUPTED, report
from agentmem_daemon.cli.interrupt import ctrl_c
from agentmem_daemon.cli.options import (
    AgentName,
    Json,
    Namespace,
    Priority,
    Rebuild,
    Socket,
    WriteBehind,
    durability,
)
from agentmem_daemon.cli.output import print_json, print_text, say
from agentmem_daemon.cli.source import STDIN, argument, read_text
from agentmem_daemon.cli.summary import say_if_unsaved, say_stats, say_warnings

if TYPE_CHECKING:
    from agentmem_client import Agent, Reply, ReplyStream

PROMPT = "> "


def chat(
    agent: AgentName,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT|-", help="What to say; - for standard input. Without it: a conversation."),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="A system message to go first.")] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="0 is greedy.")] = 0.0,
    top_p: Annotated[float | None, typer.Option("--top-p", min=0, max=1, help="Nucleus sampling.")] = None,
    top_k: Annotated[int, typer.Option("--top-k", min=0, help="Sample from the k likeliest tokens; 0 is off.")] = 0,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Repeats a sampled reply.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="End the reply here.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="End the reply before this text. Repeatable.")
    ] = None,
    json_schema: Annotated[
        str | None,
        typer.Option("--json-schema", metavar="FILE", help="The reply is JSON that fulfils the schema in this file."),
    ] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Print usage and timings on stderr.")] = False,
    rebuild: Rebuild = False,
    write_behind: WriteBehind = False,
    priority: Priority = "normal",
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Talk to an agent. Only what is new is sent: the agent remembers the rest."""
    if text is None and not sys.stdin.isatty():
        text = STDIN
    if text is None and as_json:
        raise typer.BadParameter(
            "A conversation prints no JSON: give TEXT, or - for standard input.", param_hint="--json"
        )
    message = None if text is None else read_text(STDIN) if text == STDIN else argument(text)
    schema = None if json_schema is None else read_text(json_schema)
    sampling = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed, "max_tokens": max_tokens}
    first = {"system": None if system is None else argument(system), "rebuild": rebuild}
    kept = {"durability": durability(write_behind), "priority": priority}
    options = {**sampling, "stop": stop or [], "json_schema": schema, **kept}
    with connect(socket) as client:
        handle = client.agent(agent, namespace)
        if message is None:
            converse(handle, first, options, stats)
        elif (reply := speak(handle, message, {**first, **options}, as_json)) is None:
            raise typer.Exit(EXIT_INTERRUPTED)
        else:
            finish(reply, stats, as_json)


def speak(agent: Agent, message: str, options: dict[str, Any], quiet: bool = False) -> Reply | None:
    """One turn, printed as it comes unless `quiet`. None if Ctrl-C ended it; what was sent is committed."""
    from agentmem_client import Cancelled

    interrupted = False
    stream: ReplyStream | None = None

    def cancel() -> None:
        nonlocal interrupted
        interrupted = True
        if stream is not None:
            stream.cancel()

    with ctrl_c(cancel):
        stream = agent.chat(message, stream=True, **options)
        if interrupted:  # before there was a stream
            stream.cancel()
        with stream:
            try:
                print_reply(stream, quiet)
                return stream.result
            except Cancelled:
                if not interrupted:
                    raise
                say("cancelled; the agent keeps what it has said so far")
                return None


def print_reply(stream: ReplyStream, quiet: bool) -> None:
    """Reads to the end. What was printed ends in a newline, whatever ended it."""
    try:
        if ahead := stream.started.queue_position:
            say(f"waiting for {ahead} request{'s' if ahead > 1 else ''} ahead")
        for delta in stream:
            if not quiet:
                print_text(delta.text)
    finally:
        if not quiet and stream.text and not stream.text.endswith("\n"):
            print_text("\n")


def finish(reply: Reply, stats: bool, as_json: bool = False) -> None:
    """What there is to say behind the text."""
    say_warnings(reply.warnings)
    say_if_unsaved(reply)
    if as_json:
        print_json(reply)
    if stats:
        say_stats(reply.turn, reply.usage, reply.timings, reply.finish_reason)


def converse(agent: Agent, first: dict[str, Any], options: dict[str, Any], stats: bool) -> None:
    """Turn after turn until EOF, or Ctrl-C at the prompt. `first` holds options of the first turn that succeeds."""
    from agentmem_client import AgentmemError, DaemonNotRunning

    with suppress(ImportError):
        import readline  # noqa: F401  (line editing for input())
    say(f"Talking to {agent.name}. Ctrl-C stops a reply, Ctrl-D leaves.")
    while (line := _ask()) is not None:
        if not line.strip():
            continue
        try:
            reply = speak(agent, line, {**first, **options})
        except DaemonNotRunning:
            raise
        except AgentmemError as error:
            report(error)
            continue
        first = {}
        if reply is not None:
            finish(reply, stats)


def _ask() -> str | None:
    """The next line; None at the end."""
    on_terminal = sys.stdout.isatty()
    if not on_terminal:
        print(PROMPT, end="", file=sys.stderr, flush=True)
    try:
        return argument(input(PROMPT if on_terminal else ""))
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)
        return None

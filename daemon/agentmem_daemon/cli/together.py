"""`run`: let agents work on a query together, and print what comes of it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.errors import EXIT_INTERRUPTED
from agentmem_daemon.cli.figures import seconds, size
from agentmem_daemon.cli.interrupt import ctrl_c
from agentmem_daemon.cli.options import Json, Namespace, Priority, Socket
from agentmem_daemon.cli.output import print_json, print_table, print_text, say
from agentmem_daemon.cli.source import STDIN, argument, read_text

if TYPE_CHECKING:
    from agentmem_client import RunResult, RunStarted, RunStream

Primitive = Literal["answer", "review", "vote", "plan_execute"]
Medium = Literal["latent", "text", "both"]

LatentSteps = Annotated[
    int | None,
    typer.Option("--latent-steps", min=0, help="Taken before an agent hands over, or writes. [default: 20]"),
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=1, help="The most that one agent writes at a time. [default: 512]")
]
Rounds = Annotated[
    int | None, typer.Option("--rounds", min=1, help="Of every review in the plan. [default: the plan's, else 2]")
]
Solvers = Annotated[
    int | None, typer.Option("--solvers", min=1, help="Of every vote in the plan. [default: the plan's, else 3]")
]
Executors = Annotated[
    int | None, typer.Option("--executors", min=1, help="Of every plan_execute. [default: the plan's, else 3]")
]


def run(
    query: Annotated[str, typer.Argument(metavar="QUERY|-", help="What to work on; - for standard input.")],
    primitive: Annotated[
        Primitive | None,
        typer.Option("--primitive", "-p", help="How they work together. [default: the organizer's choice]"),
    ] = None,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="FILE|-", help="A plan to run, as JSON, instead of a primitive.")
    ] = None,
    compose: Annotated[bool, typer.Option("--compose", help="Ask the model for a plan.")] = False,
    medium: Annotated[
        Medium | None,
        typer.Option(
            "--medium", "-m", help="How they hand over: as state, as text, or as state and text. [default: the plan's]"
        ),
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", "-a", metavar="NAME", help="Begin with what this agent remembers.")
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", "-c", metavar="FILE|-", help="A text that the first of them read.")
    ] = None,
    max_tokens: MaxTokens = None,
    latent_steps: LatentSteps = None,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0, help="0 is greedy.")] = None,
    rounds: Rounds = None,
    solvers: Solvers = None,
    executors: Executors = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Repeats a sampled run.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which plan is run, who does what, and what each role cost.")
    ] = False,
    priority: Priority = "normal",
    socket: Socket = None,
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Let temporary agents work on a query together. No agent of yours is changed.

    --rounds, --solvers and --executors hold for every node that has them, whoever chose the plan. Your own --primitive
    or --plan must have such a node; where the organizer's has none, the run goes on and says so.
    """
    if (query, context, plan).count(STDIN) > 1:
        raise typer.BadParameter("Standard input is one of the query, the context and the plan.")
    if (primitive is not None) + (plan is not None) + compose > 1:
        raise typer.BadParameter("Give one of --primitive, --plan and --compose at most.")
    interrupted = False
    stream: RunStream | None = None

    def cancel() -> None:
        nonlocal interrupted
        interrupted = True
        if stream is not None:
            stream.cancel()

    with connect(socket) as client, ctrl_c(cancel):
        stream = client.run(
            read_text(STDIN) if query == STDIN else argument(query),
            stream=True,
            namespace=namespace,
            primitive=primitive,
            plan=None if plan is None else read_text(plan),
            compose=compose,
            medium=medium,
            agent=agent,
            context=read_text(context) if context is not None else "",
            max_tokens=max_tokens,
            latent_steps=latent_steps,
            temperature=temperature,
            rounds=rounds,
            solvers=solvers,
            executors=executors,
            seed=seed,
            priority=priority,
        )
        if interrupted:  # before there was a stream
            stream.cancel()
        with stream:
            watch(stream, explain)
        if interrupted:
            say("cancelled")
            raise typer.Exit(EXIT_INTERRUPTED)
        finish(stream.result, explain, as_json)


def watch(stream: RunStream, explain: bool) -> None:
    """Reads to the end."""
    if explain:
        explain_plan(stream.started)
    for event in stream:
        if explain and not event.text:
            say(f"{event.node}, {event.agent}: {event.activity.lower()}")


def explain_plan(started: RunStarted) -> None:
    """Which plan is run, and where it came from."""
    if started.fallback:
        say(started.fallback)
    if started.nearest:
        nearest = (f"{entry.id} {entry.similarity:.2f}" for entry in started.nearest)
        say(f"nearest in the knowledge pool: {', '.join(nearest)}")
    sources = {"POOL": f"of the knowledge pool's entry {started.entry_id}", "MODEL": "the model's", "GIVEN": "given"}
    say(f"plan: {sources.get(started.source, 'the default')}")
    if started.why:
        say(f"why: {started.why}")
    plan = json.loads(started.plan)
    for node in plan["nodes"]:
        params = ", ".join(f"{name} {value}" for name, value in node["params"].items())
        reads = f", reads {', '.join(node['inputs'])}" if node["inputs"] else ""
        say(f"  {node['id']}: {node['type']} ({params}){reads}")
    say(f"  output: {plan['output']}")


def finish(result: RunResult, explain: bool, as_json: bool) -> None:
    for note in result.notes:
        say(note)
    if as_json:
        print_json(result)
    else:
        print_text(result.text.rstrip("\n") + "\n")
    if explain:
        print_roles(result)


def print_roles(result: RunResult) -> None:
    """What each role cost, on stderr."""
    columns = ("NODE", "ROLE", "AGENTS>", "WRITTEN>", "LATENT>", "COMPUTED>", "SAVED>", "TIME>", "DISK>", "PTE>")
    rows = [
        (
            role.node or "-",
            role.role,
            str(role.agents),
            str(role.generated_tokens),
            str(role.latent_steps),
            str(role.prefill_tokens),
            str(role.saved_tokens),
            seconds(role.seconds),
            size(role.bytes_read + role.bytes_written),
            pte(role.pte),
        )
        for role in result.roles
    ]
    print_table(columns, rows, stream=sys.stderr)
    say(f"{seconds(result.seconds)} in all, {result.exactness}, seed {result.seed}")


def pte(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"

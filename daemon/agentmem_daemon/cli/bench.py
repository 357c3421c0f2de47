"""`bench primitives`: how well, and at what cost, ways of working together do on tasks of yours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.errors import CommandError
from agentmem_daemon.cli.figures import seconds
from agentmem_daemon.cli.options import Namespace, Socket, pass_on
from agentmem_daemon.cli.output import print_json, print_table, say
from agentmem_daemon.cli.source import read_text
from agentmem_daemon.cli.together import LatentSteps, MaxTokens, pte

if TYPE_CHECKING:
    from agentmem_client import Client
    from agentmem_client.runs import RunOptions

    from agentmem_daemon.tasks import Score, Task

app = typer.Typer(help="Measure on tasks of your own.", no_args_is_help=True)

PRIMITIVES = ("answer", "review", "vote", "plan_execute")
MEDIA = ("text", "latent")


@app.callback()
def options(ctx: typer.Context, socket: Socket = None, namespace: Namespace = "") -> None:
    pass_on(ctx, socket=socket, namespace=namespace)


@app.command()
def primitives(
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks", metavar="FILE|-", help='JSONL of {"id", "question", "answer": text or list, "context"?}.'
        ),
    ],
    primitive: Annotated[
        list[str] | None,
        typer.Option("--primitive", "-p", metavar="|".join(PRIMITIVES), help="Repeatable. [default: all]"),
    ] = None,
    medium: Annotated[
        list[str] | None,
        typer.Option("--medium", "-m", metavar="text|latent|both", help="Repeatable. [default: text, latent]"),
    ] = None,
    latent_steps: LatentSteps = None,
    max_tokens: MaxTokens = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all runs.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="So many tasks at the most.")] = None,
    socket: Socket = None,
    namespace: Namespace = "default",
) -> None:
    """Run every task by every primitive and medium, one run at a time. The last line is one JSON object.

    A text is right if it holds the answer. The context is read by the first agents of a flow alone: the solvers or the
    planner. "answer" by text is the plain single agent.
    """
    from agentmem_daemon.tasks import Score, TasksInvalid, read_tasks

    try:
        chosen = list(read_tasks(read_text(tasks).splitlines()))[:limit]
    except TasksInvalid as error:
        raise CommandError(str(error), "TASKS_INVALID") from None
    if not chosen:
        raise CommandError("There are no tasks in it.", "TASKS_INVALID")
    options: RunOptions = {
        "latent_steps": latent_steps,
        "max_tokens": max_tokens,
        "seed": seed,
        "namespace": namespace,
    }
    scores = []
    with connect(socket) as client:
        for kind in primitive or PRIMITIVES:
            for by in medium or MEDIA:
                scores.append(Score(kind, by, 0 if by == "text" else latent_steps))
                _measure(client, chosen, scores[-1], options)
    _print_scores(scores)
    print_json({"scores": [score.document() for score in scores]}, on_one_line=True)


def _measure(client: Client, tasks: list[Task], score: Score, options: RunOptions) -> None:
    from agentmem_client import AgentmemError, DaemonNotRunning, InvalidRequest

    how = cast("RunOptions", {**options, "primitive": score.primitive, "medium": score.medium})
    for task in tasks:
        try:
            result = client.run(task.question, **cast("RunOptions", {**how, "context": task.context}))
        except (DaemonNotRunning, InvalidRequest):
            raise
        except AgentmemError as error:
            score.fail(error.reason or error.code)
        else:
            score.add(task, result)
    say(f"{score.primitive}, {score.medium}: {score.right} of {score.tasks} right")


def _print_scores(scores: list[Score]) -> None:
    """Costs are those of one task, on average."""
    columns = ("PRIMITIVE", "MEDIUM", "RIGHT>", "ACCURACY>", "95%>", "WRITTEN>", "LATENT>", "COMPUTED>", "SAVED>")
    rows = [
        (
            score.primitive,
            score.medium,
            f"{score.right}/{score.tasks}",
            f"{score.accuracy:.1%}",
            "{:.1%} to {:.1%}".format(*score.interval),
            *(
                f"{count / score.tasks:.1f}"
                for count in (score.generated_tokens, score.latent, score.prefill_tokens, score.saved_tokens)
            ),
            seconds(score.seconds / score.tasks),
            pte(None if score.pte is None else score.pte / score.tasks),
        )
        for score in scores
    ]
    print_table((*columns, "TIME>", "PTE>"), rows)
    for score in scores:
        if score.fallbacks:
            say(f"{score.primitive}, {score.medium}: {score.fallbacks} runs handed over otherwise than asked")
        for reason, count in score.failed.items():
            say(f"{score.primitive}, {score.medium}: {count} of {score.tasks} tasks failed [{reason}]")

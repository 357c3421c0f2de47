"""`bench primitives`: how well, and at what cost, ways of working together do on tasks of yours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.errors import EXIT_INTERRUPTED, CommandError
from agentmem_daemon.cli.figures import seconds
from agentmem_daemon.cli.interrupt import ctrl_c
from agentmem_daemon.cli.options import Namespace, Socket, pass_on
from agentmem_daemon.cli.output import print_json, print_table, say
from agentmem_daemon.cli.source import read_text
from agentmem_daemon.cli.together import LatentSteps, MaxTokens, Medium, Primitive, pte

if TYPE_CHECKING:
    from agentmem_client import Client, RunResult, RunStream
    from agentmem_client.runs import RunOptions

    from agentmem_daemon.tasks import Score, Task

app = typer.Typer(help="Measure on tasks of your own.", no_args_is_help=True)

PRIMITIVES: tuple[str, ...] = get_args(Primitive)
MEDIA = ("text", "latent")


def _among(choices: tuple[str, ...]) -> Callable[[list[str] | None], list[str] | None]:
    """Checks all values of an option: typer takes no list of literals."""

    def check(values: list[str] | None) -> list[str] | None:
        if wrong := [value for value in values or () if value not in choices]:
            raise typer.BadParameter(f"{wrong[0]!r} is not one of {', '.join(choices)}.")
        return values

    return check


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
        typer.Option(
            "--primitive",
            "-p",
            metavar="|".join(PRIMITIVES),
            callback=_among(PRIMITIVES),
            help="Repeatable. [default: all]",
        ),
    ] = None,
    medium: Annotated[
        list[str] | None,
        typer.Option(
            "--medium",
            "-m",
            metavar="|".join(get_args(Medium)),
            callback=_among(get_args(Medium)),
            help="Repeatable. [default: text, latent]",
        ),
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
    planner. "answer" by text is the plain single agent. Stopped early, it prints what was measured until then.
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
    scores: list[Score] = []
    with connect(socket) as client:
        runs = _Runs(client)
        try:
            with ctrl_c(runs.cancel):
                for kind in primitive or PRIMITIVES:
                    for by in medium or MEDIA:
                        if not runs.cancelled:
                            scores.append(Score(kind, by, 0 if by == "text" else latent_steps))
                            _measure(runs, chosen, scores[-1], options)
        finally:
            if measured := [score for score in scores if score.tasks]:
                _print_scores(measured)
                print_json({"scores": [score.document() for score in measured]}, on_one_line=True)
    if runs.cancelled:
        raise typer.Exit(EXIT_INTERRUPTED)


class _Runs:
    """One after another, until they are cancelled."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stream: RunStream | None = None
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
        if self._stream is not None:
            self._stream.cancel()

    def run(self, query: str, options: RunOptions) -> RunResult:
        self._stream = self._client.run(query, stream=True, **options)
        with self._stream as stream:
            if self.cancelled:  # before there was a stream
                stream.cancel()
            stream.drain()
            return stream.result


def _measure(runs: _Runs, tasks: list[Task], score: Score, options: RunOptions) -> None:
    from agentmem_client import AgentmemError, DaemonNotRunning, InvalidRequest

    how = cast("RunOptions", {**options, "primitive": score.primitive, "medium": score.medium})
    for task in tasks:
        if runs.cancelled:
            return
        try:
            result = runs.run(task.question, cast("RunOptions", {**how, "context": task.context}))
        except (DaemonNotRunning, InvalidRequest):
            raise
        except AgentmemError as error:
            if runs.cancelled:
                return
            score.fail(error.reason or error.code)
        else:
            score.add(task, result)
    say(f"{score.primitive}, {score.medium}: {score.right} of {score.tasks} right")


def _print_scores(scores: list[Score]) -> None:
    """Costs are those of one task that finished, on average."""
    columns = ("PRIMITIVE", "MEDIUM", "RIGHT>", "ACCURACY>", "95%>", "WRITTEN>", "LATENT>", "COMPUTED>", "SAVED>")
    rows = [
        (
            score.primitive,
            score.medium,
            f"{score.right}/{score.tasks}",
            f"{score.accuracy:.1%}",
            "{:.1%} to {:.1%}".format(*score.interval),
            *(
                f"{count / score.finished:.1f}" if score.finished else "-"
                for count in (score.generated_tokens, score.latent, score.prefill_tokens, score.saved_tokens)
            ),
            seconds(score.seconds / score.finished) if score.finished else "-",
            pte(score.pte / score.finished if score.pte is not None and score.finished else None),
        )
        for score in scores
    ]
    print_table((*columns, "TIME>", "PTE>"), rows)
    for score in scores:
        for note, count in score.notes.items():
            say(f"{score.primitive}, {score.medium}: {count} of {score.tasks}: {note}")
        for reason, count in score.failed.items():
            say(f"{score.primitive}, {score.medium}: {count} of {score.tasks} tasks failed [{reason}]")

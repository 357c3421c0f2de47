"""`demo`: the main job on the embedded model, with figures."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from agentmem_daemon.cli.errors import EXIT_FAILED, CommandError
from agentmem_daemon.cli.figures import seconds, size
from agentmem_daemon.cli.options import Json
from agentmem_daemon.cli.output import print_json, print_table, say
from agentmem_daemon.cli.progress import progress

if TYPE_CHECKING:
    from agentmem_daemon.demo.measure import Restored
    from agentmem_daemon.demo.play import Outcome
    from agentmem_daemon.demo.subprocess_daemon import SubprocessDaemon


def demo(
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what earlier runs left, and begin anew.")] = False,
    keep_running: Annotated[bool, typer.Option("--keep-running", help="Leave the daemon running at the end.")] = False,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="Where the demo keeps its memory. [default: a cache]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Three agents learn, the daemon is killed, and they still know."""
    from filelock import FileLock, Timeout
    from platformdirs import user_cache_path

    from agentmem_daemon.demo.subprocess_daemon import SubprocessDaemon

    folder = (state or user_cache_path("agentmem-demo", appauthor=False)).expanduser().absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(folder / "demo.lock", timeout=0, mode=0o600)
        lock.acquire()
    except Timeout:
        raise CommandError(f"Another demo runs in {folder}.", "DEMO_RUNNING") from None
    except OSError as error:
        raise CommandError(f"The folder {folder} cannot be used: {error.strerror}.", "FOLDER_UNUSABLE") from error
    signal.signal(signal.SIGTERM, _leave)
    daemon = SubprocessDaemon(folder)
    outcome = _run(daemon, fresh, keep_running)
    if as_json:
        print_json(as_document(outcome, folder))
    else:
        print_outcome(outcome.restored)
    for complaint in outcome.complaints:
        say(f"error: {complaint}")
    if outcome.complaints:
        say(f"The daemon's log: {daemon.log}")
        raise typer.Exit(EXIT_FAILED)


def _run(daemon: SubprocessDaemon, fresh: bool, keep_running: bool) -> Outcome:
    """Plays the demo. However it ends, no process is left behind that was not asked for."""
    from agentmem_client import AgentmemError

    from agentmem_daemon.demo.play import play
    from agentmem_daemon.demo.subprocess_daemon import DaemonFailed

    try:
        if daemon.stop_leftover():
            say("Stopped the daemon that an earlier run had left running.")
        with progress() as on_progress:
            outcome = play(daemon, fresh, say, on_progress)
        if keep_running:
            pid = daemon.leave_running()
            say(f"Talk to it: agentmem --socket '{daemon.socket}' chat planner\nStop it:    kill {pid}")
        else:
            daemon.stop()
    except DaemonFailed as error:
        raise CommandError(f"{error}. Its log: {daemon.log}", "DAEMON_FAILED") from error
    except AgentmemError:
        say(f"The daemon's log: {daemon.log}")
        raise
    finally:
        daemon.kill()
    return outcome


def print_outcome(restored: list[Restored]) -> None:
    print_table(
        ("AGENT", "TOKENS IN MEMORY>", "COLD TTFT>", "RESTORED TTFT>", "SPEED-UP>", "ON DISK>", "RECOMPUTED>"),
        [
            (
                one.answer.character.name,
                str(one.tokens),
                seconds(one.cold_ttft_s),
                seconds(one.ttft_s),
                f"{one.speedup:.1f}x",
                size(one.disk_bytes),
                str(one.recomputed_tokens),
            )
            for one in restored
        ],
    )


def as_document(outcome: Outcome, folder: Path) -> dict[str, Any]:
    return {
        "ok": not outcome.complaints,
        "complaints": outcome.complaints,
        "folder": str(folder),
        "learned": [answer.character.name for answer in outcome.first],
        "agents": [_row(one) for one in outcome.restored],
    }


def _row(one: Restored) -> dict[str, Any]:
    return {
        "agent": one.answer.character.name,
        "tokens": one.tokens,
        "cold_tokens": one.cold.usage.prefill_tokens,
        "cold_ttft_s": one.cold_ttft_s,
        "restored_ttft_s": one.ttft_s,
        "speedup": one.speedup,
        "disk_bytes": one.disk_bytes,
        "reused_tokens": one.reused_tokens,
        "recomputed_tokens": one.recomputed_tokens,
        "question": one.answer.fact.question,
        "answer": one.answer.reply.text,
        "expected": one.answer.fact.value,
        "right": one.answer.is_right,
    }


def _leave(number: int, frame: object) -> NoReturn:
    """SIGTERM ends the demo as Ctrl-C does: by way of its clean-up."""
    sys.exit(128 + number)

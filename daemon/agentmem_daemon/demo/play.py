"""The demo from start to end: learn, be asked, be killed, be asked again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agentmem_client import Status

from agentmem_daemon.demo import measure
from agentmem_daemon.demo.cast import CAST, Character
from agentmem_daemon.demo.measure import Answer, Restored
from agentmem_daemon.demo.subprocess_daemon import SubprocessDaemon

Say = Callable[[str], None]
OnProgress = Callable[[float, str], None]


@dataclass(frozen=True)
class Outcome:
    """first: answers before the kill, of the agents that learned in this run. complaints: empty if all went well."""

    first: list[Answer]
    restored: list[Restored]
    complaints: list[str]


def play(daemon: SubprocessDaemon, fresh: bool, say: Say, on_progress: OnProgress) -> Outcome:
    """Runs the demo on a daemon that has not been started; it serves when this returns.

    Raises DaemonFailed, and the client's AgentmemError.
    """
    on_progress(0.0, "starting the daemon")
    status = daemon.start()
    learners = _learners(daemon, status, fresh, say)
    steps = _Steps(on_progress, total=2 * len(learners) + 1 + len(CAST))
    first: list[Answer] = []
    with daemon.client() as client:
        for character in learners:
            steps.next(f"{character.name} learns four facts and reads a text")
            measure.learn(client, character)
            steps.next(f"{character.name} is asked")
            first.append(measure.ask(client, character))
            say(_line(first[-1]))
    if learners:
        steps.next("kill -9, and a new daemon")
        daemon.kill()
        daemon.start()
        say("The daemon was killed with SIGKILL and started again.")
    else:
        steps.next("asking only")
        say("The memory of an earlier run is still there: three more questions.")
    restored: list[Restored] = []
    with daemon.client() as client:
        for character in CAST:
            steps.next(f"{character.name} is asked from restored memory, then without it")
            restored.append(measure.ask_restored(client, character))
            say(_line(restored[-1].answer))
    complaints = [measure.wrong_answer(answer) for answer in first if not answer.is_right]
    complaints += [complaint for one in restored for complaint in one.complaints()]
    return Outcome(first, restored, complaints)


def _learners(daemon: SubprocessDaemon, status: Status, fresh: bool, say: Say) -> list[Character]:
    """The agents that must learn first."""
    assert status.model is not None, "a daemon that serves has a model"
    learners = []
    with daemon.client() as client:
        for character in CAST:
            info = measure.find(client, character)
            reason = "--fresh" if fresh else measure.why_anew(character, info, status.model.context_limit)
            if reason is not None:
                learners.append(character)
                if info is not None:
                    say(f"{character.name} begins anew: {reason}.")
    return learners


class _Steps:
    """Progress in equal steps."""

    def __init__(self, on_progress: OnProgress, total: int) -> None:
        self._on_progress, self._total, self._done = on_progress, total, 0

    def next(self, message: str) -> None:
        self._on_progress(self._done / self._total, message)
        self._done += 1


def _line(answer: Answer) -> str:
    return f"{answer.character.name}: {answer.fact.question} -> {answer.reply.text.strip()}"

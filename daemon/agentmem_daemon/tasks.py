"""Tasks with known answers, how well flows of agents did on them, and how sure that is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agentmem_client import RunResult

Z = 1.959964
"""Of a normal distribution: 95% lie within."""


class TasksInvalid(ValueError):
    """A line is none of a task. Its message names the line, and quotes nothing of it."""


@dataclass(frozen=True)
class Task:
    """answers: any of them is right. context: what the first agents of a flow read."""

    id: str
    question: str
    answers: tuple[str, ...]
    context: str = ""

    def is_right(self, text: str) -> bool:
        """Whether the text holds an answer as words of their own, capitals aside."""
        said = " ".join(text.casefold().split())
        return any(re.search(rf"(?<!\w){re.escape(_folded(answer))}(?!\w)", said) for answer in self.answers)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def read_tasks(lines: Iterable[str]) -> Iterator[Task]:
    """Tasks of JSONL: {"id", "question", "answer": a text or a list of them, "context"?}. Raises TasksInvalid."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _task(line, number)


def _task(line: str, number: int) -> Task:
    try:
        data = json.loads(line)
    except ValueError:
        raise TasksInvalid(f"Line {number} is not JSON.") from None
    if not isinstance(data, dict):
        raise TasksInvalid(f"Line {number} is not a JSON object.")
    answers = data.get("answer")
    answers = answers if isinstance(answers, list) else [answers]
    if not answers or not all(isinstance(answer, str) and answer.strip() for answer in answers):
        raise TasksInvalid(f"Line {number} has no answer that is a text, or a list of texts.")
    question, context = _text(data, "question", number), _text(data, "context", number, optional=True)
    return Task(str(data.get("id", number)), question, tuple(answers), context)


def _text(data: dict[str, object], name: str, number: int, optional: bool = False) -> str:
    value = data.get(name, "" if optional else None)
    if not isinstance(value, str) or not (optional or value.strip()):
        raise TasksInvalid(f"Line {number} has no {name} that is a text.")
    return value


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95% interval of a share, by Wilson's score; (0, 1) of nothing."""
    if count == 0:
        return 0.0, 1.0
    share, z2 = right / count, Z * Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass
class Score:
    """Of one way to work, over tasks. Counts and seconds are sums; failed tasks, by their reason, count as wrong.

    notes: of the results, for instance on what went otherwise than asked, and how many had each. pte: None where it is
    not known.
    """

    primitive: str
    medium: str
    latent_steps: int | None
    tasks: int = 0
    right: int = 0
    generated_tokens: int = 0
    latent: int = 0
    prefill_tokens: int = 0
    saved_tokens: int = 0
    seconds: float = 0.0
    pte: float | None = 0.0
    notes: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)

    def add(self, task: Task, result: RunResult) -> bool:
        """Whether it was right."""
        right = task.is_right(result.text)
        self.tasks += 1
        self.right += right
        self.generated_tokens += result.generated_tokens
        self.latent += result.latent_steps
        self.prefill_tokens += result.prefill_tokens
        self.saved_tokens += result.saved_tokens
        self.seconds += result.seconds
        self.pte = None if self.pte is None or result.pte is None else self.pte + result.pte
        for note in result.notes:
            self.notes[note] = self.notes.get(note, 0) + 1
        return right

    def fail(self, reason: str) -> None:
        self.tasks += 1
        self.failed[reason] = self.failed.get(reason, 0) + 1

    @property
    def finished(self) -> int:
        """Tasks that the sums are of."""
        return self.tasks - sum(self.failed.values())

    @property
    def accuracy(self) -> float:
        return self.right / self.tasks if self.tasks else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.right, self.tasks)

    def document(self) -> dict[str, object]:
        """As JSON: the sums, how many tasks they are of, and the accuracy with its interval."""
        return {**vars(self), "finished": self.finished, "accuracy": self.accuracy, "interval": list(self.interval)}

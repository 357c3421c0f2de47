"""What the primitives say to their agents. The task stands last: that is what small models answer."""

from __future__ import annotations

from collections.abc import Sequence

REPEATED_CHARACTERS = 600
"""A longer task isn't said again to an agent that has read it."""
AGREED = "AGREED"


def task(question: str, inputs: Sequence[str]) -> str:
    """The question, behind what earlier nodes of a plan made."""
    if not inputs:
        return question
    return f"Results so far:\n{numbered(inputs)}\n\n{question}"


def numbered(texts: Sequence[str]) -> str:
    return "\n".join(f"{n}. {text.strip()}" for n, text in enumerate(texts, 1))


def again(instruction: str, task: str) -> str:
    """For an agent that has read the task: with the task behind it, unless it is long."""
    if len(task) > REPEATED_CHARACTERS:
        return f"{instruction} The task is the one above."
    return f"{instruction}\n\n{task}"


def anew(instruction: str, task: str) -> str:
    """For an agent that has not read the task."""
    return f"{instruction}\n\n{task}"


ANSWER = "Now write your answer."
SOLVE = "Solve this on your own, and write your answer."

CRITICISE = "Look at the work so far on this task. Find what is wrong with it, and what is missing."
REFINE = "Now write the answer, and mend what the critic found."


def criticise(answer: str) -> str:
    return (
        f"You are a critic. Somebody has answered the task below:\n\n{answer.strip()}\n\nSay what is wrong with that "
        f"answer, and how to mend it. If nothing is, say only: {AGREED}."
    )


CRITICISE_STATE = f"You are a critic now. Say what is wrong with your answer. If nothing is, say only: {AGREED}."


def refine(critique: str) -> str:
    return f"A critic says:\n\n{critique.strip()}\n\nWrite your answer again, and mend it where the critic is right."


def agrees(critique: str) -> bool:
    return critique.strip(" .*\"'\n").upper().startswith(AGREED)


def same(one: str, other: str) -> bool:
    """Whether two answers say the same, spaces and capitals aside."""
    return one.split() == other.split() or one.casefold().split() == other.casefold().split()


SELECT = "Several agents have answered. Choose the best answer, and write it out."


def select(candidates: Sequence[str]) -> str:
    return f"Several agents have answered the task below:\n{numbered(candidates)}\n\nChoose the best, and write it out."


def plan(executors: int) -> str:
    if executors == 1:
        return "You are a planner. Say in one short step how to do the task below. Do not do it."
    return f"You are a planner. Divide the task below into {executors} parts, one line each. Do not do them."


def execute(part: int, executors: int) -> str:
    return f"You are executor {part} of {executors}. Do part {part} of the plan, and only that."


def execute_plan(plan: str, part: int, executors: int) -> str:
    return f"A planner says:\n\n{plan.strip()}\n\n{execute(part, executors)} The whole task is:"


def aggregate(results: Sequence[str]) -> str:
    return f"The parts of the task below are done:\n{numbered(results)}\n\nPut them together, and write the answer."


AGGREGATE = "All parts are done. Put them together, and write the answer."
WRITE_RESULT = "Write the result of your part."

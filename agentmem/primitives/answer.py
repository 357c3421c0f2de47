"""One agent answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentmem.primitives import prompts
from agentmem.primitives.agents import Agents, Ask
from agentmem.primitives.flow import FlowResult, Medium, Work
from agentmem.primitives.plan import AnswerParams


def answer(
    agents: Agents, question: str, inputs: Sequence[str], params: Mapping[str, Any], medium: Medium
) -> FlowResult:
    """Unless the medium is text, it thinks before it writes."""
    work = Work(agents, prompts.task(question, inputs), AnswerParams(**params), medium)
    agent = agents.informed("answer")
    said = work.task
    if work.steps:
        work.think([Ask(agent, work.task)])
        said = prompts.again(prompts.ANSWER, work.task)
    (text,) = work.write([Ask(agent, said)])
    return work.result(text, agent)

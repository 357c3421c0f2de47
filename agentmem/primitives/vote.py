"""Voting and selection: solvers who share the question's state, and a selector over what they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentmem.primitives import prompts
from agentmem.primitives.agents import Agents, Ask
from agentmem.primitives.flow import FlowResult, Medium, Work
from agentmem.primitives.plan import VoteParams


def vote(agents: Agents, question: str, inputs: Sequence[str], params: Mapping[str, Any], medium: Medium) -> FlowResult:
    """The question is read, and thought about, once. The selector goes on from the first solver's state, with what the
    other solvers did spliced behind it: with a single solver that is a handoff. It doesn't sample.
    """
    checked = VoteParams(**params)
    work = Work(agents, prompts.task(question, inputs), checked, medium)
    reader = agents.informed("reader")
    work.think([Ask(reader, work.task)])
    solvers = agents.fork(reader, "solver", checked.solvers)
    solve = prompts.again(prompts.SOLVE, work.task)
    answers = work.write([Ask(solver, solve, seed) for seed, solver in enumerate(solvers)])

    selector = None if work.by_text else work.gather(solvers[0], solvers[1:], "selector")
    if selector is None:
        (selector,) = agents.fresh("selector")
        said = prompts.anew(prompts.select(answers), work.task)
    else:
        choose = prompts.select(answers) if medium is Medium.BOTH else prompts.SELECT
        said = prompts.again(choose, work.task)
    (text,) = work.write([Ask(selector, said)], replace(work.sampling, temperature=0.0))
    return work.result(text, selector)

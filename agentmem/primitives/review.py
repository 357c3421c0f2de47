"""Review: a solver, a critic who goes on from the solver's state, and a refinement on that; repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentmem.primitives import prompts
from agentmem.primitives.agents import Agents, Ask
from agentmem.primitives.flow import FlowResult, Medium, Work
from agentmem.primitives.plan import ReviewParams


def review(
    agents: Agents, question: str, inputs: Sequence[str], params: Mapping[str, Any], medium: Medium
) -> FlowResult:
    """Ends before its rounds are over where the critic agrees, or an answer stays as it was."""
    checked = ReviewParams(**params)
    work = Work(agents, prompts.task(question, inputs), checked, medium)
    return (_by_text if work.by_text else _by_state)(work, checked.rounds)


def _by_state(work: Work, rounds: int) -> FlowResult:
    """The work lies in the state that is handed on; the solver and the critic write only where text goes with it."""
    agents, writes = work.agents, work.medium is Medium.BOTH
    holder, answer = agents.informed("solver"), ""
    work.think([Ask(holder, work.task)])
    if writes:
        (answer,) = work.write([Ask(holder, prompts.again(prompts.ANSWER, work.task))])
    for _ in range(rounds):
        (critic,) = agents.fork(holder, "critic")
        work.think([Ask(critic, prompts.again(prompts.CRITICISE, work.task))])
        if writes:
            (critique,) = work.write([Ask(critic, prompts.again(prompts.CRITICISE_STATE, work.task))])
            if prompts.agrees(critique):
                break
        (holder,) = agents.fork(critic, "refiner")
        (refined,) = work.write([Ask(holder, prompts.again(prompts.REFINE, work.task))])
        stays, answer = prompts.same(refined, answer), refined
        if stays:
            break
    return work.result(answer, holder)


def _by_text(work: Work, rounds: int) -> FlowResult:
    """Solver and critic keep their own memory, and read each other's text."""
    agents = work.agents
    solver, (critic,) = agents.informed("solver"), agents.fresh("critic")
    (answer,) = work.write([Ask(solver, work.task)])
    for _ in range(rounds):
        (critique,) = work.write([Ask(critic, prompts.anew(prompts.criticise(answer), work.task))])
        if prompts.agrees(critique):
            break
        (refined,) = work.write([Ask(solver, prompts.again(prompts.refine(critique), work.task))])
        stays, answer = prompts.same(refined, answer), refined
        if stays:
            break
    return work.result(answer, solver)

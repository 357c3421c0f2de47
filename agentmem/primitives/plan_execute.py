"""Planning and execution: a planner, executors who go on from its state side by side, and an aggregator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentmem.primitives import prompts
from agentmem.primitives.agents import Agents, Ask, Member
from agentmem.primitives.flow import FlowResult, Medium, Work
from agentmem.primitives.plan import PlanExecuteParams


def plan_execute(
    agents: Agents, question: str, inputs: Sequence[str], params: Mapping[str, Any], medium: Medium
) -> FlowResult:
    checked = PlanExecuteParams(**params)
    work = Work(agents, prompts.task(question, inputs), checked, medium)
    return (_by_text if work.by_text else _by_state)(work, checked.executors)


def _by_state(work: Work, count: int) -> FlowResult:
    """Planner and executors write only where text goes with their state, or where it cannot be put together.

    The aggregator goes on from the first executor's state, with what the others did spliced behind it.
    """
    agents, writes = work.agents, work.medium is Medium.BOTH
    planner = agents.informed("planner")
    planning = prompts.anew(prompts.plan(count), work.task)
    work.think([Ask(planner, planning)])
    if writes:
        work.write([Ask(planner, prompts.again(prompts.plan(count), work.task))])
    executors = agents.fork(planner, "executor", count)
    parts = [prompts.again(prompts.execute(part, count), work.task) for part in range(1, count + 1)]
    work.think([Ask(executor, part) for executor, part in zip(executors, parts, strict=True)])
    results = _results(work, executors) if writes else []

    aggregator = work.gather(executors[0], executors[1:], "aggregator")
    if aggregator is None:
        (aggregator,) = agents.fork(planner, "aggregator")
        results = results or _results(work, executors)
    combine = prompts.aggregate(results) if results else prompts.AGGREGATE
    (text,) = work.write([Ask(aggregator, prompts.again(combine, work.task))])
    return work.result(text, aggregator)


def _results(work: Work, executors: Sequence[Member]) -> list[str]:
    return work.write([Ask(one, prompts.again(prompts.WRITE_RESULT, work.task)) for one in executors])


def _by_text(work: Work, count: int) -> FlowResult:
    """The planner alone has read what the run was given; executors read its plan, the aggregator their results."""
    agents = work.agents
    planner = agents.informed("planner")
    (plan,) = work.write([Ask(planner, prompts.anew(prompts.plan(count), work.task))])
    executors = agents.fresh("executor", count)
    parts = [prompts.anew(prompts.execute_plan(plan, part, count), work.task) for part in range(1, count + 1)]
    results = work.write([Ask(executor, part) for executor, part in zip(executors, parts, strict=True)])
    (aggregator,) = agents.fresh("aggregator")
    (text,) = work.write([Ask(aggregator, prompts.anew(prompts.aggregate(results), work.task))])
    return work.result(text, aggregator)

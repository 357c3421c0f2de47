"""The organizer: chooses how agents work together on a query.

The knowledge pool says which plan suited what kind of task. The served model may be asked for one of its own, with the
pool's nearest as examples: a grammar makes sure of its form, and `Plan.parse` of the rest. What it writes that is no
plan gives way to the pool's. Where the pool knows nothing near, one agent answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from agentmem.engine.request import Sampling
from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.agents import Agents, Ask
from agentmem.primitives.knowledge import Match
from agentmem.primitives.plan import VERSION, Answer, Plan, schema

SHOWN = 5
"""Entries that are looked at, and told of."""
EXAMPLES = 3
MAX_TOKENS = 1024
"""Of a plan that the model writes."""
QUERY_CHARACTERS = 2000
"""Of a query that the organizing agent reads: what is to be done stands at the beginning or at the end."""

DEFAULT = Plan(version=VERSION, nodes=(Answer(id="answer", type="answer"),), output="answer")
"""One agent."""

_CANNOT = (
    Reason.SCHEMA_UNSUPPORTED, Reason.SCHEMA_UNFULFILLABLE, Reason.CONTEXT_OVERFLOW, Reason.PROMPT_TOO_LARGE,
)  # fmt: skip
"""Why a model cannot be asked, or cannot answer, for no fault of the query."""

_NO_POOL = (
    Reason.KNOWLEDGE_TOO_NEW, Reason.KNOWLEDGE_UNREADABLE, Reason.KNOWLEDGE_UNWRITABLE, Reason.FULL_TEXT_SEARCH_MISSING,
)  # fmt: skip

Nearest = Callable[[str, int], Sequence[Match]]
"""`KnowledgePool.nearest`."""


class PlanSource(str, Enum):
    """Where a plan came from. GIVEN: the caller."""

    GIVEN = "GIVEN"
    POOL = "POOL"
    MODEL = "MODEL"
    DEFAULT = "DEFAULT"


@dataclass(frozen=True)
class Choice:
    """A plan, and for people why. entry_id: of the pool, if it is that one's plan. matches: what was near, best first.

    fallback: why it is not what was asked for, the model's plan or the pool's.
    """

    plan: Plan
    source: PlanSource
    why: str
    entry_id: str = ""
    matches: tuple[Match, ...] = ()
    fallback: str = ""


def given(plan: Plan, why: str) -> Choice:
    return Choice(plan, PlanSource.GIVEN, why)


def choose(query: str, nearest: Nearest, agents: Agents | None = None) -> Choice:
    """A plan for the query. agents: one of them is asked for it; None takes the pool's word.

    A pool that cannot be read has nothing near. Raises what the agents do, but for what a model cannot do.
    """
    fallback = ""
    try:
        matches = tuple(nearest(query, SHOWN))
    except AgentmemError as error:
        if error.reason not in _NO_POOL:
            raise
        matches, fallback = (), _sentence(error)
    if agents is not None:
        try:
            plan = _asked(query, matches, agents)
            return Choice(plan, PlanSource.MODEL, "the model composed it", matches=matches, fallback=fallback)
        except AgentmemError as error:
            if error.reason is not Reason.PLAN_INVALID and error.reason not in _CANNOT:
                raise
            fallback = f"{fallback} The model's plan was not used. {_sentence(error)}".lstrip()
    if not matches:
        why = "nothing is known that is like this query"
        return Choice(DEFAULT, PlanSource.DEFAULT, why, fallback=fallback)
    entry = matches[0].entry
    why = entry.why or f"it was recorded for a query like this: {entry.title}"
    return Choice(entry.plan, PlanSource.POOL, why, entry.id, matches, fallback)


def _asked(query: str, matches: Sequence[Match], agents: Agents) -> Plan:
    """Raises PLAN_INVALID, and what `agents` do."""
    (member,) = agents.fresh("organizer")
    sampling = Sampling(max_tokens=MAX_TOKENS, json_schema=json.dumps(schema()))
    (text,) = agents.generate([Ask(member, prompt(query, matches))], sampling)
    return Plan.parse(text)


def prompt(query: str, matches: Sequence[Match]) -> str:
    examples = [f"Task: {m.entry.title}\nPlan: {_brief(m.entry.plan)}" for m in matches[:EXAMPLES]]
    if len(query) > QUERY_CHARACTERS:
        half = QUERY_CHARACTERS // 2
        query = f"{query[:half]}\n…\n{query[-half:]}"
    kinds = (
        "Write a plan, as JSON, for agents that work on a task. Types of nodes: answer (one agent), review (a critic "
        "and refinement), vote (several solvers and a selector), plan_execute (parts done side by side). A node reads "
        "what its inputs made; the output is the last node."
    )
    return "\n\n".join([kinds, *examples, f"Task: {query}\nPlan:"])


def _brief(plan: Plan) -> str:
    return plan.model_dump_json(exclude_defaults=True)


def _sentence(error: AgentmemError) -> str:
    text = f"{error.message.rstrip('.')}."
    return text[0].upper() + text[1:]

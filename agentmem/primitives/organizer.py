"""The organizer: chooses how agents work together on a query.

The knowledge pool says which plan suited what kind of task. The served model may be asked for one of its own
(`composing`), with the pool's nearest as examples; what it writes that is no plan all the same gives way to the pool's.
Where no entry of the pool is near, one agent answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from agentmem.engine.request import Sampling
from agentmem.errors import AgentmemError, Reason
from agentmem.primitives import composing
from agentmem.primitives.agents import Agents, Ask, sentence
from agentmem.primitives.knowledge import Match
from agentmem.primitives.nearness import FLOOR
from agentmem.primitives.plan import VERSION, Answer, Plan

SHOWN = 5
"""Entries that are looked at, and told of."""
MAX_TOKENS = 1024
"""Of a plan that the model writes."""

DEFAULT = Plan(version=VERSION, nodes=(Answer(id="answer", type="answer"),), output="answer")
"""One agent."""
NOTHING_NEAR = "no entry of the knowledge pool is near: answered by one agent"
POOL_UNREAD = "the knowledge pool could not be read: answered by one agent"
"""Why it is the default."""

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
    """A plan, and for people why. entry_id: of the pool, if it is that one's plan. matches: the pool's nearest.

    fallback: why it is not what was asked for, the model's plan or the pool's. notes: what else went otherwise.
    """

    plan: Plan
    source: PlanSource
    why: str
    entry_id: str = ""
    matches: tuple[Match, ...] = ()
    fallback: str = ""
    notes: tuple[str, ...] = ()


def given(plan: Plan, why: str) -> Choice:
    return Choice(plan, PlanSource.GIVEN, why)


def choose(query: str, nearest: Nearest, agents: Agents | None = None) -> Choice:
    """A plan for the query. agents: one of them is asked for it; None takes the pool's word.

    A pool that cannot be read has no matches. Raises what the agents do, but for what a model cannot do.
    """
    why, fallback = NOTHING_NEAR, ""
    try:
        matches = tuple(nearest(query, SHOWN))
    except AgentmemError as error:
        if error.reason not in _NO_POOL:
            raise
        matches, why, fallback = (), POOL_UNREAD, sentence(error)
    if agents is not None:
        try:
            plan = _asked(query, matches, agents)
            notes = (f"The model was shown no examples. {fallback}",) if fallback else ()
            return Choice(plan, PlanSource.MODEL, "the model composed it", matches=matches, notes=notes)
        except AgentmemError as error:
            if error.reason is not Reason.PLAN_INVALID and error.reason not in _CANNOT:
                raise
            fallback = f"{fallback} The model's plan was not used. {sentence(error)}".lstrip()
    entry = next((match.entry for match in matches if match.similarity >= FLOOR), None)
    if entry is None:
        return Choice(DEFAULT, PlanSource.DEFAULT, why, matches=matches, fallback=fallback)
    why = entry.why or f"it was recorded for a query like this: {entry.title}"
    return Choice(entry.plan, PlanSource.POOL, why, entry.id, matches, fallback)


def _asked(query: str, matches: Sequence[Match], agents: Agents) -> Plan:
    """Raises PLAN_INVALID, and what `agents` do."""
    (member,) = agents.fresh("organizer")
    sampling = Sampling(max_tokens=MAX_TOKENS, json_schema=json.dumps(composing.schema()))
    (text,) = agents.generate([Ask(member, composing.prompt(query, matches))], sampling)
    return Plan.parse(text)

"""What the primitives have in common: their result, and handing over with a way back to text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from agentmem.engine.request import Sampling
from agentmem.errors import AgentmemError
from agentmem.primitives.agents import Agents, Ask, Member, RoleUsage, refused, sentence
from agentmem.primitives.plan import Common
from agentmem.types import Exactness


class Medium(str, Enum):
    """How agents hand over: as state, as text, or as state with the text behind it."""

    LATENT = "latent"
    TEXT = "text"
    BOTH = "both"


@dataclass(frozen=True)
class FlowResult:
    """text: the answer. exactness: of the state behind it. notes: sentences on what went otherwise than asked.

    medium: what was asked for; seconds: by the clock.
    """

    text: str
    medium: Medium
    exactness: Exactness
    roles: tuple[RoleUsage, ...]
    seconds: float
    notes: tuple[str, ...] = ()


Flow = Callable[[Agents, str, Sequence[str], Mapping[str, Any], Medium], FlowResult]
"""(agents, question, inputs: what nodes before it made, params: of its node in a plan, medium)."""


@dataclass
class Work:
    """One flow under way."""

    agents: Agents
    task: str
    params: Common
    medium: Medium
    notes: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    thinks: bool = True
    """Until the model refuses."""

    @property
    def by_text(self) -> bool:
        return self.medium is Medium.TEXT

    @property
    def sampling(self) -> Sampling:
        return Sampling(temperature=self.params.temperature, max_tokens=self.params.max_tokens)

    @property
    def steps(self) -> int:
        return 0 if self.by_text else self.params.latent_steps

    def think(self, asks: Sequence[Ask]) -> None:
        """Has agents read and think; where that is refused, or no steps are asked for, they only read."""
        if self.steps and self.thinks:
            try:
                self.agents.think(asks, self.steps)
                return
            except AgentmemError as error:
                if not refused(error):
                    raise
                self.thinks = False
                self.notes.append(f"No latent steps were taken: {sentence(error)}")
        self.agents.append(asks)

    def write(self, asks: Sequence[Ask], sampling: Sampling | None = None) -> list[str]:
        """sampling: the node's if not given."""
        return self.agents.generate(asks, sampling or self.sampling)

    def gather(self, first: Member, others: Sequence[Member], role: str) -> Member | None:
        """An agent that goes on from the first one's state, with what is the others' own behind it.

        None where that is refused. A single one is simply forked: a handoff, and exact.
        """
        (target,) = self.agents.fork(first, role)
        try:
            if others:
                self.agents.splice(target, others)
        except AgentmemError as error:
            if not refused(error):
                raise
            self.notes.append(f"The results of several agents were handed over as text: {sentence(error)}")
            return None
        return target

    def result(self, text: str, writer: Member) -> FlowResult:
        """writer: whose text it is."""
        exactness = self.agents.exactness(writer)
        seconds = time.monotonic() - self.began
        return FlowResult(text, self.medium, exactness, tuple(self.agents.roles()), seconds, tuple(self.notes))

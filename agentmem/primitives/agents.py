"""What a flow of agents works with: temporary agents that read, think, write, branch and hand over their state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agentmem.engine.request import Sampling
from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.pte import Call
from agentmem.types import AgentRef, Exactness, Usage

REFUSALS = (Reason.NOT_REPOSITIONABLE, Reason.MODEL_UNSUPPORTED)
"""Why a model cannot hand over in latent space; a flow then goes on by text, and says so."""


@dataclass(frozen=True)
class Member:
    """A temporary agent. start: the positions it was born with; those behind are its own, and can be handed over.

    label: its role, numbered where several have it.
    """

    ref: AgentRef
    role: str
    label: str
    start: int = 0


@dataclass(frozen=True)
class Ask:
    """A message to an agent. seed: added to the run's, so that agents asked the same sample differently."""

    member: Member
    text: str
    seed: int = 0


@dataclass
class RoleUsage:
    """What one role cost, all its agents together. seconds: by the clock; its agents' turns side by side count once.

    generated_tokens: those nobody was shown included. prefill_tokens: computed, be it again; saved_tokens: remembered
    positions that were not. calls: for PTE.
    """

    role: str
    agents: int = 0
    generated_tokens: int = 0
    latent_steps: int = 0
    prefill_tokens: int = 0
    saved_tokens: int = 0
    seconds: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    calls: list[Call] = field(default_factory=list)

    def add(self, usage: Usage) -> None:
        """Counts one turn."""
        self.generated_tokens += usage.generated_tokens
        self.latent_steps += usage.latent_steps
        self.prefill_tokens += usage.prefill_tokens + usage.recomputed_tokens
        self.saved_tokens += usage.reused_hot_tokens + usage.reused_warm_tokens
        self.bytes_read += usage.bytes_read
        self.bytes_written += usage.bytes_written
        self.calls.append(Call.of(usage))


class Agents(Protocol):
    """The agents of one flow. Those named in one call work side by side, in one batch of the executor.

    Methods block, and raise AgentmemError: REQUEST_CANCELLED or DEADLINE_PASSED once the run is cancelled.
    """

    def informed(self, role: str) -> Member:
        """A new agent that remembers what the run was given to read."""

    def fresh(self, role: str, count: int = 1) -> list[Member]:
        """New agents that remember nothing."""

    def fork(self, parent: Member, role: str, count: int = 1) -> list[Member]:
        """New agents that go on from the parent's state, exactly; the parent stays as it is."""

    def append(self, asks: Sequence[Ask]) -> None:
        """Has them read, without a reply."""

    def think(self, asks: Sequence[Ask], steps: int) -> None:
        """Has them read, and then take so many latent steps. Raises one of REFUSALS if the model cannot."""

    def generate(self, asks: Sequence[Ask], sampling: Sampling) -> list[str]:
        """Has them read, and reply. sampling: its seed is the run's."""

    def splice(self, target: Member, parts: Sequence[Member]) -> None:
        """Puts what is the parts' own behind the target's timeline. Raises one of REFUSALS if the model cannot."""

    def exactness(self, member: Member) -> Exactness:
        """The label of its state."""

    def roles(self) -> list[RoleUsage]:
        """What each role cost so far, in the order of their first turns."""


def refused(error: AgentmemError) -> bool:
    """Whether it says that this model cannot hand over in latent space."""
    return error.reason in REFUSALS


def sentence(error: AgentmemError) -> str:
    """Its message, to stand among others."""
    text = f"{error.message.rstrip('.')}."
    return text[0].upper() + text[1:]

"""What runs of agents that work together return: frozen, plain Python."""

from __future__ import annotations

from dataclasses import dataclass

from agentmem_client.knowledge_types import PoolEntry


@dataclass(frozen=True)
class RunStarted:
    """plan: what is run, as JSON, with all parameters in place. why: why this one, for people.

    source: GIVEN by the caller, or chosen from the POOL, by the MODEL, or by DEFAULT. entry_id: of the pool's entry.
    nearest: in the pool, best first, be it near or not. fallback: why it is not the model's plan, or the pool's.
    """

    plan: str
    why: str
    source: str
    entry_id: str
    nearest: tuple[PoolEntry, ...]
    fallback: str


@dataclass(frozen=True)
class RunProgress:
    """An agent begins something, or has written some more.

    node: of the plan. agent: its role, numbered where several have it. activity: READING,
    THINKING or WRITING. text: what it wrote since the last progress.
    """

    node: str
    role: str
    agent: str
    activity: str
    text: str


@dataclass(frozen=True)
class RoleUsage:
    """What one role of a node cost, all its agents together.

    generated_tokens: those that no one was shown included. prefill_tokens: prompt positions that were computed;
    saved_tokens: remembered ones that were not. seconds: by the clock; what its agents did side by side counts once.
    bytes_read, bytes_written: from disk and to it; what was on its way there when a turn ended is not counted.
    pte: prefill-token equivalents, None where the device's ratio has not been measured.
    """

    node: str
    role: str
    agents: int
    generated_tokens: int
    latent_steps: int
    prefill_tokens: int
    saved_tokens: int
    seconds: float
    bytes_read: int
    bytes_written: int
    pte: float | None


@dataclass(frozen=True)
class RunResult:
    """exactness: of the state that the text was written from. notes: what went otherwise than asked for.

    plan, entry_id: what was run, and the entry of the knowledge pool that it is from, for recording an outcome.
    """

    text: str
    exactness: str
    roles: tuple[RoleUsage, ...]
    notes: tuple[str, ...]
    seconds: float
    seed: int
    plan: str
    entry_id: str

    def __str__(self) -> str:
        return self.text

    @property
    def generated_tokens(self) -> int:
        return sum(role.generated_tokens for role in self.roles)

    @property
    def latent_steps(self) -> int:
        return sum(role.latent_steps for role in self.roles)

    @property
    def prefill_tokens(self) -> int:
        return sum(role.prefill_tokens for role in self.roles)

    @property
    def saved_tokens(self) -> int:
        return sum(role.saved_tokens for role in self.roles)

    @property
    def pte(self) -> float | None:
        """None where that of a role is not known."""
        known = [role.pte for role in self.roles if role.pte is not None]
        return sum(known) if len(known) == len(self.roles) else None

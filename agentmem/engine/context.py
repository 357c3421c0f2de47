"""What every request works with, and what is counted of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from agentmem.latent.space import EmbeddingSpace
from agentmem.memory.agent import TurnDraft
from agentmem.memory.memory import Memory
from agentmem.model.loader import LoadedModel
from agentmem.store.store import Store


@dataclass
class Counters:
    """Totals since start; written on the executor thread."""

    requests: int = 0
    errors: int = 0
    prefill_tokens: int = 0
    generated_tokens: int = 0
    reused_hot_tokens: int = 0
    reused_warm_tokens: int = 0
    recomputed_tokens: int = 0
    restores: int = 0
    restore_s: float = 0.0
    restore_hidden_s: float = 0.0
    set_aside: int = 0

    def count(self, draft: TurnDraft) -> None:
        u = draft.usage
        self.prefill_tokens += u.prefill_tokens
        self.generated_tokens += u.generated_tokens
        self.reused_hot_tokens += u.reused_hot_tokens
        self.reused_warm_tokens += u.reused_warm_tokens
        self.recomputed_tokens += u.recomputed_tokens
        if u.reused_warm_tokens:
            self.restores += 1
            self.restore_s += draft.timings.restore_s
            self.restore_hidden_s += draft.timings.restore_s - draft.timings.restore_busy_s


@dataclass(frozen=True)
class Context:
    """What every run works with."""

    model: LoadedModel
    store: Store
    memory: Memory
    counters: Counters = field(default_factory=Counters)

    @cached_property
    def space(self) -> EmbeddingSpace:
        """The model's, in which agents think."""
        return EmbeddingSpace(self.model)

"""The RAM budget: what the state of all agents may take, active requests included. Enforced before work starts."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable

from agentmem.errors import AgentmemError, Reason
from agentmem.kv.full import TAIL_SEGMENTS
from agentmem.kv.layout import StateLayout
from agentmem.kv.pool import BlockPool
from agentmem.memory.agent import Agent
from agentmem.memory.writer import WriterThread
from agentmem.store.events import Events
from agentmem.store.rows import EventKind
from agentmem.types import BLOCK_TOKENS

log = logging.getLogger(__name__)


class RamBudget:
    """limit: bytes, for the state of agents and what waits for the disk."""

    def __init__(self, limit: int, pool: BlockPool, layout: StateLayout, events: Events, writer: WriterThread) -> None:
        self.limit, self._pool, self._layout, self._events, self._writer = limit, pool, layout, events, writer

    def make_room(self, agent: Agent, positions: int, others: Iterable[Agent], evict: Callable[[Agent], int]) -> None:
        """Sees to it that `positions` of this agent fit. others: those that may go, least recently used first.

        Raises RAM_BUDGET_EXCEEDED with what would fit.
        """
        need = self._most_bytes(positions) - self._held(agent)
        free = self._free()
        for other in others:
            if need <= free:
                return
            may_go = other is not agent and not other.pinned and not other.unsaved
            if may_go and other.state is not None and self._pool.exclusive_bytes(other.state):
                freed = evict(other)
                free += freed
                self._events.note(EventKind.RAM_EVICTED, other.id, nbytes=freed)
                log.info("agent %r left RAM (%d bytes) to make room", other.ref.name, freed)
        free = max(0, free)
        if need > free:
            self._events.note(EventKind.RAM_REFUSED, agent.id, nbytes=need, soon=True)
            raise AgentmemError(
                Reason.RAM_BUDGET_EXCEEDED,
                f"{positions} tokens of this agent take up to {need} bytes more, and {free} of the RAM budget of "
                f"{self.limit} are free: ask for fewer tokens, unpin agents, or serve with a larger --ram-budget",
                needed_bytes=need,
                free_bytes=free,
                budget_bytes=self.limit,
                fitting_tokens=self._most_positions(free + self._held(agent)),
            )

    def spare(self, agent: Agent, positions: int) -> int:
        """Bytes that are free once `positions` of this agent are in RAM."""
        return self._free() - self._most_bytes(positions) + self._held(agent)

    def _free(self) -> int:
        return self.limit - self._pool.nbytes - self._writer.nbytes

    def _held(self, agent: Agent) -> int:
        """Bytes of its state that are in RAM already, be it in other agents' hands."""
        if agent.state is not None:
            return agent.state.nbytes
        return self._pool.count(agent.full_keys) * BLOCK_TOKENS * self._layout.full.bytes_per_token

    def _most_bytes(self, positions: int) -> int:
        """Bytes that this many positions take at the most: whole segments, and a tail that has just doubled."""
        segments = -(-positions // BLOCK_TOKENS)
        return self._layout.most_bytes(positions, (segments + min(segments, TAIL_SEGMENTS)) * BLOCK_TOKENS)

    def _most_positions(self, size: int) -> int:
        """Positions that fit into so many bytes whatever happens."""
        fitting = bisect_right(range(1 << 20), size, key=lambda segments: self._most_bytes(segments * BLOCK_TOKENS))
        return max(0, fitting - 1) * BLOCK_TOKENS

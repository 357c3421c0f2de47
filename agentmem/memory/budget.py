"""The RAM budget: what agents may take of RAM, active requests included. Enforced before work starts.

State counts, embeddings of latent positions, and copies of both on their way to the disk.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from agentmem.errors import AgentmemError, Reason
from agentmem.kv.full import TAIL_SEGMENTS
from agentmem.kv.layout import StateLayout
from agentmem.kv.pool import BlockPool
from agentmem.memory.agent import Agent
from agentmem.memory.taken import RoomTaken
from agentmem.memory.writer import WriterThread
from agentmem.store.events import Events
from agentmem.store.rows import EventKind
from agentmem.types import BLOCK_TOKENS, AgentRef

log = logging.getLogger(__name__)


class _Promise(NamedTuple):
    """positions: of an agent's state that its request may come to hold. latent: those that its timeline may then have
    of which RAM holds the embeddings. copies: of embeddings, that its turn may have on their way to the disk.
    aside: bytes kept of the state, while it has none.
    """

    positions: int
    latent: int = 0
    copies: int = 0
    aside: int = 0


class RamBudget:
    """limit: bytes, for the state of agents, the embeddings of their latent positions, and what waits for the disk.

    What a request may come to hold is promised to it until it is done: nobody else is given that, nor makes it leave.
    """

    def __init__(
        self,
        limit: int,
        pool: BlockPool,
        layout: StateLayout,
        events: Events,
        writer: WriterThread,
        agents: dict[AgentRef, Agent],
        embedding_bytes: int,
    ) -> None:
        """agents: those that RAM knows, least recently used first. embedding_bytes: of one."""
        self._embedding_bytes = embedding_bytes
        self.limit, self._pool, self._layout, self._events, self._writer = limit, pool, layout, events, writer
        self._agents = agents
        self._promises: dict[AgentRef, _Promise] = {}

    def __contains__(self, ref: AgentRef) -> bool:
        """Whether an agent is in the middle of a request, be it set aside."""
        return ref in self._promises

    def others_active(self, ref: AgentRef) -> bool:
        """Whether RAM is promised to others, so that there will be more of it when they are done."""
        return any(promise.positions for other, promise in self._promises.items() if other != ref)

    @property
    def taken(self) -> int:
        """Bytes in RAM now."""
        return self.held + self._writer.nbytes

    @property
    def held(self) -> int:
        """Those of state and embeddings. Any thread may ask."""
        # The plain dict's own view is copied at once; for an OrderedDict's, hashes are asked for on the way.
        agents = list(dict.values(self._agents))
        return self._pool.nbytes + sum(agent.latent_bytes for agent in agents)

    def make_room(self, agent: Agent, positions: int, latent: int | None, evict: Callable[[Agent], int]) -> None:
        """Promises the agent RAM for so many positions, in place of what it was promised before.

        latent: how many of those that a turn adds are latent; None if no turn is made.

        Raises RAM_BUDGET_EXCEEDED with what would fit; the promise is what it was, then.
        """
        held, copies = int((agent.ids < 0).sum()), 0
        if latent is not None:
            # The record's, and those of one block; a copy of its state fits beside a tail that has done growing.
            copies = latent + min(BLOCK_TOKENS, latent + int((agent.ids[agent.last_begin :] < 0).sum()))
        promise = _Promise(positions, held + (latent or 0), copies)
        if not self._fits(agent, promise, evict):
            raise self._refusal(agent, promise)
        self._promises[agent.ref] = promise

    def _refusal(self, agent: Agent, promise: _Promise) -> AgentmemError:
        positions = promise.positions
        need, free = self._need(agent, promise), self._free(agent.ref)
        message = (
            f"{positions} tokens of this agent take up to {need} bytes more, and {max(0, free)} of the RAM budget of "
            f"{self.limit} are free: ask for fewer tokens, unpin agents, or serve with a larger --ram-budget"
        )
        figures = {
            "needed_bytes": need,
            "free_bytes": max(0, free),
            "budget_bytes": self.limit,
            "fitting_tokens": self._most_positions(max(0, free - self._to_come(agent, promise)) + self._held(agent)),
        }
        if self.others_active(agent.ref) and self._most(promise) <= self.limit:
            return RoomTaken(Reason.RAM_BUDGET_EXCEEDED, message, short=max(1, need - free), **figures)
        self._events.note(EventKind.RAM_REFUSED, agent.id, nbytes=need, soon=True)
        return AgentmemError(Reason.RAM_BUDGET_EXCEEDED, message, **figures)

    def _fits(self, agent: Agent, promise: _Promise, evict: Callable[[Agent], int]) -> bool:
        """Whether it fits, once those have left that may and rested longest."""
        fits = self._free(agent.ref) >= self._need(agent, promise)
        for other in list(self._agents.values()):
            if fits:
                break
            may_go = other is not agent and not other.pinned and not other.unsaved and other.ref not in self
            frees = other.latents or (other.state is not None and self._pool.exclusive_bytes(other.state))
            if may_go and frees and (freed := evict(other)):  # embeddings that another needs stay
                self._events.note(EventKind.RAM_EVICTED, other.id, nbytes=freed)
                log.info("agent %r left RAM (%d bytes) to make room", other.ref.name, freed)
                # It may be what this agent, or one with a promise, was going to share: so all is counted again.
                fits = self._free(agent.ref) >= self._need(agent, promise)
        return fits

    def promised(self, ref: AgentRef) -> int:
        """Bytes that an agent may come to hold, or does."""
        promise = self._promises.get(ref)
        return 0 if promise is None else self._most(promise)

    def hold(self, ref: AgentRef) -> None:
        """The agent is in the middle of a request, be it promised nothing yet."""
        self._promises.setdefault(ref, _Promise(0))

    def set_aside(self, ref: AgentRef, nbytes: int) -> None:
        """Promises the agent nothing until it makes room again; so many bytes were kept of its state."""
        self._promises[ref] = _Promise(0, aside=nbytes)

    def done(self, ref: AgentRef) -> None:
        """The agent's request has ended."""
        self._promises.pop(ref, None)

    def spare(self, agent: Agent, positions: int) -> int:
        """Bytes that are free once `positions` of this agent, and what it and others were promised, are in RAM."""
        promise = self._promises.get(agent.ref, _Promise(0))
        return self._free(agent.ref) - self._need(agent, promise._replace(positions=positions))

    def may_copy(self, agent: Agent, nbytes: int) -> bool:
        """Whether the agent, whose turn has ended or stands still, may hand so many bytes to the writer thread.

        As far as RAM has room; where it has none, one thing at a time: that much was promised.
        """
        if not self._writer.has_room(nbytes):
            return False
        held = agent.tokens if agent.state is None else agent.state.offset
        return not self._writer.nbytes or nbytes <= self.spare(agent, held)

    def _free(self, ref: AgentRef) -> int:
        """Bytes that an agent may come to take: what is neither taken nor promised to others.

        What is kept of others that were set aside does not count if nobody else runs: they wait for this one, and it
        for nobody. So the limit may be exceeded by that.
        """
        others = self._promises.items() if self.others_active(ref) else ()
        promised = sum(self._outstanding(other, promise) for other, promise in others if other != ref)
        return self.limit - self.taken - promised

    def _outstanding(self, ref: AgentRef, promise: _Promise) -> int:
        """Bytes of a promise that are not taken yet."""
        if not promise.positions:
            return promise.aside
        agent = self._agents.get(ref)
        return self._most(promise) if agent is None else max(0, self._need(agent, promise))

    def _need(self, agent: Agent, promise: _Promise) -> int:
        """Bytes that an agent may take by a promise besides what of them is in RAM already."""
        state = self._most_bytes(promise.positions + agent.padding) - self._held(agent)
        return state + self._to_come(agent, promise)

    def _to_come(self, agent: Agent, promise: _Promise) -> int:
        """Bytes of embeddings that RAM may come to hold besides those that the agent has."""
        return (max(0, promise.latent - len(agent.latents)) + promise.copies) * self._embedding_bytes

    def _most(self, promise: _Promise) -> int:
        """Bytes that a promise comes to at the most."""
        return self._most_bytes(promise.positions) + (promise.latent + promise.copies) * self._embedding_bytes

    def _held(self, agent: Agent) -> int:
        """Bytes of its state that are in RAM already, be it in other agents' hands."""
        if agent.state is not None and agent.state in self._pool:
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

"""Finds agents: those that RAM knows, and the others in the store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from agentmem.errors import AgentmemError, Reason, agent_not_found
from agentmem.memory.agent import Agent
from agentmem.memory.readable import readable
from agentmem.store.latents import owned
from agentmem.store.store import Store
from agentmem.types import AgentRef, Share

WARM_KEPT = 256
"""Agents beside the hot ones whose ids stay in RAM, outside the budget: 4 bytes a token. Embeddings count."""


class Lookup:
    """agents: those that RAM knows, least recently used first. active: whether one is in the middle of a request."""

    def __init__(self, store: Store, agents: OrderedDict[AgentRef, Agent], active: Callable[[AgentRef], bool]) -> None:
        self._store, self._agents, self._active = store, agents, active

    def find(self, ref: AgentRef) -> Agent | None:
        """See `Memory.find`."""
        known = self._agents.get(ref)
        if known is None and (row := self._store.agent(ref.namespace, ref.name)) is not None:
            known = Agent(ref, row.id, row.turn, row.state_id, pinned=row.pinned, private=row.share is Share.PRIVATE)
            if row.turn:
                self._load(known)
            self._agents[ref] = known
            self._forget_warm(ref)
        if known is not None:
            self._agents.move_to_end(ref)
        return known

    def _forget_warm(self, wanted: AgentRef) -> None:
        """Keeps the timelines of the last WARM_KEPT agents that rest and are not hot; the disk has the others'."""
        surplus = sum(agent.state is None for agent in self._agents.values()) - WARM_KEPT
        warm = (
            ref
            for ref, agent in self._agents.items()
            if agent.state is None and not agent.unsaved and ref != wanted and not self._active(ref)
        )
        for ref in list(islice(warm, max(0, surplus))):
            del self._agents[ref]

    def create(self, ref: AgentRef) -> Agent:
        """A new, empty agent; one that was made elsewhere meanwhile will do."""
        try:
            self._store.create_agent(ref.namespace, ref.name)
        except AgentmemError as error:
            if error.reason is not Reason.AGENT_EXISTS:
                raise
        agent = self.find(ref)
        if agent is None:
            raise agent_not_found(ref.namespace, ref.name)
        return agent

    def _load(self, agent: Agent) -> None:
        with readable():
            history = self._store.history(agent.id)
            last = history.record(agent.turn)
            agent.ids = history.ids()
            agent.latents = owned(agent.ids, history.latents())
        agent.blocks, agent.companions = history.timeline(), tuple(history.companions())
        agent.unclosed, agent.tokenizer_id = last.open, last.tokenizer_id
        agent.exactness, agent.splices = last.exactness, last.splices
        if sum(b.used for b in agent.blocks) != last.end or len(agent.ids) != last.end:
            raise AgentmemError(
                Reason.BLOCK_UNRECOVERABLE,
                "catalog and turn records disagree about this agent's length",
                turn=agent.turn,
            )

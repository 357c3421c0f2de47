"""Warm to hot: an agent's blocks are read, verified and handed to the attention layers; what cannot be is computed."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.kv.pool import BlockPool
from agentmem.kv.state import AgentState
from agentmem.memory import blocks as block_cutter
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.model.forward import prefill
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import BlockUnreadable, Unreadable
from agentmem.store.records import BlockUse
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS, PrefixMiss, Warning

log = logging.getLogger(__name__)


class Restorer:
    """quarantined: how many blocks were set aside since the start."""

    def __init__(self, store: Store, pool: BlockPool, model: LoadedModel) -> None:
        self._store, self._pool, self._model = store, pool, model
        self.quarantined = 0

    def from_pool(self, agent: Agent) -> AgentState:
        """A state that holds the agent's leading full blocks, as far as they are in RAM."""
        state = AgentState(self._model.layout)
        for span in self._pool.find(agent.full_keys):
            state.hold(span)
        return state

    def restore(self, agent: Agent, draft: TurnDraft) -> Iterator[None]:
        """Gives the agent its state, mending what cannot be read. Yields between blocks and chunks."""
        state = self.from_pool(agent)
        draft.usage.reused_hot_tokens += state.offset
        verified: list[dict[str, np.ndarray]] = []
        first = state.offset // BLOCK_TOKENS
        parent = agent.parent_of(first)
        known = self._store.blocks.known([use.key for use in agent.blocks[first:]])
        for index, use in enumerate(agent.blocks[first:], first):
            start = index * BLOCK_TOKENS
            ids = agent.ids[start : start + use.used]
            try:
                block, read = self._store.blocks.read(agent.ref.namespace, use.key, known)
                verified.append(block_cutter.checked(block, parent, start, ids, self._model))
                draft.usage.bytes_read += read
                draft.usage.reused_warm_tokens += use.used
            except BlockUnreadable as fault:
                state.extend(verified)
                verified = []
                for _ in prefill(self._model, state, ids):
                    yield
                self._put_back(agent, state, start, use, parent, fault, draft)
            parent = use.key
            yield
        state.extend(verified)
        agent.state = state

    def _put_back(
        self,
        agent: Agent,
        state: AgentState,
        start: int,
        use: BlockUse,
        parent: bytes,
        fault: BlockUnreadable,
        draft: TurnDraft,
    ) -> None:
        """Writes a block that was computed again in its own context, and says so."""
        end, reason = start + use.used, f"BLOCK_{fault.reason}"
        block = block_cutter.cut(state, agent.ids[:end], start, use.key, parent, self._model)
        if block.key_of_prefix(self._store.namespace(agent.ref.namespace).secret, block.tokens) != use.key:
            # That block may be sound, and somebody else's.
            message = f"The catalog contradicts the record of turn {agent.turn}: it names another block."
            raise AgentmemError(Reason.STORE_UNREADABLE, message, turn=agent.turn)
        draft.usage.recomputed_tokens += use.used
        draft.usage.misses.append(PrefixMiss(start, use.used, reason))
        given_up = fault.reason is Unreadable.EVICTED
        if not given_up:
            self.quarantined += 1
            message = f"positions {start} to {end} could not be read from disk and were computed again"
            draft.warnings.append(Warning(reason, message))
        try:
            if not given_up:
                self._store.blocks.quarantine(use.key, fault.reason)
            draft.usage.bytes_written += self._store.blocks.replace(agent.ref.namespace, block)
        except AgentmemError as error:
            if error.reason is not Reason.STORE_UNWRITABLE:
                raise
            log.warning("a block that was computed again could not be put back: the disk takes nothing")

"""Warm to hot: an agent's blocks are read, verified and handed to the attention layers; what cannot be is computed.

Full attention can go on from any block border: only what is damaged is computed. Layers with companions can go on from
the ends of turns: from the last one of which all can be read.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from agentmem.kv.layers import Tensors
from agentmem.kv.pool import BlockPool
from agentmem.kv.state import AgentState
from agentmem.memory import blocks as block_cutter
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.companions import Companions
from agentmem.memory.mending import Mender
from agentmem.model.forward import prefill
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import BlockUnreadable
from agentmem.store.records import BlockUse, CompanionUse, RecordUnreadable
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS, BlockKind


@dataclass(frozen=True, eq=False)
class _End:
    """The end of a turn whose timeline the agent's begins with."""

    ids: np.ndarray
    blocks: list[BlockUse]
    companions: tuple[CompanionUse, ...]

    @property
    def keys(self) -> list[bytes]:
        return [use.key for use in self.blocks]


class Restorer:
    def __init__(self, store: Store, pool: BlockPool, model: LoadedModel, companions: Companions) -> None:
        self._store, self._pool, self._model, self._companions = store, pool, model, companions
        self._mender = Mender(store)

    @property
    def quarantined(self) -> int:
        """How many blocks were set aside since the start."""
        return self._mender.quarantined

    def from_pool(self, full_keys: list[bytes]) -> AgentState:
        """A state whose full layers hold a timeline's leading full blocks, as far as they are in RAM."""
        state = AgentState(self._model.layout)
        for span in self._pool.find(full_keys):
            state.hold(span)
        return state

    def restore(self, agent: Agent, draft: TurnDraft) -> Iterator[None]:
        """Gives the agent its state, mending what cannot be read. Yields between blocks and chunks."""
        if self._model.layout.has_companions:
            yield from self._from_a_turn(agent, draft)
        else:
            yield from self._block_by_block(agent, draft)

    def _block_by_block(self, agent: Agent, draft: TurnDraft) -> Iterator[None]:
        state = self.from_pool(agent.full_keys)
        draft.usage.reused_hot_tokens += state.offset
        verified: list[Tensors] = []
        first = state.offset // BLOCK_TOKENS
        for place, use in enumerate(agent.blocks[first:], first):
            start, end = place * BLOCK_TOKENS, place * BLOCK_TOKENS + use.used
            try:
                verified.append(self._read(agent, use, place, draft))
            except BlockUnreadable as fault:
                state.extend(verified)
                verified = []
                for _ in prefill(self._model, state, agent.ids[start:end]):
                    yield
                self._mender.say(start, end, fault, draft)
                parent = agent.parent_of(place)
                block = block_cutter.cut(state, agent.ids[:end], start, use.key, parent, self._model)
                self._mender.put_back(agent.ref.namespace, block, fault, draft)
            yield
        state.extend(verified)
        agent.state = state

    def _from_a_turn(self, agent: Agent, draft: TurnDraft) -> Iterator[None]:
        fault: BlockUnreadable | None = None
        state = AgentState(self._model.layout)
        for end in self._ends(agent):
            try:
                state = yield from self._state_at(agent, end, draft)
                break
            except BlockUnreadable as error:
                fault = fault or error
        start = state.offset
        if fault is not None:
            for _ in prefill(self._model, state, agent.ids[start:]):
                yield
            self._mender.say(start, agent.tokens, fault, draft)
            yield from self._mend(agent, state, draft)
        agent.state = state

    def _ends(self, agent: Agent) -> Iterator[_End]:
        """Ends of turns from which the timeline can go on: its own, then the others, the longest first."""
        yield _End(agent.ids, agent.blocks, agent.companions)
        history = self._store.history(agent.id)
        ends = []
        for number in history.listed:
            try:
                ids, record = history.ids(number), history.record(number)
            except RecordUnreadable:  # of a turn that was taken back: those of the timeline have been read
                continue
            if record.state_id == self._model.state_id and np.array_equal(ids, agent.ids[: len(ids)]):
                ends.append(_End(ids, history.timeline(number), tuple(history.companions(number))))
        yield from sorted(ends, key=lambda end: -len(end.ids))

    def _state_at(self, agent: Agent, end: _End, draft: TurnDraft) -> Generator[None, None, AgentState]:
        """Raises BlockUnreadable if anything of it cannot be read; nothing is counted then."""
        state = self.from_pool([use.key for use in end.blocks if use.used == BLOCK_TOKENS])
        hot, read = state.offset, TurnDraft(draft.kind, "")
        verified = []
        for place, use in enumerate(end.blocks[hot // BLOCK_TOKENS :], hot // BLOCK_TOKENS):
            verified.append(self._read(agent, use, place, read))
            yield
        companions = yield from self._companions.read(agent.ref.namespace, end.ids, end.keys, end.companions)
        state.extend(verified)
        companions.give(state, len(end.ids))
        state.evaluate()
        draft.usage.reused_hot_tokens += hot
        draft.usage.reused_warm_tokens += read.usage.reused_warm_tokens
        draft.usage.bytes_read += read.usage.bytes_read + companions.bytes_read
        return state

    def _read(self, agent: Agent, use: BlockUse, place: int, draft: TurnDraft) -> Tensors:
        """One block of the agent's timeline, or the first positions of a longer one. Raises BlockUnreadable."""
        start, parent = place * BLOCK_TOKENS, agent.parent_of(place)
        block, size = self._store.blocks.read(agent.ref.namespace, use.key)
        rows = block_cutter.checked(block, parent, start, agent.ids[start : start + use.used], self._model)
        draft.usage.bytes_read += size
        draft.usage.reused_warm_tokens += use.used
        return rows

    def _mend(self, agent: Agent, state: AgentState, draft: TurnDraft) -> Iterator[None]:
        """Puts back what of the timeline and its companions cannot be read."""
        uses = [(place, BlockKind.TEXT, use) for place, use in enumerate(agent.blocks)]
        for place, kind, use in [*uses, *((one.place, one.kind, one) for one in agent.companions)]:
            yield
            try:
                self._store.blocks.read(agent.ref.namespace, use.key)
            except BlockUnreadable as fault:
                start = place * BLOCK_TOKENS
                ids, parent = agent.ids[: start + use.used], agent.parent_of(place)
                block = block_cutter.cut(state, ids, start, use.key, parent, self._model, kind)
                self._mender.put_back(agent.ref.namespace, block, fault, draft)

"""Warm to hot: an agent's blocks are read, verified and handed to the attention layers; what cannot be is computed.

Full attention can go on from any block border: only what is damaged is computed. Layers with companions can go on from
the ends of turns: from the last one of which all can be read.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.kv.pool import BlockPool
from agentmem.kv.state import AgentState
from agentmem.memory import blocks as block_cutter
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.companions import Companions
from agentmem.memory.computing import computed
from agentmem.memory.incoming import IncomingBlocks, wanted_of
from agentmem.memory.mending import Mender
from agentmem.memory.news import News
from agentmem.memory.readable import readable
from agentmem.memory.reader import ReaderThreads
from agentmem.memory.turning import Turning
from agentmem.memory.writer import until_done
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import Block, BlockUnreadable, Unreadable
from agentmem.store.grid import is_spliced
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
    def __init__(
        self,
        store: Store,
        pool: BlockPool,
        model: LoadedModel,
        companions: Companions,
        readers: ReaderThreads,
        turning: Turning,
        news: News,
    ) -> None:
        self._store, self._pool, self._model, self._companions = store, pool, model, companions
        self._turning, self._news = turning, news
        self._readers, self._mender = readers, Mender(store, model)

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

    def restore(self, agent: Agent, draft: TurnDraft) -> Iterator[object]:
        """Gives the agent its state, mending what cannot be read, which is news. Yields what it needs (`needs`)."""
        yield from until_done(agent.outstanding)  # or else their blocks would be missing
        before = len(draft.usage.misses)
        bring = self._from_a_turn if self._model.layout.has_companions else self._block_by_block
        try:
            yield from bring(agent, draft)
        finally:
            self._news.recomputed(agent.id, draft.usage.misses[before:])

    def _block_by_block(self, agent: Agent, draft: TurnDraft) -> Iterator[object]:
        state = self.from_pool(agent.full_keys)
        draft.usage.reused_hot_tokens += state.offset
        first = state.offset // BLOCK_TOKENS
        uses = agent.blocks[first:]
        incoming = self._incoming(agent, first, uses)
        yield from incoming.allocate()
        with incoming:
            for place, use in enumerate(uses, first):
                try:
                    draft.usage.bytes_read += yield from incoming.next()
                    draft.usage.reused_warm_tokens += use.used
                except BlockUnreadable as fault:
                    if is_spliced(place, agent.splices):
                        self._mender.set_aside(agent.ref.namespace, use.key, fault)
                        raise self._lost(agent, place, fault) from fault
                    block = yield from self._computed_again(agent, place, state, incoming)
                    self._mender.say(block.start, block.start + block.tokens, fault, draft)
                    self._mender.put_back(agent, block, fault, draft)
                    incoming.put(block_cutter.rows(block, block.tokens, self._model))
        incoming.give(state, self._turning.of(agent.splices))
        agent.state = state

    def _lost(self, agent: Agent, place: int, fault: BlockUnreadable) -> AgentmemError:
        """What a splice has put somewhere is nowhere else: where it was taken from others may have moved on."""
        with readable():
            turn = self._store.history(agent.id).turn_at(agent.starts[place])
        why = Unreadable.MISSING if fault.reason is Unreadable.EVICTED else fault.reason
        message = (
            f"a block that the splice of turn {turn} put into this timeline is {why.lower()}, and cannot be "
            f"computed again: fork the agent at a turn before, and make the same splice there, which puts the block "
            f"back; or rewind it"
        )
        return AgentmemError(Reason.BLOCK_UNRECOVERABLE, message, turn=turn)

    def _incoming(self, agent: Agent, first: int, uses: Sequence[BlockUse]) -> IncomingBlocks:
        """The blocks of its timeline, or the first positions of longer ones, from the one at place `first` on."""
        lying = len(agent.full_keys) - first if agent.splices else None
        wanted = list(wanted_of(agent, uses, first))
        return IncomingBlocks(self._store, self._model, self._readers, agent.ref.namespace, wanted, placed_from=lying)

    def _computed_again(
        self, agent: Agent, place: int, state: AgentState, incoming: IncomingBlocks
    ) -> Generator[object, None, Block]:
        """One block of the agent's timeline, computed on those before it: the state's, and what has come in."""
        use, start = agent.blocks[place], agent.starts[place]
        before = AgentState(self._model.layout)
        for span in state.full.spans:
            before.hold(span)
        incoming.lend(before, self._turning.of(agent.splices))
        ids = agent.ids[: start + use.used]
        yield from computed(self._model, before, ids[start:], agent.latents)
        return block_cutter.cut(before, ids, agent.latents, start, use.key, agent.parent_of(place), self._model)

    def _from_a_turn(self, agent: Agent, draft: TurnDraft) -> Iterator[object]:
        fault: BlockUnreadable | None = None
        state = AgentState(self._model.layout)
        for end in self._ends(agent):
            try:
                state = yield from self._state_at(agent, end, draft)
                break
            except BlockUnreadable as error:
                fault = fault or error.with_traceback(None)  # or it would keep what was read
        start = state.offset
        if fault is not None:
            yield from computed(self._model, state, agent.ids[start:], agent.latents)
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

    def _state_at(self, agent: Agent, end: _End, draft: TurnDraft) -> Generator[object, None, AgentState]:
        """Raises BlockUnreadable if anything of it cannot be read; nothing is counted then."""
        state = self.from_pool([use.key for use in end.blocks if use.used == BLOCK_TOKENS])
        hot, bytes_read = state.offset, 0
        uses = end.blocks[hot // BLOCK_TOKENS :]
        incoming = self._incoming(agent, hot // BLOCK_TOKENS, uses)
        yield from incoming.allocate()
        with incoming:
            for _ in uses:
                bytes_read += yield from incoming.next()
        companions = yield from self._companions.read(
            agent.ref.namespace, end.ids, agent.latents, end.keys, end.companions
        )
        incoming.give(state)
        companions.give(state, len(end.ids))
        state.evaluate()
        draft.usage.reused_hot_tokens += hot
        draft.usage.reused_warm_tokens += len(end.ids) - hot
        draft.usage.bytes_read += bytes_read + companions.bytes_read
        return state

    def _mend(self, agent: Agent, state: AgentState, draft: TurnDraft) -> Iterator[object]:
        """Puts back what of the timeline and its companions cannot be read."""
        uses: list[tuple[int, BlockKind | None, BlockUse | CompanionUse]]
        uses = [(place, None, use) for place, use in enumerate(agent.blocks)]
        uses += [(one.place, one.kind, one) for one in agent.companions]
        works = (partial(self._is_there, agent.ref.namespace, use.key) for _, _, use in uses)
        with self._readers.reading(works) as reading:
            for place, companion, use in uses:
                try:
                    yield from reading.next()
                except BlockUnreadable as fault:
                    start = place * BLOCK_TOKENS
                    ids, parent = agent.ids[: start + use.used], agent.parent_of(place)
                    block = block_cutter.cut(state, ids, agent.latents, start, use.key, parent, self._model, companion)
                    self._mender.put_back(agent, block, fault, draft)

    def _is_there(self, namespace: str, key: bytes) -> None:
        """On a reader thread. Raises BlockUnreadable if it is not; keeps nothing of it."""
        self._store.blocks.read(namespace, key)

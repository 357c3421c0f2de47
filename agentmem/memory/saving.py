"""Turns on their way to the disk: part of the timeline at once, durable as soon as the disk takes them."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Generator, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import replace

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.kv import splicing
from agentmem.kv.splicing import Segment
from agentmem.kv.state import AgentState
from agentmem.memory import blocks as block_cutter
from agentmem.memory.agent import Agent, TurnDraft, Unsaved
from agentmem.memory.ahead import release
from agentmem.memory.budget import RamBudget
from agentmem.memory.companions import Companions
from agentmem.memory.embeddings import embedding_bytes
from agentmem.memory.writer import WriterThread, until_done
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import Block
from agentmem.store.grid import Grid, SpliceRun
from agentmem.store.keys import block_key
from agentmem.store.latents import embeddings_of
from agentmem.store.placement import Placement
from agentmem.store.records import BlockUse, TurnRecord
from agentmem.store.store import Store
from agentmem.store.timelinekeys import block_keys
from agentmem.types import BLOCK_TOKENS, BlockKind, TurnKind

log = logging.getLogger(__name__)


class TurnSaver:
    """An agent whose disk is full or read-only goes on in RAM; its turns are saved, in order, when that has changed."""

    def __init__(
        self, store: Store, model: LoadedModel, companions: Companions, writer: WriterThread, budget: RamBudget
    ) -> None:
        self._store, self._model, self._companions = store, model, companions
        self._writer, self._budget = writer, budget

    def add(self, agent: Agent, draft: TurnDraft) -> None:
        """Makes the draft the agent's last turn, in RAM. The state must already hold its ids."""
        fresh = draft.kind is TurnKind.REBUILD
        start = 0 if fresh else agent.tokens
        new = np.asarray(draft.ids, np.int32)
        ids = new if fresh else np.concatenate([agent.ids, new])
        base, uses = self._uses(agent, draft, ids, fresh)
        blocks, splices = [*agent.blocks[:base], *uses], () if fresh else agent.splices
        if placed := len(draft.placements):
            splices = (*splices, SpliceRun(len(blocks) - placed, placed))
        record = replace(self._record(agent, draft, start, base, uses, new), splices=splices)
        record, companions = self._with_companions(agent, record, ids, [use.key for use in blocks])
        agent.unsaved.append(Unsaved(record, draft, companions))
        agent.turn, agent.ids, agent.blocks, agent.companions = record.number, ids, blocks, record.companions
        agent.state_id, agent.tokenizer_id = self._model.state_id, self._model.tokenizer_id
        agent.unclosed, agent.exactness, agent.splices = draft.unclosed, draft.exactness, splices

    def _uses(self, agent: Agent, draft: TurnDraft, ids: np.ndarray, fresh: bool) -> tuple[int, tuple[BlockUse, ...]]:
        """How many blocks of the timeline stay, and those that follow them. ids: the timeline's, with the draft's."""
        grid, state_id = Grid() if fresh else agent.grid, self._model.state_id
        start = 0 if fresh else agent.tokens
        end = len(ids) - sum(len(placement.used) for placement in draft.placements)
        # What comes to stand behind a block that is not full leaves it as it is, but for what goes on in it.
        base = grid.place_of(start) if end > start or fresh else len(agent.blocks)
        begin, parent = grid.start_of(base), b"" if fresh else agent.parent_of(base)
        secret, uses = self._store.namespace(agent.ref.namespace).secret, []
        if end > start:
            for key in block_keys(ids[:end], begin, parent, secret, state_id, agent.latents):
                uses.append(BlockUse(key, min(BLOCK_TOKENS, end - begin)))
                begin, parent = begin + BLOCK_TOKENS, key
        for placement in draft.placements:
            own = ids[placement.positions]
            payload = placement.payload(own, embeddings_of(own, agent.latents))
            parent = block_key(secret, parent, state_id, BlockKind.SPLICE, payload)
            uses.append(BlockUse(parent, len(own)))
        return base, tuple(uses)

    def _with_companions(
        self, agent: Agent, record: TurnRecord, ids: np.ndarray, keys: list[bytes]
    ) -> tuple[TurnRecord, tuple[Block, ...]]:
        """The record with the companions of its end, and those of them that are new: the state will move on."""
        if not self._model.layout.has_companions:
            return record, ()
        assert agent.state is not None
        timeline = self._companions.timeline(agent.ref.namespace, ids, agent.latents, keys)
        needed = self._companions.needed(timeline)
        new = [use for use in needed if use not in agent.companions]
        return replace(record, companions=needed), tuple(self._companions.cut(agent.state, timeline, new))

    def commit(self, agent: Agent, behind: bool) -> Generator[object, None, bool]:
        """Has the writer thread commit the agent's last turn, and waits for that unless it may come behind.

        True if the turn is durable. Yields while it waits. Raises what `save` does.
        """
        *before, one = agent.unsaved
        if any(other.saving is None for other in before):
            return self.save(agent)
        there = one.draft.taken.union(one.draft.writes)
        tokens = sum(use.used for use in one.record.blocks if use.key not in there)
        size = tokens * self._model.layout.full.bytes_per_token
        size += one.record.embedding_bytes + self._latent_bytes(agent, one.record, there)
        size += sum(tensor.data.nbytes for block in one.companions for tensor in block.tensors.values())
        while not self._budget.may_copy(agent, size):
            yield from self._writer.moment()
        writes = one.draft.writes
        blocks = [*self._blocks(agent, one, writes), *one.companions]
        one.draft.ahead = {}  # `_commit` lets go of them
        one.saving = self._writer.hand(size, _commit, self._store, one.record, blocks, writes)
        if behind:
            return False
        yield from until_done([one.saving])
        return self.save(agent)

    def _latent_bytes(self, agent: Agent, record: TurnRecord, there: Container[bytes]) -> int:
        """Bytes of the embeddings that the record's blocks have, but for those that are there."""
        if not agent.latents:
            return 0
        begins, base = agent.starts, record.base_blocks
        written = [place for place, use in enumerate(record.blocks, base) if use.key not in there]
        latent = sum(int((agent.ids[begins[place] : begins[place + 1]] < 0).sum()) for place in written)
        return latent * embedding_bytes(self._model)

    def collect(self, agent: Agent) -> None:
        """Takes note of what the writer thread has done. Turns that it could not commit are left to `save`."""
        while agent.unsaved and (saving := agent.unsaved[0].saving) is not None and saving.done():
            one = agent.unsaved[0]
            if (error := saving.exception()) is None:
                one.draft.usage.bytes_written += saving.result()
            elif not self._happened(one.record):
                log.warning("turn %d of agent %r is not saved yet: %s", one.record.number, agent.ref.name, _name(error))
                wait(agent.outstanding)  # those behind it fail as well
                for other in agent.unsaved:
                    other.saving = None
                return
            agent.unsaved.pop(0)

    def save(self, agent: Agent) -> bool:
        """True once all turns are durable, False if the disk does not take them now. Raises AgentmemError otherwise."""
        wait(agent.outstanding)
        self.collect(agent)
        while agent.unsaved:
            if agent.state is None:  # a turn failed and took it along; the next restore computes it again
                return False
            one = agent.unsaved[0]
            wait(one.draft.writes.values())
            writes = one.draft.writes
            blocks = [*self._blocks(agent, one, writes), *one.companions]
            one.draft.ahead = {}
            try:
                one.draft.usage.bytes_written += _commit(self._store, one.record, blocks, writes)
            except AgentmemError as error:
                if error.reason is not Reason.STORE_UNWRITABLE:
                    raise
                if not self._happened(one.record):
                    return False
            agent.unsaved.pop(0)
        return True

    def _happened(self, record: TurnRecord) -> bool:
        """Whether a commit that reported an error is there all the same."""
        row = self._store.agent(record.namespace, record.agent_name)
        return row is not None and row.id == record.agent_id and row.turn >= record.number

    def _blocks(self, agent: Agent, one: Unsaved, ahead: Container[bytes]) -> Iterator[Block]:
        """The record's blocks as the state holds them, but for those that were there before or are written ahead."""
        assert agent.state is not None
        base = one.record.base_blocks
        start, parent = agent.starts[base], agent.parent_of(base)
        placed = self._placed(agent.state, one, base + len(one.record.blocks))
        there = self._store.blocks.sizes(one.draft.taken)  # but for what went meanwhile, with its last user or for room
        for place, use in enumerate(one.record.blocks, base):
            if not there.get(use.key) and use.key not in ahead:
                if place in placed:
                    block = self._cut_placed(agent, start, use.key, parent, *placed[place])
                else:
                    ids = agent.ids[: start + use.used]
                    block = block_cutter.cut(agent.state, ids, agent.latents, start, use.key, parent, self._model)
                yield block
            start, parent = start + use.used, use.key

    @staticmethod
    def _placed(state: AgentState, one: Unsaved, end: int) -> dict[int, tuple[Segment, Placement]]:
        """The segments of a splice's blocks, which are the last ones of its turn, by place. end: behind them."""
        placements = one.draft.placements
        if not placements:
            return {}
        first = end - len(placements)
        return dict(enumerate(zip(splicing.segments(state.full)[first:end], placements, strict=True), first))

    def _cut_placed(
        self, agent: Agent, start: int, key: bytes, parent: bytes, segment: Segment, placement: Placement
    ) -> Block:
        assert agent.state is not None
        return block_cutter.cut_placed(
            agent.state, agent.ids, agent.latents, start, key, parent, self._model, segment, placement
        )

    def _record(
        self, agent: Agent, draft: TurnDraft, start: int, base: int, uses: tuple[BlockUse, ...], ids: np.ndarray
    ) -> TurnRecord:
        return TurnRecord(
            agent_id=agent.id,
            namespace=agent.ref.namespace,
            agent_name=agent.ref.name,
            number=agent.turn + 1,
            kind=draft.kind,
            start=start,
            end=start + len(ids),
            state_id=self._model.state_id,
            tokenizer_id=self._model.tokenizer_id,
            base_blocks=base,
            blocks=uses,
            ids=ids,
            messages=tuple(draft.messages),
            open=draft.unclosed,
            finish_reason=draft.finish_reason,
            stop_sequence=draft.stop_sequence,
            exactness=draft.exactness,
            request_id=draft.request_id,
            created=time.time(),
            usage=replace(draft.usage),  # copies: the writer thread reads them
            timings=replace(draft.timings),
            seed=draft.seed,
            warnings=tuple(draft.warnings),
            embeddings=embeddings_of(ids, agent.latents),
            parts=tuple(draft.parts),
        )


def _commit(store: Store, record: TurnRecord, blocks: list[Block], writes: Mapping[bytes, Future[int]]) -> int:
    """Commits a turn, behind the writes of its blocks; bytes written, by those too. On any thread."""
    try:
        return sum(write.result() for write in writes.values()) + store.commit(record, blocks)
    finally:
        release(store, writes)


def _name(error: BaseException) -> str:
    return error.reason.value if isinstance(error, AgentmemError) else type(error).__name__

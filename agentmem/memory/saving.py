"""Turns on their way to the disk: part of the timeline at once, durable as soon as the disk takes them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.memory import blocks as block_cutter
from agentmem.memory.agent import Agent, TurnDraft, Unsaved
from agentmem.memory.companions import Companions
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import Block
from agentmem.store.records import BlockUse, TurnRecord
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS, TurnKind


class TurnSaver:
    """An agent whose disk is full or read-only goes on in RAM; its turns are saved, in order, when that has changed."""

    def __init__(self, store: Store, model: LoadedModel, companions: Companions) -> None:
        self._store, self._model, self._companions = store, model, companions

    def add(self, agent: Agent, draft: TurnDraft) -> None:
        """Makes the draft the agent's last turn, in RAM. The state must already hold its ids."""
        fresh = draft.kind is TurnKind.REBUILD
        start = 0 if fresh else agent.tokens
        base = start // BLOCK_TOKENS
        new = np.asarray(draft.ids, np.int32)
        ids = new if fresh else np.concatenate([agent.ids, new])
        parent = b"" if fresh else agent.parent_of(base)
        secret = self._store.namespace(agent.ref.namespace).secret
        keys = block_cutter.keys_of(ids, base * BLOCK_TOKENS, parent, secret, self._model.state_id)
        uses = tuple(
            BlockUse(key, min(BLOCK_TOKENS, len(ids) - place * BLOCK_TOKENS)) for place, key in enumerate(keys, base)
        )
        blocks = [*agent.blocks[:base], *uses]
        record = self._record(agent, draft, start, base, uses, new)
        record, companions = self._with_companions(agent, record, ids, [use.key for use in blocks])
        agent.unsaved.append(Unsaved(record, draft, companions))
        agent.turn, agent.ids, agent.blocks, agent.companions = record.number, ids, blocks, record.companions
        agent.state_id, agent.tokenizer_id = self._model.state_id, self._model.tokenizer_id
        agent.unclosed = draft.unclosed

    def _with_companions(
        self, agent: Agent, record: TurnRecord, ids: np.ndarray, keys: list[bytes]
    ) -> tuple[TurnRecord, tuple[Block, ...]]:
        """The record with the companions of its end, and those of them that are new: the state will move on."""
        if not self._model.layout.has_companions:
            return record, ()
        assert agent.state is not None
        needed = self._companions.needed(ids, keys, self._store.namespace(agent.ref.namespace).secret)
        new = [use for use in needed if use not in agent.companions]
        return replace(record, companions=needed), tuple(self._companions.cut(agent.state, ids, keys, new))

    def save(self, agent: Agent) -> bool:
        """True once all turns are durable, False if the disk does not take them now. Raises AgentmemError otherwise."""
        while agent.unsaved:
            if agent.state is None:  # a turn failed and took it along; the next restore computes it again
                return False
            one = agent.unsaved[0]
            try:
                one.draft.usage.bytes_written += self._store.commit(
                    one.record, [*self._blocks(agent, one), *one.companions]
                )
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

    def _blocks(self, agent: Agent, one: Unsaved) -> Iterator[Block]:
        """The record's blocks as the state holds them, but for those that were there before."""
        assert agent.state is not None
        base = one.record.base_blocks
        parent = agent.parent_of(base)
        there = self._store.blocks.sizes(one.draft.taken)  # but for what went meanwhile, with its last user or for room
        for place, use in enumerate(one.record.blocks, base):
            if not there.get(use.key):
                start = place * BLOCK_TOKENS
                ids = agent.ids[: start + use.used]
                yield block_cutter.cut(agent.state, ids, start, use.key, parent, self._model)
            parent = use.key

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
            usage=draft.usage,
            timings=draft.timings,
            seed=draft.seed,
            warnings=tuple(draft.warnings),
        )

"""Full blocks go to the writer thread while their turn runs: its end has the tail and the record left to write."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future

import numpy as np

from agentmem.errors import AgentmemError
from agentmem.memory import blocks as block_cutter
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.embeddings import embedding_bytes
from agentmem.memory.writer import WriterThread
from agentmem.model.loader import LoadedModel
from agentmem.store.store import Store
from agentmem.store.timelinekeys import block_keys
from agentmem.types import BLOCK_TOKENS

log = logging.getLogger(__name__)


class WriteAhead:
    """A block for which there is no room now is looked at again later: computing never waits for the disk."""

    def __init__(self, store: Store, model: LoadedModel, writer: WriterThread) -> None:
        self._store, self._model, self._writer = store, model, writer
        self._block_bytes = BLOCK_TOKENS * model.layout.full.bytes_per_token

    def hand_over(self, agent: Agent, draft: TurnDraft, has_room: Callable[[int], bool]) -> bool:
        """Hands over what of the draft has become full blocks. False if one is left for which there is no room."""
        if agent.state is None or agent.rebuilt is not None or draft.placements:
            return True
        base = agent.grid.place_of(agent.tokens)
        known = min(agent.state.offset, agent.tokens + len(draft.ids))  # a token may be fed before it is known
        while (end := agent.grid.start_of(base + len(draft.ahead) + 1)) <= known:
            start, new = end - BLOCK_TOKENS, draft.ids[: max(0, end - agent.tokens)]
            ids = np.concatenate([agent.ids[:end], np.asarray(new, np.int32)])
            size = self._block_bytes + int((ids[start:] < 0).sum()) * embedding_bytes(self._model)
            if not has_room(size):
                return False
            parent = next(reversed(draft.ahead)) if draft.ahead else agent.parent_of(base)
            secret = self._store.namespace(agent.ref.namespace).secret
            (key,) = block_keys(ids, start, parent, secret, self._model.state_id, agent.latents)
            write = None
            if key not in draft.taken:
                block = block_cutter.cut(agent.state, ids, agent.latents, start, key, parent, self._model)
                write = self._writer.hand(size, self._store.blocks.write_ahead, agent.ref.namespace, block)
            draft.ahead[key] = write
        return True

    def finish(self, agent: Agent, draft: TurnDraft, has_room: Callable[[int], bool]) -> Iterator[object]:
        """Hands over all full blocks of a draft that has ended. Yields while it waits for room."""
        while not self.hand_over(agent, draft, has_room):
            yield from self._writer.moment()

    def let_go(self, draft: TurnDraft) -> None:
        """Has removed what was written for a draft that is not going to be committed, unless somebody else uses it."""
        writes, draft.ahead = draft.writes, {}
        for write in writes.values():
            write.cancel()
        if writes:
            self._writer.hand(0, release, self._store, writes)


def release(store: Store, writes: Mapping[bytes, Future[int]]) -> None:
    """On the writer thread, behind the writes: their turn needs them no more, or has been committed."""
    try:
        store.blocks.release([key for key, write in writes.items() if succeeded(write)])
    except AgentmemError as error:  # what stays is removed when the store is opened
        log.warning("blocks that were written ahead could not be removed: %s", error.reason.value)


def succeeded(write: Future[int]) -> bool:
    """Whether a write that is done or cancelled was done well."""
    return not write.cancelled() and write.exception() is None

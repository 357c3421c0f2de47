"""Setting a running agent aside: what its turn has computed leaves RAM, and comes back bit for bit.

Full blocks go to the disk, where the turn would have written them anyway. What cannot go there yet stays in RAM.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.kv.full import FullLayers
from agentmem.kv.layers import Tensors
from agentmem.kv.pool import BlockPool
from agentmem.kv.state import AgentState
from agentmem.memory import blocks as block_cutter
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.ahead import WriteAhead
from agentmem.memory.budget import RamBudget
from agentmem.memory.computing import computed
from agentmem.memory.incoming import IncomingBlocks, Wanted
from agentmem.memory.mending import Mender
from agentmem.memory.needs import Chunk
from agentmem.memory.reader import ReaderThreads
from agentmem.memory.writer import until_done
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import BlockUnreadable
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS

Steps = Generator[Any, None, None]

READ_COST = Chunk(BLOCK_TOKENS // 4)
"""What reading and verifying a block is counted as: positions that take about as long to compute."""


@dataclass(frozen=True)
class Aside:
    """What RAM keeps of a state that was set aside.

    At most the rows of one block of the full layers, those of as many blocks of the windowed layers as a window
    reaches into, and one more, and one snapshot. offset: positions that the state held. rows: of the full layers,
    behind the blocks on disk. window: of the segments that its end sees, and the committed turns do not hold.
    """

    offset: int
    rows: Tensors = field(default_factory=dict)
    window: dict[int, Tensors] = field(default_factory=dict)
    snapshot: Tensors = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for part in (self.rows, self.snapshot, *self.window.values()) for a in part.values())


class Asides:
    def __init__(
        self,
        store: Store,
        pool: BlockPool,
        model: LoadedModel,
        ahead: WriteAhead,
        budget: RamBudget,
        readers: ReaderThreads,
    ) -> None:
        self._store, self._pool, self._model = store, pool, model
        self._ahead, self._budget = ahead, budget
        self._readers, self._mender = readers, Mender(store, model)

    @property
    def quarantined(self) -> int:
        """How many blocks were set aside since the start because they were unsound."""
        return self._mender.quarantined

    def keep(self, agent: Agent, draft: TurnDraft) -> Generator[Any, None, Aside | None]:
        """Has the draft's full blocks on disk; what must be kept besides. None if the disk does not take them."""
        state = agent.state
        if state is None or agent.rebuilt is not None:
            return None
        yield from self._ahead.finish(agent, draft, partial(self._budget.may_copy, agent))
        writes = [write for write in draft.ahead.values() if write is not None]
        yield from until_done(writes)
        if any(write.exception() for write in writes):
            return None
        border = agent.grid.start_of(agent.grid.place_of(agent.tokens) + len(draft.ahead))
        return self._rest(state, agent.tokens, border)

    def _rest(self, state: AgentState, committed: int, border: int) -> Aside:
        """What the disk does not have of a state: it has the `committed` positions of turns, and blocks to `border`."""
        end = state.offset
        aside = Aside(end, state.read(border, end) if border < end else {})
        if (window := state.window) is not None:
            for segment in window.layers[0].segments:
                start, stop = segment * BLOCK_TOKENS, min((segment + 1) * BLOCK_TOKENS, end)
                if start >= window.layout.reach(end) and start + BLOCK_TOKENS > committed:
                    aside.window[segment] = window.read(start, stop)
        if state.recurrent is not None and end:
            aside.snapshot.update(state.recurrent.read(0, end))
        return aside

    def give_back(self, agent: Agent, draft: TurnDraft, aside: Aside, read: TurnDraft) -> Steps:
        """Has the agent's state, which holds its committed turns, hold the draft again. read: what that cost."""
        state = agent.state
        assert state is not None
        if aside.offset == agent.tokens:
            return
        ids = np.concatenate([agent.ids, np.asarray(draft.ids, np.int32)])[: aside.offset]
        base, keys = agent.grid.place_of(agent.tokens), list(draft.ahead)
        held = FullLayers(self._model.layout.full)
        for span in self._pool.find(keys):  # what others have in RAM too
            held.hold(span)
        incoming, fault = self._incoming(agent, ids, base + held.offset // BLOCK_TOKENS, keys), None
        yield from incoming.allocate()
        with incoming:
            try:
                for _ in keys[held.offset // BLOCK_TOKENS :]:
                    read.usage.bytes_read += yield from incoming.next()
            except BlockUnreadable as error:
                fault = error.with_traceback(None)  # or it would keep what was read
        if fault is None:
            self._extend(state, agent.grid.start_of(base), held, incoming, aside.rows)
            if state.window is not None:
                state.window.go_on(aside.window, aside.offset)
            if state.recurrent is not None:
                state.recurrent.go_on(aside.snapshot, aside.offset)
            state.evaluate()
            return
        if not self._model.layout.has_companions:  # those go on from the end of a turn only
            self._extend(state, agent.grid.start_of(base), held, incoming, {})
        del held, incoming
        yield from self._compute(agent, state, ids, aside.offset, keys, fault, read)

    def _incoming(self, agent: Agent, ids: np.ndarray, first: int, keys: list[bytes]) -> IncomingBlocks:
        """The draft's blocks, from the one at place `first` of the timeline on."""
        base, wanted = agent.grid.place_of(agent.tokens), []
        for place in range(first, base + len(keys)):
            start = agent.grid.start_of(place)
            rows = ids[start : start + BLOCK_TOKENS]
            wanted.append(Wanted(keys[place - base], self._parent(agent, place, keys), start, rows))
        known = self._store.blocks.known_ahead(keys)
        return IncomingBlocks(self._store, self._model, self._readers, agent.ref.namespace, wanted, known)

    @staticmethod
    def _extend(state: AgentState, border: int, held: FullLayers, incoming: IncomingBlocks, rows: Tensors) -> None:
        """Gives the full layers what follows the block border at a position, in place of the part of a block there."""
        if held.spans or incoming.arrived or rows:
            state.full.trim(border)
            state.full.freeze()
            for span in held.spans:
                state.hold(span)
            incoming.give(state)
            state.extend([rows] if rows else [])

    @staticmethod
    def _parent(agent: Agent, place: int, keys: list[bytes]) -> bytes:
        """The key of the block before the one at a place."""
        base = agent.grid.place_of(agent.tokens)
        return keys[place - base - 1] if place > base else agent.parent_of(base)

    def _compute(
        self,
        agent: Agent,
        state: AgentState,
        ids: np.ndarray,
        end: int,
        keys: list[bytes],
        fault: BlockUnreadable,
        read: TurnDraft,
    ) -> Steps:
        """Computes again what follows the state's end, and puts back those of the draft's blocks that are lost."""
        start = state.offset
        if len(ids) < end:
            message = "a block of the running turn cannot be read; the timeline is as it was: repeat the request"
            raise AgentmemError(Reason.BLOCK_UNRECOVERABLE, message)
        yield from computed(self._model, state, ids[start:], agent.latents)
        self._mender.say(start, len(ids), fault, read)
        for place, key in enumerate(keys, agent.grid.place_of(agent.tokens)):
            yield READ_COST
            begin, parent = agent.grid.start_of(place), self._parent(agent, place, keys)
            known, rows = self._store.blocks.known_ahead([key]), ids[begin : begin + BLOCK_TOKENS]
            try:
                block_cutter.read(self._store, agent.ref.namespace, key, known, parent, begin, rows, self._model)
            except BlockUnreadable as lost:
                block = block_cutter.cut(state, ids, agent.latents, begin, key, parent, self._model)
                self._mender.put_back(agent, block, lost, read)

"""The disk budget: what blocks and records of all agents may take, active requests included.

It is asked before work starts, as the RAM budget is, with an upper bound of what the work may write.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.memory.agent import Agent
from agentmem.memory.embeddings import embedding_bytes
from agentmem.memory.taken import RoomTaken
from agentmem.model.loader import LoadedModel
from agentmem.store.grid import Grid
from agentmem.store.rows import EventKind
from agentmem.store.store import Store
from agentmem.store.timelinekeys import block_keys
from agentmem.types import BLOCK_TOKENS, AgentRef

FILE_BYTES = 4096
"""More than a block's file takes besides its positions, or a record besides what was said."""
SAID_BYTES = 16
"""Of a record, for a position: its id in base64, and about as much text as a token stands for."""

log = logging.getLogger(__name__)


class _Promise(NamedTuple):
    """nbytes: that may still be written. relied_on: keys of blocks that are there, and need not be."""

    nbytes: int
    relied_on: Collection[bytes] = ()


class DiskBudget:
    """limit: bytes. Owned by the executor thread, but for `reading`. Methods raise DISK_BUDGET_EXCEEDED.

    It is raised as `RoomTaken` if others make turns that may come to take the room.
    """

    def __init__(
        self,
        limit: int,
        store: Store,
        model: LoadedModel,
        agents: Mapping[AgentRef, Agent],
        busy: Callable[[], Collection[AgentRef]],
        drop: Callable[[Agent], None],
    ) -> None:
        """agents: those that RAM knows. busy: with requests that run or wait. drop: takes an agent's state from RAM."""
        self.limit = limit
        self._store, self._model = store, model
        self._agents, self._busy, self._drop = agents, busy, drop
        self._promised: dict[AgentRef, _Promise] = {}
        """To turns that are being made, or are in RAM only."""
        self._making: set[AgentRef] = set()
        self.reading: list[AgentRef] = []
        """Agents whose blocks other threads read."""
        self._sources: dict[AgentRef, Collection[AgentRef]] = {}
        """Agents whose state turns take, by who makes the turn."""

    def make_room(
        self, agent: Agent, ids: Sequence[int], more: int = 0, latent: int = 0, spliced: tuple[int, ...] = ()
    ) -> None:
        """For a turn of these ids, and `more` positions behind them, so many of which are latent.

        spliced: positions of each block of a splice, which comes last.

        The agent has it until its turn is `done`, and then until all of its turns are on disk.
        """
        needed, relied_on = self._needed(agent, np.asarray(ids, np.int32), more)
        needed += self._latent_bytes(agent, latent)
        needed += sum(self.bytes_of(count, count) for count in spliced)
        self._free(agent.ref, agent.id, needed, relied_on)
        self._promise(agent.ref, _Promise(needed, relied_on))

    def _promise(self, ref: AgentRef, promise: _Promise) -> None:
        self._promised[ref] = promise
        self._making.add(ref)

    def take_from(self, ref: AgentRef, sources: Collection[AgentRef]) -> None:
        """The agent's turn takes state of others: until it is `done`, these keep theirs on disk."""
        self._sources[ref] = sources

    def done(self, ref: AgentRef) -> None:
        """The agent's turn is committed, if only in RAM, or will never be."""
        self._making.discard(ref)
        self._sources.pop(ref, None)

    def make_room_to_restore(self, agent: Agent) -> None:
        """For blocks that were given up: they are put back once they have been computed again. Until it is `done`."""
        if lacking := self.lacking(agent, agent.tokens):
            ids = np.concatenate(list(lacking.values()))
            needed = self.bytes_of(len(ids), 0) + self._embeddings(int((ids < 0).sum()))
            self._free(agent.ref, agent.id, needed)
            self._promise(agent.ref, _Promise(needed))

    def make_room_for(self, ref: AgentRef, positions: int, said: int, latent: int, spliced: int = 0) -> None:
        """For blocks of so many positions, and a record of `said`, so many of which are latent.

        spliced: how many of the blocks are a splice's, and may have few of them.
        """
        agent = self._agents.get(ref)
        needed = self.bytes_of(positions, said) + self._embeddings(latent) + spliced * FILE_BYTES
        self._free(ref, agent.id if agent else "", needed)

    def trim(self) -> None:
        """Gives up what is over the budget: it may be smaller than when the store was filled."""
        self._free(AgentRef("", ""), "", 0)

    def _free(self, ref: AgentRef, agent_id: str, needed: int, relied_on: Collection[bytes] = ()) -> None:
        """agent_id: "" if the agent is yet to be made."""
        unsaved = {ref: agent.unsaved for ref, agent in self._agents.items() if agent.unsaved}
        self._promised = {one: made for one, made in self._promised.items() if one in self._making or one in unsaved}
        relied_on = {*relied_on, *(key for turns in unsaved.values() for one in turns for key in one.draft.taken)}
        relied_on.update(key for made in self._promised.values() for key in made.relied_on)
        promised = sum(made.nbytes for other, made in self._promised.items() if other != ref)
        try:
            given_up = self._store.quota.make_room(
                self.limit, needed, promised=promised, staying=self._staying, relied_on=relied_on
            )
        except AgentmemError as error:
            if error.reason is Reason.DISK_BUDGET_EXCEEDED:
                if self._making - {ref} and needed <= self.limit:  # they take what they may at the most
                    raise RoomTaken(error.reason, error.message, 0, **error.metadata) from None
                self._store.events.note(EventKind.DISK_REFUSED, agent_id, nbytes=needed, soon=True)
            if error.reason is not Reason.STORE_UNWRITABLE:
                raise
            log.warning("no state could be given up: the disk takes nothing")  # so what comes will be in RAM only
            return
        for one in given_up:
            if (agent := self._agents.get(one.agent)) is not None:
                self._drop(agent)

    def _staying(self) -> set[AgentRef]:
        """Agents whose state must stay on disk now."""
        return {
            *self._busy(),
            *self._making,
            *self.reading,
            *(source for sources in self._sources.values() for source in sources),
            *(ref for ref, agent in self._agents.items() if agent.unsaved),
        }

    def bytes_of(self, positions: int, said: int) -> int:
        """The most that blocks of so many positions take, with companions, and a record of `said` positions."""
        blocks = -(-positions // BLOCK_TOKENS) + 1  # at worst they begin and end inside one
        state = positions * (self._model.layout.full.bytes_per_token + 4)
        return state + self._companion_bytes() + blocks * FILE_BYTES + FILE_BYTES + said * SAID_BYTES

    def _latent_bytes(self, agent: Agent, more: int) -> int:
        """The most that the embeddings of a turn with so many latent positions take, in blocks and in its record."""
        start = agent.grid.start_of(agent.grid.place_of(agent.tokens))  # its last block is written again
        count = more + sum(len(one.record.latents) for one in agent.unsaved) + int((agent.ids[start:] < 0).sum())
        return self._embeddings(count)

    def _embeddings(self, count: int) -> int:
        """Bytes of so many embeddings, in a block and, in base64, in a record."""
        return count * embedding_bytes(self._model) * 5 // 2 if count else 0

    def _companion_bytes(self) -> int:
        """The most that the companions of a turn's end take."""
        layout, size = self._model.layout, 0
        if layout.window is not None:
            blocks = layout.window.window // BLOCK_TOKENS + 2
            size += blocks * (BLOCK_TOKENS * (layout.window.bytes_per_token + 4) + FILE_BYTES)
        if layout.recurrent is not None:
            size += layout.recurrent.nbytes + BLOCK_TOKENS * 4 + FILE_BYTES
        return size

    def _needed(self, agent: Agent, ids: np.ndarray, more: int) -> tuple[int, set[bytes]]:
        """Bytes that may be written until these ids are on disk, and keys of blocks that are there and need not be."""
        fresh = agent.state_id != self._model.state_id  # it has no turn, or all will be computed anew
        saved = 0 if fresh else agent.unsaved[0].record.start if agent.unsaved else agent.tokens
        grid = Grid() if fresh else agent.grid
        ahead, first = np.concatenate([agent.ids, ids]), grid.place_of(max(saved, grid.start))
        begin = grid.start_of(first)
        secret = self._store.namespace(agent.ref.namespace).secret
        whole = ahead[: begin + (len(ahead) - begin) // BLOCK_TOKENS * BLOCK_TOKENS]
        parent, state_id = agent.parent_of(first), self._model.state_id
        keys = block_keys(whole, begin, parent, secret, state_id, agent.latents)
        there = {key for key, size in self._store.blocks.sizes(keys).items() if size}
        end = len(ahead) + more
        positions = end - min(begin, saved) - len(there) * BLOCK_TOKENS
        if not fresh:
            positions += sum(map(len, self.lacking(agent, saved).values()))
        return self.bytes_of(positions, end - saved), there

    def lacking(self, agent: Agent, saved: int) -> dict[bytes, np.ndarray]:
        """The blocks before a position that were given up, and are not in RAM as the agent's state: keys, and ids."""
        if agent.state is not None:
            return {}
        before = [(use, start) for use, start in zip(agent.blocks, agent.starts, strict=False) if start < saved]
        sizes = self._store.blocks.sizes([use.key for use, _ in before])
        return {use.key: agent.ids[start : start + use.used] for use, start in before if not sizes.get(use.key)}

"""All agents of one state folder under one model: look up, restore, recompute, commit, forget."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from agentmem.errors import AgentmemError
from agentmem.kv import splicing
from agentmem.kv.pool import BlockPool
from agentmem.kv.state import AgentState
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.ahead import WriteAhead
from agentmem.memory.aside import Aside, Asides
from agentmem.memory.budget import RamBudget
from agentmem.memory.companions import Companions
from agentmem.memory.computing import computed
from agentmem.memory.disk import DiskBudget
from agentmem.memory.embeddings import embedding_bytes
from agentmem.memory.ending import hidden_at_end
from agentmem.memory.hot import HotBytes
from agentmem.memory.lookup import Lookup
from agentmem.memory.matching import matches, require_match
from agentmem.memory.news import News
from agentmem.memory.parts import Parts
from agentmem.memory.prefix import PrefixMatch
from agentmem.memory.readable import readable
from agentmem.memory.reader import ReaderThreads
from agentmem.memory.restoring import Restorer
from agentmem.memory.saving import TurnSaver
from agentmem.memory.still import still_held
from agentmem.memory.taken import RoomTaken
from agentmem.memory.turning import Turning
from agentmem.memory.unsaved import UnsavedTurns
from agentmem.memory.writer import WriterThread, until_done
from agentmem.model.loader import LoadedModel
from agentmem.store.records import TurnRecord
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS, AgentRef, Exactness, PrefixMiss, Share, TurnKind, Warning

NOT_DURABLE = Warning("NOT_DURABLE", "the disk takes nothing now: this turn is in RAM only")

LAG_S, LAG_BYTES = 2.0, 64 << 20

log = logging.getLogger(__name__)


class Memory:
    """Owned by the executor thread; what it says of bytes in RAM, and the counts of `unsaved`, any thread may ask."""

    def __init__(
        self,
        store: Store,
        model: LoadedModel,
        ram_budget: int,
        disk_budget: int,
        busy: Callable[[], Collection[AgentRef]] = tuple,
        lag_s: float = LAG_S,
        lag_bytes: int = LAG_BYTES,
    ) -> None:
        """ram_budget: bytes of RAM, as `RamBudget` counts them. disk_budget: those of all blocks and records.

        busy: agents with requests that run or wait.
        lag_s, lag_bytes: how old, and how large, what waits for the disk may be before the next turn waits too.
        """
        self._store, self._model = store, model
        self._agents: OrderedDict[AgentRef, Agent] = OrderedDict()  # least recently used first
        self._sources: dict[AgentRef, set[AgentRef]] = {}
        """Whose timelines the requests of agents take from."""
        self.pool = BlockPool()
        self._writer = WriterThread(lag_bytes)
        self._budget = RamBudget(
            ram_budget, self.pool, model.layout, store.events, self._writer, self._agents, embedding_bytes(model)
        )
        self._lookup = Lookup(store, self._agents, self._is_held)
        self.disk = DiskBudget(disk_budget, store, model, self._agents, busy, self._drop)
        self._news = News(store.events)
        self._readers = ReaderThreads()
        companions = Companions(store, self.pool, model, self._readers)
        self._ahead = WriteAhead(store, model, self._writer)
        self._saver = TurnSaver(store, model, companions, self._writer, self._budget)
        self.unsaved = UnsavedTurns(self._saver, self._writer, self._news, lag_s, model.layout.full.bytes_per_token)
        self._prefix = PrefixMatch(store, self.pool, model, companions, self._readers)
        self.turning = Turning(model)
        self._restorer = Restorer(store, self.pool, model, companions, self._readers, self.turning, self._news)
        self.parts = Parts(store, self.pool, model, self._readers, self.turning, self._restorer)
        self._asides = Asides(store, self.pool, model, self._ahead, self._budget, self._readers)
        self._hot: dict[AgentRef, AgentState] = {}
        self.hot_bytes: Mapping[AgentRef, int] = HotBytes(self._hot)

    @property
    def ram_budget(self) -> int:
        return self._budget.limit

    @property
    def held_bytes(self) -> int:
        """Bytes of RAM that the state and the embeddings of all agents take."""
        return self._budget.held

    def latent_bytes(self, ref: AgentRef) -> int:
        """Bytes of RAM that an agent's embeddings take, be it hot or warm."""
        agent = self._agents.get(ref)
        return 0 if agent is None else agent.latent_bytes

    @property
    def quarantined(self) -> int:
        """How many blocks were set aside since the start."""
        return self._restorer.quarantined + self._asides.quarantined

    def find(self, ref: AgentRef) -> Agent | None:
        """The agent as last committed, or None. DATA_LOSS if its records cannot be read."""
        return self._lookup.find(ref)

    def create(self, ref: AgentRef) -> Agent:
        """A new, empty agent; one that was made elsewhere meanwhile will do."""
        return self._lookup.create(ref)

    def record(self, agent_id: str, number: int) -> TurnRecord:
        """A turn as committed. DATA_LOSS if its record cannot be read."""
        with readable():
            return self._store.history(agent_id).record(number)

    def matches(self, agent: Agent) -> bool:
        """Whether the timeline was computed by the model being served."""
        return matches(agent, self._model)

    def require_match(self, agent: Agent, rebuild: bool) -> None:
        """MODEL_MISMATCH or TOKENIZER_MISMATCH if the timeline cannot be continued as it is, or rebuilt if asked."""
        require_match(agent, self._model, rebuild)

    def restore(self, agent: Agent, draft: TurnDraft) -> Iterator[object]:
        """Brings the agent's state into RAM, mending what cannot be read. Yields what it needs (`needs`)."""
        draft.exactness = Exactness.of_all(draft.exactness, agent.exactness)
        draft.usage.exactness = draft.exactness
        if agent.state is not None:
            draft.usage.reused_hot_tokens += agent.tokens
            return
        yield from self._restorer.restore(agent, draft)
        self._note_hot(agent)

    def hold(self, ref: AgentRef) -> None:
        """The agent is in the middle of a request, until that is `done`: RAM does not forget it."""
        self._budget.hold(ref)

    def take_from(self, ref: AgentRef, sources: Collection[AgentRef], placed: Collection[AgentRef]) -> None:
        """The agent's request takes from others' timelines until it is `done`: RAM does not forget these meanwhile.

        placed: those whose state is taken besides. What of it is on the disk stays there.
        """
        self._sources[ref] = set(sources)
        self.disk.take_from(ref, placed)

    def _is_held(self, ref: AgentRef) -> bool:
        return ref in self._budget or any(ref in sources for sources in self._sources.values())

    def make_room(self, agent: Agent, positions: int, latent: int | None = None) -> None:
        """Promises the agent RAM for `positions` in all, until its request is `done`.

        latent: how many of those that a turn adds to its timeline are latent; None if no turn is made.

        Raises RAM_BUDGET_EXCEEDED, as `RoomTaken` if others that run hold what it needs.
        """
        self._readers.collect()
        self.unsaved.collect()
        try:
            self._budget.make_room(agent, positions, latent, self.evict)
        except RoomTaken:
            raise
        except AgentmemError:
            if self._writer.idle:
                raise
            self.unsaved.flush()  # what waits for the disk takes RAM, and keeps agents in it
            self._budget.make_room(agent, positions, latent, self.evict)

    def promised(self, ref: AgentRef) -> int:
        """Bytes of RAM that the agent's request may come to hold, or does."""
        return self._budget.promised(ref)

    def active(self) -> set[str]:
        """Ids of the agents that are in the middle of a request."""
        return {agent.id for ref, agent in self._agents.items() if ref in self._budget}

    def replace_state(self, agent: Agent, state: AgentState) -> None:
        """The hot agent goes on with another state, of the same timeline and more."""
        if agent.rebuilt is None:  # or else its keys are another model's
            self._drop(agent)
            agent.state = state
            self._note_hot(agent)
        agent.state = state

    def done(self, ref: AgentRef) -> None:
        """The agent's request has ended: what RAM and disk had room for on its behalf is free, or taken."""
        self._budget.done(ref)
        self.disk.done(ref)
        self._sources.pop(ref, None)

    def hidden_at_end(self, agent: Agent) -> mx.array:
        """The last hidden state behind the hot agent's timeline, after the final norm: [width]."""
        return hidden_at_end(agent, self._model, self._restorer.from_pool)

    def take_over(self, agent: Agent, ids: Sequence[int], draft: TurnDraft) -> Iterator[object]:
        """Takes over what others of the namespace computed of `ids`, which are about to follow the timeline."""
        if len(ids) >= BLOCK_TOKENS and not agent.private:  # what is about to be on disk is worth a wait
            yield from self.unsaved.arrived_of_others(agent)
        ahead = np.concatenate([agent.ids, np.asarray(ids, np.int32)])
        yield from self._prefix.take_over(agent, ahead, draft)

    def rebuild(self, agent: Agent, draft: TurnDraft) -> Iterator[object]:
        """Recomputes the whole timeline under the served model; `commit` makes that a turn of its own."""
        state = AgentState(self._model.layout)
        yield from computed(self._model, state, agent.ids, agent.latents)
        state.mark()
        self._drop(agent)
        agent.state, tokens = state, agent.tokens
        agent.rebuilt = TurnDraft(TurnKind.REBUILD, request_id="", ids=agent.ids.tolist(), unclosed=agent.unclosed)
        agent.rebuilt.usage.recomputed_tokens = tokens
        draft.usage.recomputed_tokens += tokens
        draft.usage.misses.append(PrefixMiss(0, tokens, "REBUILD"))

    def write_ahead(self, agent: Agent, draft: TurnDraft, positions: int) -> None:
        """Hands the draft's full blocks to the disk, as far as RAM has room for copies besides `positions` of it."""
        self._ahead.hand_over(
            agent, draft, lambda n: self._writer.has_room(n) and n <= self._budget.spare(agent, positions)
        )

    def let_go(self, draft: TurnDraft) -> None:
        """Takes back what was written ahead of a draft, unless it was committed."""
        self._ahead.let_go(draft)

    def commit(self, agent: Agent, draft: TurnDraft, behind: bool = False) -> Iterator[object]:
        """Makes the draft the agent's next turn, durable if the disk takes it: `draft.durable` says so.

        behind: does not wait for that. Yields while it waits. The state must already hold the draft's ids. If anything
        else fails, RAM forgets the agent: the disk knows.
        """
        try:
            if agent.rebuilt is not None:
                self._saver.add(agent, agent.rebuilt)
                agent.rebuilt, agent.committing = None, True
            yield from self._ahead.finish(agent, draft, partial(self._budget.may_copy, agent))
            draft.durable = yield from self.unsaved.commit(agent, draft, behind)
        except BaseException:
            self.forget(agent.ref)
            raise
        if agent.stuck:
            log.warning("turn %d of agent %r is in RAM only: the disk takes nothing", agent.turn, agent.ref.name)
            draft.warnings.append(NOT_DURABLE)
        self._note_hot(agent)

    def set_aside(self, agent: Agent, draft: TurnDraft) -> Generator[Any, None, Aside | None]:
        """Takes a running turn out of RAM: its state, and what was promised to it. `bring_back` goes on with it.

        None, and nothing has changed, if the agent is pinned, or the disk does not take the turn, or one before it.
        The agent's state must hold its timeline and what was fed of draft.ids.
        """
        yield from until_done(agent.outstanding)
        self.unsaved.collect()
        aside = None if agent.unsaved or agent.pinned else (yield from self._asides.keep(agent, draft))
        if aside is not None:
            self._drop(agent)
            self._budget.set_aside(agent.ref, aside.nbytes)
        return aside

    def bring_back(self, agent: Agent, draft: TurnDraft, aside: Aside) -> Iterator[Any]:
        """Has the agent's state be what it was when it was set aside; there must be room for it.

        What is read counts in draft.usage, and what must be computed again; what the turn reused is not counted twice.
        """
        read = TurnDraft(draft.kind, "")
        try:
            yield from self.restore(agent, read)
            restored = len(read.usage.misses)
            yield from self._asides.give_back(agent, draft, aside, read)
            self._news.recomputed(agent.id, read.usage.misses[restored:])
        finally:
            draft.add_cost(read)

    def last_turn(self, ref: AgentRef) -> int | None:
        """The number of the agent's last turn, be it in RAM only; None if there is no such agent."""
        agent = self._agents.get(ref) or self._store.agent(ref.namespace, ref.name)
        return None if agent is None else agent.turn

    def settle(self, ref: AgentRef | None = None) -> None:
        """Saves what is in RAM only, of one agent or of all. Raises STORE_UNWRITABLE if the disk does not take it."""
        self.unsaved.settle(ref)

    def close(self) -> None:
        """Saves what it can, and says whose turns are lost."""
        self._readers.close()
        self.unsaved.close()
        self._writer.close()

    def rollback(self, agent: Agent) -> None:
        """Takes the state back to the last committed turn; what cannot be trimmed is restored from disk later.

        But for a splice that the disk does not have: nothing could compute that again.
        """
        if self._agents.get(agent.ref) is not agent:
            return
        agent.latents = {id_: agent.latents[id_] for id_ in agent.ids[agent.ids < 0].tolist()}
        if agent.rebuilt is not None or (agent.state is not None and not agent.state.trim(agent.tokens)):
            if agent.rebuilt is None and agent.state is not None and agent.has_unsaved_splice:
                self.pool.release(agent.state)
                splicing.go_back(agent.state.full, agent.tokens, agent.last_begin)
            else:
                self._drop(agent)
                agent.rebuilt = None
        self._note_hot(agent)

    def forget_gone(self, ref: AgentRef | None = None) -> None:
        """Drops what RAM holds of an agent, or of any, that the disk does not know any more."""
        for known in list(self._agents) if ref is None else [ref]:
            agent, row = self._agents.get(known), self._store.agent(known.namespace, known.name)
            if agent is not None and (row is None or row.id != agent.id):
                del self._agents[known]
                self._news.forget(known)
                self.unsaved.drop(agent)
                self._drop(agent)

    def forget(self, ref: AgentRef) -> None:
        """Drops what RAM holds of an agent, once the disk has what was on its way there."""
        self._news.forget(ref)
        if (agent := self._agents.pop(ref, None)) is not None:
            self.unsaved.forget(agent)
            self._drop(agent)

    def reload(self, ref: AgentRef) -> None:
        """Reads the agent's timeline anew after it changed on disk, and keeps in RAM what still holds of its state."""
        before = self._agents.pop(ref, None)
        try:
            agent = self.find(ref)
            if before is not None and agent is not None:
                agent.state = still_held(before, agent, self._restorer.from_pool)
        finally:
            if before is not None:
                self._drop(before)
        if agent is not None:
            self._note_hot(agent)

    def settings_changed(self, ref: AgentRef, row: AgentRow) -> None:
        if (agent := self._agents.get(ref)) is not None:
            agent.pinned, agent.private = row.pinned, row.share is Share.PRIVATE

    def exclusive_bytes(self, agent: Agent) -> int:
        """Bytes of RAM that evicting the agent would free."""
        state = self.pool.exclusive_bytes(agent.state) if agent.state is not None else 0
        return state if self._is_held(agent.ref) else state + agent.latent_bytes

    def evict(self, agent: Agent) -> int:
        """Frees what RAM holds of an agent, which is warm then, or was; the bytes that came free.

        Raises STORE_UNWRITABLE, as `settle` does.
        """
        self.settle(agent.ref)
        freed = self.exclusive_bytes(agent)
        self._drop(agent)
        if agent.latents and not self._is_held(agent.ref):  # they are on disk, and are read with it
            self._agents.pop(agent.ref, None)
        return freed

    def _drop(self, agent: Agent) -> None:
        if agent.state is not None:
            self.pool.release(agent.state)
            agent.state = None
        self._hot.pop(agent.ref, None)

    def _note_hot(self, agent: Agent) -> None:
        if agent.state is not None:
            agent.state.mark()
            self.pool.note(agent.state, agent.full_keys)
            self._hot[agent.ref] = agent.state

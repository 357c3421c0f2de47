"""All agents of one state folder under one model, and the life of a turn: restore, take over, compute, commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from agentmem.kv import splicing
from agentmem.kv.state import AgentState
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.ahead import WriteAhead
from agentmem.memory.aside import Aside, Asides
from agentmem.memory.computing import computed
from agentmem.memory.ending import hidden_at_end
from agentmem.memory.parts import Parts
from agentmem.memory.prefix import PrefixMatch
from agentmem.memory.readable import readable
from agentmem.memory.residents import LAG_BYTES, LAG_S, Residents
from agentmem.memory.restoring import Restorer
from agentmem.memory.still import still_held
from agentmem.memory.turning import Turning
from agentmem.memory.writer import until_done
from agentmem.model.loader import LoadedModel
from agentmem.store.records import TurnRecord
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS, AgentRef, Exactness, PrefixMiss, TurnKind, Warning

NOT_DURABLE = Warning("NOT_DURABLE", "the disk takes nothing now: this turn is in RAM only")

log = logging.getLogger(__name__)


class Memory(Residents):
    """Brings agents back, takes their turns on, and keeps them; as `Residents`, for threads."""

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
        """As `Residents`."""
        super().__init__(store, model, ram_budget, disk_budget, busy, lag_s, lag_bytes)
        readers, companions = self._readers, self._companions
        self._ahead = WriteAhead(store, model, self._writer)
        self._prefix = PrefixMatch(store, self.pool, model, companions, readers)
        self.turning = Turning(model)
        self._restorer = Restorer(store, self.pool, model, companions, readers, self.turning, self._news)
        self.parts = Parts(store, self.pool, model, readers, self.turning, self._restorer)
        self._asides = Asides(store, self.pool, model, self._ahead, self._budget, readers)

    @property
    def quarantined(self) -> int:
        """How many blocks were set aside since the start."""
        return self._restorer.quarantined + self._asides.quarantined

    def record(self, agent_id: str, number: int) -> TurnRecord:
        """A turn as committed. DATA_LOSS if its record cannot be read."""
        with readable():
            return self._store.history(agent_id).record(number)

    def restore(self, agent: Agent, draft: TurnDraft) -> Iterator[object]:
        """Brings the agent's state into RAM, mending what cannot be read. Yields what it needs (`needs`)."""
        draft.exactness = Exactness.of_all(draft.exactness, agent.exactness)
        draft.usage.exactness = draft.exactness
        if agent.state is not None:
            draft.usage.reused_hot_tokens += agent.tokens
            return
        yield from self._restorer.restore(agent, draft)
        self._note_hot(agent)

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

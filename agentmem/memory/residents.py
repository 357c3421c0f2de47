"""Which agents RAM knows and what of it is theirs: they are found, given room, held through requests, and let go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

from agentmem.errors import AgentmemError
from agentmem.kv.pool import BlockPool
from agentmem.kv.state import AgentState
from agentmem.memory.agent import Agent
from agentmem.memory.budget import RamBudget
from agentmem.memory.companions import Companions
from agentmem.memory.disk import DiskBudget
from agentmem.memory.embeddings import embedding_bytes
from agentmem.memory.hot import HotBytes
from agentmem.memory.lookup import Lookup
from agentmem.memory.matching import matches, require_match
from agentmem.memory.news import News
from agentmem.memory.reader import ReaderThreads
from agentmem.memory.saving import TurnSaver
from agentmem.memory.taken import RoomTaken
from agentmem.memory.unsaved import UnsavedTurns
from agentmem.memory.writer import WriterThread
from agentmem.model.loader import LoadedModel
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.types import AgentRef, Share

LAG_S, LAG_BYTES = 2.0, 64 << 20


class Residents:
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
        self._hot: dict[AgentRef, AgentState] = {}
        self.hot_bytes: Mapping[AgentRef, int] = HotBytes(self._hot)
        self.pool = BlockPool()
        self._writer, self._readers = WriterThread(lag_bytes), ReaderThreads()
        self._budget = RamBudget(
            ram_budget, self.pool, model.layout, store.events, self._writer, self._agents, embedding_bytes(model)
        )
        self._lookup = Lookup(store, self._agents, self._is_held)
        self.disk = DiskBudget(disk_budget, store, model, self._agents, busy, self._drop)
        self._news = News(store.events)
        self._companions = Companions(store, self.pool, model, self._readers)
        self._saver = TurnSaver(store, model, self._companions, self._writer, self._budget)
        self.unsaved = UnsavedTurns(self._saver, self._writer, self._news, lag_s, model.layout.full.bytes_per_token)

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

    def find(self, ref: AgentRef) -> Agent | None:
        """The agent as last committed, or None. DATA_LOSS if its records cannot be read."""
        return self._lookup.find(ref)

    def create(self, ref: AgentRef) -> Agent:
        """A new, empty agent; one that was made elsewhere meanwhile will do."""
        return self._lookup.create(ref)

    def matches(self, agent: Agent) -> bool:
        """Whether the timeline was computed by the model being served."""
        return matches(agent, self._model)

    def require_match(self, agent: Agent, rebuild: bool) -> None:
        """MODEL_MISMATCH or TOKENIZER_MISMATCH if the timeline cannot be continued as it is, or rebuilt if asked."""
        require_match(agent, self._model, rebuild)

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

    def done(self, ref: AgentRef) -> None:
        """The agent's request has ended: what RAM and disk had room for on its behalf is free, or taken."""
        self._budget.done(ref)
        self.disk.done(ref)
        self._sources.pop(ref, None)

    def last_turn(self, ref: AgentRef) -> int | None:
        """The number of the agent's last turn, be it in RAM only; None if there is no such agent."""
        agent = self._agents.get(ref) or self._store.agent(ref.namespace, ref.name)
        return None if agent is None else agent.turn

    def settle(self, ref: AgentRef | None = None) -> None:
        """Saves what is in RAM only, of one agent or of all. Raises STORE_UNWRITABLE if the disk does not take it."""
        self.unsaved.settle(ref)

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

    def settings_changed(self, ref: AgentRef, row: AgentRow) -> None:
        if (agent := self._agents.get(ref)) is not None:
            agent.pinned, agent.private = row.pinned, row.share is Share.PRIVATE

    def replace_state(self, agent: Agent, state: AgentState) -> None:
        """The hot agent goes on with another state, of the same timeline and more."""
        if agent.rebuilt is None:  # or else its keys are another model's
            self._drop(agent)
            agent.state = state
            self._note_hot(agent)
        agent.state = state

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

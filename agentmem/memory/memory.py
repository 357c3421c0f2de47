"""All agents of one state folder under one model: look up, restore, recompute, commit, forget."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.kv.pool import BlockPool
from agentmem.kv.state import AgentState
from agentmem.memory import blocks as block_cutter
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.budget import RamBudget
from agentmem.memory.prefix import PrefixMatch
from agentmem.memory.saving import TurnSaver
from agentmem.model.forward import prefill
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import BlockUnreadable, Unreadable
from agentmem.store.records import BlockUse, RecordUnreadable, TurnRecord
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS, AgentRef, PrefixMiss, Share, TurnKind, Warning

log = logging.getLogger(__name__)


class Memory:
    """Owned by the executor thread; `hot_bytes`, and the pool's counts, may be read from others."""

    def __init__(self, store: Store, model: LoadedModel, ram_budget: int) -> None:
        """ram_budget: bytes that the state of all hot agents may take."""
        self._store, self._model = store, model
        self._agents: OrderedDict[AgentRef, Agent] = OrderedDict()  # least recently used first
        self.pool = BlockPool()
        self._budget = RamBudget(ram_budget, self.pool, model.layout)
        self._saver = TurnSaver(store, model)
        self._prefix = PrefixMatch(store, self.pool, model)
        self.hot_bytes: dict[AgentRef, int] = {}
        self.quarantined = 0

    def find(self, ref: AgentRef) -> Agent | None:
        """The agent as last committed, or None. DATA_LOSS if its records cannot be read."""
        known = self._agents.get(ref)
        if known is None and (row := self._store.agent(ref.namespace, ref.name)) is not None:
            known = Agent(ref, row.id, row.turn, row.state_id, pinned=row.pinned, private=row.share is Share.PRIVATE)
            if row.turn:
                self._load(known)
            self._agents[ref] = known
        if known is not None:
            self._agents.move_to_end(ref)
        return known

    def create(self, ref: AgentRef) -> Agent:
        """A new, empty agent; one that was made elsewhere meanwhile will do."""
        try:
            self._store.create_agent(ref.namespace, ref.name)
        except AgentmemError as error:
            if error.reason is not Reason.AGENT_EXISTS:
                raise
        agent = self.find(ref)
        if agent is None:
            raise self.not_found(ref)
        return agent

    def record(self, agent_id: str, number: int) -> TurnRecord:
        """A turn as committed. DATA_LOSS if its record cannot be read."""
        try:
            return self._store.turn(agent_id, number)
        except RecordUnreadable as error:
            raise unreadable(error) from error

    def _load(self, agent: Agent) -> None:
        last = self.record(agent.id, agent.turn)
        try:
            agent.ids = self._store.ids(agent.id)
        except RecordUnreadable as error:
            raise unreadable(error) from error
        agent.blocks = self._store.timeline(agent.id)
        agent.unclosed, agent.tokenizer_id = last.open, last.tokenizer_id
        if sum(b.used for b in agent.blocks) != last.end or len(agent.ids) != last.end:
            raise AgentmemError(
                Reason.BLOCK_UNRECOVERABLE,
                "catalog and turn records disagree about this agent's length",
                turn=agent.turn,
            )

    def matches(self, agent: Agent) -> bool:
        """Whether the timeline was computed by the model being served."""
        return agent.tokens == 0 or agent.state_id == self._model.state_id

    def require_match(self, agent: Agent, rebuild: bool) -> None:
        """MODEL_MISMATCH or TOKENIZER_MISMATCH if the timeline cannot be continued as it is, or rebuilt if asked."""
        if self.matches(agent):
            return
        if not rebuild:
            raise AgentmemError(
                Reason.MODEL_MISMATCH,
                f"this agent's memory was computed by another model; serve that one, or ask with rebuild=true to "
                f"recompute its {agent.tokens} tokens with this one",
                tokens=agent.tokens,
                agent_state_id=agent.state_id,
                served_state_id=self._model.state_id,
            )
        if agent.tokenizer_id != self._model.tokenizer_id:
            raise AgentmemError(
                Reason.TOKENIZER_MISMATCH,
                "this agent's tokens were made by another tokenizer, so they mean nothing to this model; "
                "begin a new agent, or serve a model with the same tokenizer",
            )

    def restore(self, agent: Agent, draft: TurnDraft) -> Iterator[None]:
        """Brings the agent's state into RAM, mending what cannot be read. Yields between blocks and chunks."""
        draft.usage.exactness = draft.exactness
        if agent.state is not None:
            draft.usage.reused_hot_tokens += agent.tokens
            return
        state = AgentState(self._model.layout)
        for span in self.pool.find(agent.full_keys):
            state.hold(span)
        draft.usage.reused_hot_tokens += state.offset
        verified: list[dict[str, np.ndarray]] = []
        first = state.offset // BLOCK_TOKENS
        parent = agent.parent_of(first)
        for index, use in enumerate(agent.blocks[first:], first):
            start = index * BLOCK_TOKENS
            ids = agent.ids[start : start + use.used]
            try:
                block, read = self._store.read_block(agent.ref.namespace, use.key)
                verified.append(block_cutter.checked(block, parent, start, ids, self._model))
                draft.usage.bytes_read += read
                draft.usage.reused_warm_tokens += use.used
            except BlockUnreadable as fault:
                state.extend(verified)
                verified = []
                yield from self._recompute(agent, state, start, ids, parent, use, fault, draft)
            parent = use.key
            yield
        state.extend(verified)
        agent.state = state
        self._note_hot(agent)

    def make_room(self, agent: Agent, positions: int) -> None:
        """Sees to it that `positions` of this agent fit into RAM. Raises RAM_BUDGET_EXCEEDED."""
        self._budget.make_room(agent, positions, list(self._agents.values()), self.evict)

    def take_over(self, agent: Agent, ids: Sequence[int], draft: TurnDraft) -> Iterator[None]:
        """Takes over what others of the namespace computed of `ids`, which are about to follow the timeline."""
        ahead = np.concatenate([agent.ids, np.asarray(ids, np.int32)])
        yield from self._prefix.take_over(agent, ahead, draft)

    def _recompute(
        self,
        agent: Agent,
        state: AgentState,
        start: int,
        ids: np.ndarray,
        parent: bytes,
        use: BlockUse,
        fault: BlockUnreadable,
        draft: TurnDraft,
    ) -> Iterator[None]:
        """Computes one unreadable block again in its own context and puts it back on disk."""
        given_up = fault.reason is Unreadable.EVICTED
        self.quarantined += not given_up
        for _ in prefill(self._model, state, ids):
            yield
        block = block_cutter.cut(state, agent.ids[: start + len(ids)], start, use.key, parent, self._model)
        try:
            if not given_up:
                self._store.quarantine(use.key, fault.reason)
            draft.usage.bytes_written += self._store.replace_block(agent.ref.namespace, block)
        except AgentmemError as error:
            if error.reason is not Reason.STORE_UNWRITABLE:
                raise
            log.warning("a block that was computed again could not be put back: the disk takes nothing")
        draft.usage.recomputed_tokens += len(ids)
        draft.usage.misses.append(PrefixMiss(start, len(ids), f"BLOCK_{fault.reason}"))
        if given_up:
            return
        draft.warnings.append(
            Warning(
                f"BLOCK_{fault.reason}",
                f"positions {start} to {start + len(ids)} could not be read from disk and were computed again",
            )
        )

    def rebuild(self, agent: Agent, draft: TurnDraft) -> Iterator[None]:
        """Recomputes the whole timeline under the served model; `commit` makes that a turn of its own."""
        state = AgentState(self._model.layout)
        for _ in prefill(self._model, state, agent.ids):
            yield
        self._drop(agent)
        agent.state, tokens = state, agent.tokens
        agent.rebuilt = TurnDraft(TurnKind.REBUILD, request_id="", ids=agent.ids.tolist(), unclosed=agent.unclosed)
        agent.rebuilt.usage.recomputed_tokens = tokens
        draft.usage.recomputed_tokens += tokens
        draft.usage.misses.append(PrefixMiss(0, tokens, "REBUILD"))

    def commit(self, agent: Agent, draft: TurnDraft) -> None:
        """Makes the draft the agent's next turn, durable if the disk takes it: `draft.durable` says so.

        The state must already hold the draft's ids. If anything else fails, RAM forgets the agent: the disk knows.
        """
        try:
            if agent.rebuilt is not None:
                self._saver.add(agent, agent.rebuilt)
                agent.rebuilt = None
            self._saver.add(agent, draft)
            draft.durable = self._saver.save(agent)
        except BaseException:
            self.forget(agent.ref)
            raise
        if draft.durable:
            self._save_others()
        else:
            log.warning("turn %d of agent %r is in RAM only: the disk takes nothing", agent.turn, agent.ref.name)
            draft.warnings.append(Warning("NOT_DURABLE", "the disk takes nothing now: this turn is in RAM only"))
        self._note_hot(agent)

    def unsaved_record(self, namespace: str, request_id: str) -> TurnRecord | None:
        """The turn that a request made and that is in RAM only, whatever agent's."""
        waiting = [a for a in self._agents.values() if a.unsaved and a.ref.namespace == namespace]
        records = (one.record for agent in waiting for one in agent.unsaved)
        return next((record for record in records if record.request_id == request_id), None)

    def settle(self, ref: AgentRef) -> None:
        """Saves what is in RAM only. Raises STORE_UNWRITABLE if the disk does not take it."""
        agent = self._agents.get(ref)
        if agent is not None and not self._saver.save(agent):
            raise AgentmemError(
                Reason.STORE_UNWRITABLE,
                f"{len(agent.unsaved)} turns of this agent are in RAM only, and the disk takes nothing now: make room "
                "on it, and repeat",
            )

    def _save_others(self) -> None:
        """The disk takes something again: so it may take what waits in RAM. One agent's failure is its own."""
        for agent in [a for a in self._agents.values() if a.unsaved]:
            try:
                self._saver.save(agent)
            except Exception as error:
                log.error("a turn of agent %r cannot be saved: %s", agent.ref.name, type(error).__name__)

    def close(self) -> None:
        """Saves what it can, and says whose turns are lost."""
        self._save_others()
        for agent in self._agents.values():
            if agent.unsaved:
                log.error("%d turns of agent %r are lost: they could not be saved", len(agent.unsaved), agent.ref.name)

    def rollback(self, agent: Agent) -> None:
        """Takes the state back to the last committed turn; what cannot be trimmed is restored from disk later."""
        if self._agents.get(agent.ref) is not agent:
            return
        if agent.rebuilt is not None or (agent.state is not None and not agent.state.trim(agent.tokens)):
            self._drop(agent)
            agent.rebuilt = None
        self._note_hot(agent)

    def forget_gone(self, ref: AgentRef) -> None:
        """Drops what RAM holds of an agent that the disk does not know any more."""
        agent, row = self._agents.get(ref), self._store.agent(ref.namespace, ref.name)
        if agent is not None and (row is None or row.id != agent.id):
            self.forget(ref)

    def forget(self, ref: AgentRef) -> None:
        """Drops what RAM holds of an agent."""
        if (agent := self._agents.pop(ref, None)) is not None:
            self._drop(agent)

    def reload(self, ref: AgentRef) -> None:
        """Reads the agent's timeline anew after it changed on disk, and keeps in RAM what still holds of its state."""
        before = self._agents.pop(ref, None)
        agent = self.find(ref)
        if before is None or before.state is None or agent is None:
            return
        try:
            same = before.state_id == agent.state_id and np.array_equal(before.ids[: agent.tokens], agent.ids)
            if same and agent.tokens:
                state = AgentState(self._model.layout)
                for span in self.pool.find(agent.full_keys):
                    state.hold(span)
                if state.offset < agent.tokens:
                    state.extend([before.state.read(state.offset, agent.tokens)])
                agent.state = state
        finally:
            self._drop(before)
        self._note_hot(agent)

    def settings_changed(self, ref: AgentRef, row: AgentRow) -> None:
        if (agent := self._agents.get(ref)) is not None:
            agent.pinned, agent.private = row.pinned, row.share is Share.PRIVATE

    def exclusive_bytes(self, agent: Agent) -> int:
        """Bytes of RAM that evicting the agent would free."""
        return self.pool.exclusive_bytes(agent.state) if agent.state is not None else 0

    def evict(self, agent: Agent) -> int:
        """Makes a hot agent warm; the bytes of RAM that came free. Raises STORE_UNWRITABLE, as `settle` does."""
        self.settle(agent.ref)
        freed = self.exclusive_bytes(agent)
        self._drop(agent)
        return freed

    def _drop(self, agent: Agent) -> None:
        if agent.state is not None:
            self.pool.release(agent.state)
            agent.state = None
        self.hot_bytes.pop(agent.ref, None)

    def _note_hot(self, agent: Agent) -> None:
        if agent.state is not None:
            self.pool.note(agent.state, agent.full_keys)
            self.hot_bytes[agent.ref] = agent.state.nbytes

    @staticmethod
    def not_found(ref: AgentRef) -> AgentmemError:
        return AgentmemError(
            Reason.AGENT_NOT_FOUND, f"there is no agent of this name in namespace {ref.namespace}", agent=ref.name
        )


def unreadable(error: RecordUnreadable) -> AgentmemError:
    return AgentmemError(Reason.BLOCK_UNRECOVERABLE, f"a turn record of this agent cannot be read: {error}")

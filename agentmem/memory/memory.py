"""All agents of one state folder under one model: look up, restore, recompute, commit, forget."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.kv.state import AgentState
from agentmem.memory import blocks as block_cutter
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.model.forward import prefill
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import Block, BlockUnreadable
from agentmem.store.records import BlockUse, RecordUnreadable, TurnRecord
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS, AgentRef, PrefixMiss, TurnKind, Warning


class Memory:
    """Owned by the executor thread; `hot_bytes` alone may be read from others."""

    def __init__(self, store: Store, model: LoadedModel) -> None:
        self._store, self._model = store, model
        self._agents: dict[AgentRef, Agent] = {}
        self.hot_bytes: dict[AgentRef, int] = {}
        self.quarantined = 0

    def find(self, ref: AgentRef) -> Agent | None:
        """The agent as last committed, or None. DATA_LOSS if its records cannot be read."""
        known = self._agents.get(ref)
        if known is None and (row := self._store.agent(ref.namespace, ref.name)) is not None:
            known = Agent(ref, row.id, row.turn, row.state_id)
            if row.turn:
                self._load(known)
            self._agents[ref] = known
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
        verified: list[dict[str, np.ndarray]] = []
        parent = b""
        for index, use in enumerate(agent.blocks):
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
        self._store.quarantine(use.key, fault.reason)
        self.quarantined += 1
        for _ in prefill(self._model, state, ids):
            yield
        for block in self._cut(agent, state, agent.ids[: start + len(ids)], start, parent):
            draft.usage.bytes_written += self._store.replace_block(agent.ref.namespace, block)
        draft.usage.recomputed_tokens += len(ids)
        draft.usage.misses.append(PrefixMiss(start, len(ids), f"BLOCK_{fault.reason}"))
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
        agent.state, tokens = state, agent.tokens
        agent.rebuilt = TurnDraft(TurnKind.REBUILD, request_id="", ids=agent.ids.tolist(), unclosed=agent.unclosed)
        agent.rebuilt.usage.recomputed_tokens = tokens
        draft.usage.recomputed_tokens += tokens
        draft.usage.misses.append(PrefixMiss(0, tokens, "REBUILD"))

    def commit(self, agent: Agent, draft: TurnDraft) -> None:
        """Makes the draft durable as the agent's next turn. The state must already hold the draft's ids.

        If it fails, RAM forgets the agent: a commit that reports an error may still have happened, and the disk knows.
        """
        try:
            if agent.rebuilt is not None:
                self._commit(agent, agent.rebuilt)
                agent.rebuilt = None
            self._commit(agent, draft)
        except BaseException:
            self.forget(agent.ref)
            raise

    def _commit(self, agent: Agent, draft: TurnDraft) -> None:
        assert agent.state is not None
        fresh = draft.kind is TurnKind.REBUILD
        start = 0 if fresh else agent.tokens
        base = start // BLOCK_TOKENS
        new = np.asarray(draft.ids, np.int32)
        ids = new if fresh else np.concatenate([agent.ids, new])
        parent = agent.blocks[base - 1].key if base else b""
        cut = list(self._cut(agent, agent.state, ids, base * BLOCK_TOKENS, parent))
        uses = tuple(BlockUse(b.key, len(b.ids)) for b in cut)
        record = self._record(agent, draft, start, base, uses, new)
        draft.usage.bytes_written += self._store.commit(record, cut)
        agent.turn, agent.ids, agent.blocks = record.number, ids, [*agent.blocks[:base], *uses]
        agent.state_id, agent.tokenizer_id = self._model.state_id, self._model.tokenizer_id
        agent.unclosed = draft.unclosed
        self._note_hot(agent)

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

    def _cut(self, agent: Agent, state: AgentState, ids: np.ndarray, first: int, parent: bytes) -> Iterator[Block]:
        secret = self._store.namespace(agent.ref.namespace).secret
        return block_cutter.cut(state, ids, first, parent, secret, self._model)

    def rollback(self, agent: Agent) -> None:
        """Takes the state back to the last committed turn; what cannot be trimmed is restored from disk later."""
        if self._agents.get(agent.ref) is not agent:
            return
        if agent.rebuilt is not None or (agent.state is not None and not agent.state.trim(agent.tokens)):
            agent.state = agent.rebuilt = None
        self._note_hot(agent)

    def forget(self, ref: AgentRef) -> None:
        """Drops what RAM holds of an agent."""
        self._agents.pop(ref, None)
        self.hot_bytes.pop(ref, None)

    def _note_hot(self, agent: Agent) -> None:
        if agent.state is None:
            self.hot_bytes.pop(agent.ref, None)
        else:
            self.hot_bytes[agent.ref] = agent.state.nbytes

    @staticmethod
    def not_found(ref: AgentRef) -> AgentmemError:
        return AgentmemError(
            Reason.AGENT_NOT_FOUND, f"there is no agent of this name in namespace {ref.namespace}", agent=ref.name
        )


def unreadable(error: RecordUnreadable) -> AgentmemError:
    return AgentmemError(Reason.BLOCK_UNRECOVERABLE, f"a turn record of this agent cannot be read: {error}")

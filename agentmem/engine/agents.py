"""What can be done with agents besides feeding and looking at them: branch them, keep them, let go of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from agentmem.engine.context import Context
from agentmem.engine.executor import Call
from agentmem.engine.looking import AgentViews
from agentmem.engine.room import with_room
from agentmem.engine.scheduler import Scheduler
from agentmem.engine.status import AgentView
from agentmem.engine.views import Evicted, Prefetched
from agentmem.errors import AgentmemError, Reason, agent_not_found, request_id_reused
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.readable import readable
from agentmem.store.commit import check_turn
from agentmem.store.rows import EVICT, UNCHANGED, AgentRow, RequestRow
from agentmem.types import BLOCK_TOKENS, AgentRef, Residency, Share, TurnKind

T = TypeVar("T")
Steps = Generator[Any, None, T]
"""Of what a call does; others go on between them."""


class AgentOperations(AgentViews):
    """Methods block and may be called from any thread; what changes an agent waits behind the requests it has."""

    def __init__(self, context: Context, scheduler: Scheduler) -> None:
        super().__init__(context)
        self._scheduler = scheduler

    # Make, branch, forget

    def create_agent(
        self,
        ref: AgentRef,
        request_id: str = "",
        *,
        share: Share | None = None,
        ttl_s: float | None = None,
        pinned: bool = False,
    ) -> AgentView:
        """A new, empty agent. ttl_s: seconds until it expires; None: never."""
        expires = time.time() + ttl_s if ttl_s else None
        row = self._context.store.create_agent(
            ref.namespace, ref.name, request_id, share=share or Share.NAMESPACE, pinned=pinned, expires=expires
        )
        return self._view(row)

    def fork_agent(
        self,
        ref: AgentRef,
        new_name: str,
        at_turn: int | None = None,
        request_id: str = "",
        expect_turn: int | None = None,
    ) -> tuple[AgentView, int]:
        """A new agent that begins where a turn of this one ended, and the tokens that it must compute again."""
        store, memory = self._context.store, self._context.memory

        def fork() -> Steps[AgentRow]:
            self._check_unused(ref, request_id)
            yield from memory.unsaved.arrived(ref)
            with readable():
                memory.settle(ref)
                self._make_room_for_branch(ref, request_id)
                return store.branches.fork(ref.namespace, ref.name, new_name, at_turn, request_id, expect_turn)

        return self._branched(self._in_order(ref, fork))

    def rewind_agent(
        self, ref: AgentRef, to_turn: int, request_id: str = "", expect_turn: int | None = None
    ) -> tuple[AgentView, int]:
        """Sets the agent back to the end of a turn; 0 empties it. Also the tokens that it must compute again."""
        store, memory = self._context.store, self._context.memory

        def rewind() -> Steps[AgentRow]:
            self._check_unused(ref, request_id)
            yield from memory.unsaved.arrived(ref)
            with readable():
                memory.settle(ref)
                self._make_room_for_branch(ref, request_id)
                row = store.branches.rewind(ref.namespace, ref.name, to_turn, request_id, expect_turn)
                memory.reload(ref)
                return row

        return self._branched(self._in_order(ref, rewind))

    def _make_room_for_branch(self, ref: AgentRef, request_id: str) -> None:
        """A branch writes a record, with all ids at the most, and one block at the most; a repeat writes nothing."""
        store = self._context.store
        row = store.agent(ref.namespace, ref.name)
        if row is not None and not store.find_request(ref.namespace, request_id):
            agent = self._context.memory.find(ref)
            latent = 0 if agent is None else int((agent.ids < 0).sum())
            self._context.memory.disk.make_room_for(ref, min(row.tokens, BLOCK_TOKENS), row.tokens, latent)

    def _branched(self, row: AgentRow) -> tuple[AgentView, int]:
        view = self._view(row)
        return view, row.tokens if view.residency is Residency.COLD else 0

    def delete_agent(
        self, ref: AgentRef, request_id: str = "", expect_turn: int | None = None, dry_run: bool = False
    ) -> int:
        """Forgets the agent. Returns the bytes freed on disk."""
        store, memory = self._context.store, self._context.memory

        def delete() -> Steps[int]:
            yield from memory.unsaved.flushed()
            memory.unsaved.flush()  # no file of the agent may come after it is gone
            self._check_turn(ref, request_id, expect_turn)
            try:
                return store.pruning.delete(ref.namespace, ref.name, request_id, dry_run=dry_run)
            finally:
                memory.forget_gone(ref)

        return self._in_order(ref, delete)

    # Keep, let go

    def update_agent(
        self,
        ref: AgentRef,
        request_id: str = "",
        expect_turn: int | None = None,
        *,
        pinned: bool | None = None,
        ttl_s: float | None = None,
        share: Share | None = None,
    ) -> AgentView:
        """What is None stays. ttl_s: seconds from now until the agent expires; 0: never."""
        expires = UNCHANGED if ttl_s is None else time.time() + ttl_s if ttl_s else None
        store, memory = self._context.store, self._context.memory

        def update() -> AgentRow:
            self._check_turn(ref, request_id, expect_turn)
            row = store.set_agent(ref.namespace, ref.name, request_id, pinned=pinned, expires=expires, share=share)
            memory.settings_changed(ref, row)
            return row

        return self._view(self._briefly(ref, update))

    def evict_agent(
        self,
        ref: AgentRef,
        to: Residency = Residency.WARM,
        dry_run: bool = False,
        request_id: str = "",
        expect_turn: int | None = None,
    ) -> Evicted:
        """Frees the agent's RAM, and to COLD also the disk blocks that it alone uses; its record stays."""
        store, memory = self._context.store, self._context.memory

        def evict() -> Steps[Evicted]:
            yield from memory.unsaved.flushed() if to is Residency.COLD else memory.unsaved.arrived(ref)
            self._check_turn(ref, request_id, expect_turn)
            agent = memory.find(ref)
            if agent is None:
                raise agent_not_found(ref.namespace, ref.name)
            if not dry_run and (made := store.repeated(ref.namespace, request_id, EVICT, ref.name)):
                return Evicted(*(size for _, size in made.freed))
            if to is Residency.COLD:
                memory.unsaved.flush()  # turns of others on their way to the disk may use blocks that go
            memory.settle(ref)
            ram = memory.exclusive_bytes(agent) if dry_run else memory.evict(agent)
            disk = store.pruning.blocks(agent.id, dry_run=dry_run) if to is Residency.COLD else 0
            if not dry_run:
                self._remember(ref, request_id, RequestRow(EVICT, ref.name, agent.turn, ((0, ram), (0, disk))))
            return Evicted(ram, disk)

        return self._in_order(ref, evict)

    def prefetch_agent(self, ref: AgentRef) -> Prefetched:
        """Brings the agent's state into RAM before it is needed."""
        memory = self._context.memory

        def prepare() -> Agent:
            agent = memory.find(ref)
            if agent is None:
                raise agent_not_found(ref.namespace, ref.name)
            memory.require_match(agent, rebuild=False)
            try:
                memory.make_room(agent, agent.tokens)
                memory.disk.make_room_to_restore(agent)
            except AgentmemError:
                memory.done(ref)
                raise
            return agent

        def prefetch() -> Steps[None]:
            agent = yield from with_room(prepare)
            try:
                yield from memory.restore(agent, draft)
            finally:
                memory.done(ref)

        draft = TurnDraft(TurnKind.APPEND, request_id="")
        self._in_order(ref, prefetch)
        u = draft.usage
        return Prefetched(u.reused_hot_tokens, u.reused_warm_tokens, u.recomputed_tokens, u.bytes_read)

    def _check_turn(self, ref: AgentRef, request_id: str, expect_turn: int | None) -> None:
        """Raises TURN_MISMATCH if the agent's last turn, be it in RAM only, is another; a repeat need not expect it."""
        self._check_unused(ref, request_id)
        if expect_turn is None or self._context.store.find_request(ref.namespace, request_id):
            return
        last = self._context.memory.last_turn(ref)
        if last is not None:
            check_turn(expect_turn, last)

    def _check_unused(self, ref: AgentRef, request_id: str) -> None:
        """Raises REQUEST_ID_REUSED if a turn has it that is on its way to the disk; the store knows the others."""
        if request_id and self._context.memory.unsaved.find(ref.namespace, request_id):
            raise request_id_reused()

    def _remember(self, ref: AgentRef, request_id: str, made: RequestRow) -> None:
        try:
            self._context.store.remember(ref.namespace, request_id, made)
        except AgentmemError as error:  # a full disk need not keep anyone from freeing RAM; a repeat does it again
            if error.reason is not Reason.STORE_UNWRITABLE:
                raise

    def _in_order(self, ref: AgentRef, work: Callable[[], Steps[T]]) -> T:
        """Runs on the executor thread, behind the agent's requests."""
        call = Call(ref, work)
        self._scheduler.add(call)
        return call.future.result()

    def _briefly(self, ref: AgentRef, work: Callable[[], T]) -> T:
        """The same for what is done in one step."""

        def steps() -> Steps[T]:
            yield from ()
            return work()

        return self._in_order(ref, steps)

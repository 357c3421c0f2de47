"""What can be done with agents besides feeding them: look at them, branch them, keep them, let go of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from agentmem.engine.context import Context
from agentmem.engine.executor import Call
from agentmem.engine.room import with_room
from agentmem.engine.scheduler import Scheduler
from agentmem.engine.status import AgentView, BlockView
from agentmem.engine.views import Diff, Evicted, Prefetched, TurnView
from agentmem.errors import AgentmemError, Reason, agent_not_found, request_id_reused
from agentmem.memory.agent import TurnDraft
from agentmem.memory.readable import readable
from agentmem.store.commit import check_turn
from agentmem.store.grid import SpliceRun, is_spliced, starts
from agentmem.store.history import History
from agentmem.store.latents import kind_of
from agentmem.store.records import BlockUse
from agentmem.store.rows import EVICT, UNCHANGED, AgentRow, RequestRow, Standing
from agentmem.types import BLOCK_TOKENS, AgentRef, BlockKind, Exactness, Residency, Share, TurnKind

T = TypeVar("T")
Steps = Generator[Any, None, T]
"""Of what a call does; others go on between them."""


class AgentOperations:
    """Methods block and may be called from any thread; what changes an agent waits behind the requests it has."""

    def __init__(self, context: Context, scheduler: Scheduler) -> None:
        self._context, self._scheduler = context, scheduler

    # Look

    def get_agent(self, ref: AgentRef) -> AgentView:
        """The agent with its blocks, and what other layers than full attention need to go on from its end."""
        store = self._context.store
        row = self._row(ref)
        history = store.history(row.id)
        held = list(self._blocks(history, row))
        held += [(use.kind, use.place * BLOCK_TOKENS, use) for use in history.companions()]
        sizes = store.blocks.sizes([use.key for _, _, use in held])
        blocks = tuple(
            BlockView(use.key.hex(), kind.value, start, use.used, sizes.get(use.key, 0)) for kind, start, use in held
        )
        return replace(self._view(row), blocks=blocks)

    @staticmethod
    def _blocks(history: History, row: AgentRow) -> Iterator[tuple[BlockKind, int, BlockUse]]:
        """Those of an agent's timeline, each with its kind and first position."""
        ids = np.zeros(row.tokens, np.int32)
        splices: tuple[SpliceRun, ...] = ()
        if row.exactness is not Exactness.EXACT:
            with readable():
                ids, splices = history.ids(), history.record(row.turn).splices
        timeline = history.timeline()
        for place, (start, use) in enumerate(zip(starts(use.used for use in timeline), timeline, strict=False)):
            spliced = is_spliced(place, splices)
            yield BlockKind.SPLICE if spliced else kind_of(ids[start : start + use.used]), start, use

    def list_agents(self, namespace: str, after: str = "", limit: int = 100, hot_only: bool = False) -> list[AgentView]:
        """Up to `limit` agents whose names come behind `after`, by name."""
        store, hot = self._context.store, self._context.memory.hot_bytes
        if not hot_only:
            return self._views(store.agents(namespace, after, limit))
        names = sorted(r.name for r in list(hot) if r.namespace == namespace and r.name.encode() > after.encode())
        rows = (store.agent(namespace, name) for name in names[:limit])
        return self._views([row for row in rows if row is not None])

    def list_turns(self, ref: AgentRef, after: int = 0, limit: int = 100) -> list[TurnView]:
        """Up to `limit` turns behind number `after`, oldest first."""
        with readable():
            records = self._context.store.history(self._row(ref).id).page(after, limit)
        return [
            TurnView(
                r.number, r.kind, r.start, r.end, r.created, r.finish_reason, r.exactness, r.request_id, r.messages
            )
            for r in records
        ]

    def diff_agents(self, a: AgentRef, b: AgentRef) -> Diff:
        """Where two timelines part."""
        store = self._context.store
        rows = [self._row(ref) for ref in (a, b)]
        with readable():
            first, second = (store.history(row.id).ids(row.turn) for row in rows)
            n = min(len(first), len(second))
            differ = np.nonzero(first[:n] != second[:n])[0]
            spliced_a, spliced_b = (self._spliced(row) for row in rows)
            alone = {start for start, _ in spliced_a ^ spliced_b}  # the same ids, but other state
            position = min(alone | {int(differ[0]) if len(differ) else n})
            turns = [store.history(row.id).turn_at(position) if position < row.tokens else 0 for row in rows]
        return Diff(position, turns[0], turns[1], len(first), len(second))

    def _spliced(self, row: AgentRow) -> set[tuple[int, bytes]]:
        """The blocks of splices in an agent's timeline: first positions and keys."""
        if not row.turn or row.exactness is Exactness.EXACT:
            return set()
        held = self._blocks(self._context.store.history(row.id), row)
        return {(start, use.key) for kind, start, use in held if kind is BlockKind.SPLICE}

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

        def prefetch() -> Steps[None]:
            agent = memory.find(ref)
            if agent is None:
                raise agent_not_found(ref.namespace, ref.name)
            memory.require_match(agent, rebuild=False)
            try:
                yield from with_room(lambda: memory.make_room(agent, agent.tokens))
                memory.disk.make_room_to_restore(agent)
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

    def _row(self, ref: AgentRef) -> AgentRow:
        row = self._context.store.agent(ref.namespace, ref.name)
        if row is None:
            raise agent_not_found(ref.namespace, ref.name)
        return row

    def _matches(self, row: AgentRow) -> bool:
        return row.tokens == 0 or row.state_id == self._context.model.state_id

    def _view(self, row: AgentRow) -> AgentView:
        return self._views([row])[0]

    def _views(self, rows: Sequence[AgentRow]) -> list[AgentView]:
        standings = self._context.store.standings([row.id for row in rows])
        return [self._seen(row, standings[row.id]) for row in rows]

    def _seen(self, row: AgentRow, standing: Standing) -> AgentView:
        ref = AgentRef(row.namespace, row.name)
        ram = self._context.memory.hot_bytes.get(ref, 0)
        matches = self._matches(row)
        warm = matches and not standing.lacks_blocks
        return AgentView(
            ref=ref,
            id=row.id,
            turn=row.turn,
            tokens=row.tokens,
            residency=Residency.HOT if ram else Residency.WARM if warm else Residency.COLD,
            model_matches=matches,
            state_id=row.state_id,
            created=row.created,
            last_used=row.last_used,
            disk_bytes=standing.disk_bytes,
            ram_bytes=ram,
            exactness=row.exactness,
            pinned=row.pinned,
            expires=row.expires,
            share=row.share,
            unsaved_turns=self._context.memory.unsaved.of(ref),
        )

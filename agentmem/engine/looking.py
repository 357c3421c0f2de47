"""Looking at agents: who there is, of what blocks and turns, and where two timelines part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from agentmem.engine.context import Context
from agentmem.engine.status import AgentView, BlockView
from agentmem.engine.views import Diff, TurnView
from agentmem.errors import agent_not_found
from agentmem.memory.readable import readable
from agentmem.store.grid import SpliceRun, is_spliced, starts
from agentmem.store.history import History
from agentmem.store.latents import kind_of
from agentmem.store.records import BlockUse
from agentmem.store.rows import AgentRow, Standing
from agentmem.types import BLOCK_TOKENS, AgentRef, BlockKind, Exactness, Residency


class AgentViews:
    """Methods block and may be called from any thread; nothing changes."""

    def __init__(self, context: Context) -> None:
        self._context = context

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
        memory = self._context.memory
        hot = memory.hot_bytes.get(ref, 0)
        matches = self._matches(row)
        warm = matches and not standing.lacks_blocks
        return AgentView(
            ref=ref,
            id=row.id,
            turn=row.turn,
            tokens=row.tokens,
            residency=Residency.HOT if hot else Residency.WARM if warm else Residency.COLD,
            model_matches=matches,
            state_id=row.state_id,
            created=row.created,
            last_used=row.last_used,
            disk_bytes=standing.disk_bytes,
            ram_bytes=hot + memory.latent_bytes(ref),
            exactness=row.exactness,
            pinned=row.pinned,
            expires=row.expires,
            share=row.share,
            unsaved_turns=memory.unsaved.of(ref),
        )

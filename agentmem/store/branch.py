"""Fork and rewind: turns that begin where an earlier one ended, without copying what it holds.

One block may have to be written: where the earlier turn ends inside a block, the block of its positions up to there,
so that nothing said later lives on in a fork, or in the last timeline of an agent that was set back.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from agentmem.store import commit as rules
from agentmem.store.blockfile import Block, BlockUnreadable
from agentmem.store.catalog import agents, requests, turns
from agentmem.store.catalog import blocks as block_rows
from agentmem.store.core import Core
from agentmem.store.grid import SpliceRun, starts
from agentmem.store.history import History
from agentmem.store.latents import Latents, embeddings_of
from agentmem.store.records import BlockUse, CompanionUse, TurnRecord
from agentmem.store.rows import AgentRow, BlockRow
from agentmem.store.timelinekeys import TimelineKeys
from agentmem.store.writer import TurnWriter
from agentmem.types import BlockKind, Exactness, Timings, TurnKind, TurnMessage, Usage

_Use = TypeVar("_Use", bound=BlockUse)


@dataclass(frozen=True, eq=False)
class TurnEnd:
    """All that holds at the end of a turn.

    blocks: those of `uses` and `companions` that may not be there yet. to_compute: those of which there is no file.
    """

    uses: tuple[BlockUse, ...] = ()
    companions: tuple[CompanionUse, ...] = ()
    blocks: tuple[Block, ...] = ()
    to_compute: dict[bytes, BlockRow] = field(default_factory=dict)
    ids: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    latents: Latents = field(default_factory=dict)
    messages: tuple[TurnMessage, ...] = ()
    state_id: str = ""
    tokenizer_id: str = ""
    open: bool = False
    exactness: Exactness = Exactness.EXACT
    splices: tuple[SpliceRun, ...] = ()

    def record(self, kind: TurnKind, agent: AgentRow, request_id: str, start: int = 0, base: int = 0) -> TurnRecord:
        """The agent's next turn that ends so. start, base: positions and blocks it has in common with the last one."""
        return TurnRecord(
            agent_id=agent.id,
            namespace=agent.namespace,
            agent_name=agent.name,
            number=agent.turn + 1,
            kind=kind,
            start=start,
            end=len(self.ids),
            state_id=self.state_id,
            tokenizer_id=self.tokenizer_id,
            base_blocks=base,
            blocks=self.uses[base:],
            ids=self.ids[start:],
            messages=tuple(message for message in self.messages if message.end > start) if start else self.messages,
            open=self.open,
            finish_reason=None,
            stop_sequence="",
            exactness=self.exactness,
            request_id=request_id,
            created=time.time(),
            usage=Usage(exactness=self.exactness),
            timings=Timings(),
            seed=0,
            warnings=(),
            companions=self.companions,
            embeddings=embeddings_of(self.ids[start:], self.latents),
            splices=self.splices,
        )


class Branches:
    """A part of `Store`; raises as it does.

    Methods raise TURN_NOT_FOUND; RecordUnreadable or BlockUnreadable if what the turn needs cannot be read.
    """

    def __init__(self, core: Core, writer: TurnWriter) -> None:
        self._core = core
        self._writer = writer

    def fork(
        self,
        namespace: str,
        source: str,
        new_name: str,
        at_turn: int | None = None,
        request_id: str = "",
        expect_turn: int | None = None,
    ) -> AgentRow:
        """Makes an agent that begins at the end of the source's turn (None: the last one); no block is copied.

        It holds all it needs: it outlives the source. It is as private as the source, and neither pinned nor expiring.
        A repeat of a non-empty request_id returns the agent it made. expect_turn: what the source's last turn must be.
        Raises also AGENT_NOT_FOUND, AGENT_EXISTS, TURN_MISMATCH, REQUEST_ID_REUSED.
        """
        catalog = self._core.catalog
        with self._core.change():
            if catalog.read(requests.repeated, namespace, request_id, TurnKind.FORK.value, new_name):
                return catalog.read(agents.get, namespace, new_name)
            agent = catalog.read(agents.get, namespace, source)
            rules.check_turn(expect_turn, agent.turn)
            catalog.read(agents.check_new, namespace, new_name, request_id)
            end = self.end_of(self._core.history(agent), agent.turn if at_turn is None else at_turn)
            new = replace(AgentRow.new(namespace, new_name), share=agent.share)
            record = end.record(TurnKind.FORK, new, request_id)
            return self._writer.add(
                record, end.blocks, partial(turns.begin, agent=new, to_compute=end.to_compute), new
            )[0]

    def rewind(
        self, namespace: str, name: str, to_turn: int, request_id: str = "", expect_turn: int | None = None
    ) -> AgentRow:
        """Adds a turn after which the timeline is what it was at the end of turn `to_turn` (0: empty).

        The turns between stay listed, and can be forked from and rewound to, until `Pruning.history`.
        Raises as `fork` does.
        """
        catalog = self._core.catalog
        with self._core.change():
            agent = catalog.read(agents.get, namespace, name)
            if catalog.read(requests.repeated, namespace, request_id, TurnKind.REWIND.value, name):
                return agent
            rules.check_turn(expect_turn, agent.turn)
            history = self._core.history(agent)
            old, new = self.end_of(history, agent.turn), self.end_of(history, to_turn)
            start = _common_positions(old, new)
            record = new.record(TurnKind.REWIND, agent, request_id, start, _common_blocks(old, new, start))
            return self._writer.add(record, new.blocks, partial(turns.go_on, to_compute=new.to_compute))[0]

    def end_of(self, history: History, number: int) -> TurnEnd:
        """The end of a turn, no block used in part. Turn 0 is the empty timeline."""
        if number == 0:
            return TurnEnd()
        record = history.record(number)
        uses, companions, ids = history.timeline(number), history.companions(number), history.ids(number)
        latents = history.latents(number)
        secret = self._core.secret(history.agent.namespace)
        begins = starts(use.used for use in uses)
        parts = _Parts(TimelineKeys(secret, record.state_id, ids, [use.key for use in uses], begins, latents))
        rows = self._core.catalog.read(block_rows.get, {use.key for use in (*uses, *companions)})
        return TurnEnd(
            uses=tuple(self._whole(use, rows, parts, None, place) for place, use in enumerate(uses)),
            companions=tuple(self._whole(use, rows, parts, use.kind, use.place) for use in companions),
            blocks=tuple(parts.blocks),
            to_compute=parts.to_compute,
            ids=ids,
            latents=latents,
            messages=history.messages(number),
            state_id=record.state_id,
            tokenizer_id=record.tokenizer_id,
            open=record.open,
            exactness=record.exactness,
            splices=record.splices,
        )

    def _whole(self, use: _Use, rows: dict[bytes, BlockRow], parts: _Parts, kind: BlockKind | None, place: int) -> _Use:
        """The use of a block of which all positions are used: for one that is used in part, of that part."""
        if use.used == rows[use.key].tokens:
            return use
        try:
            secret = parts.timeline.secret
            block = self._core.blocks.read(use.key, rows[use.key], secret).prefix(secret, use.used)
        except BlockUnreadable:  # it was given up, or will be mended when its own turn is restored
            return replace(use, key=parts.lack(kind, place, use.used))
        parts.blocks.append(block)
        return replace(use, key=block.key)


@dataclass
class _Parts:
    """The first positions of blocks of a timeline, as blocks of their own."""

    timeline: TimelineKeys
    blocks: list[Block] = field(default_factory=list)
    to_compute: dict[bytes, BlockRow] = field(default_factory=dict)

    def lack(self, kind: BlockKind | None, place: int, used: int) -> bytes:
        """The key of a part of which there is no file: its ids are known, so that it can be computed again."""
        key = self.timeline.key(kind, place, used)
        self.to_compute[key] = self.timeline.given_up(kind, place, used)
        return key


def _common_positions(a: TurnEnd, b: TurnEnd) -> int:
    """How many positions two timelines have in common, messages included: up to where either alone has a message."""
    ours, theirs = Counter(a.messages), Counter(b.messages)
    alone = ours - theirs | theirs - ours
    if any(message.start == message.end for message in alone):
        return 0  # A template may render a message as nothing. No range of positions tells whether it is there.
    length = min(len(a.ids), len(b.ids))
    differ = np.flatnonzero(a.ids[:length] != b.ids[:length])
    return min([length, *differ[:1].tolist(), *(message.start for message in alone)])


def _common_blocks(a: TurnEnd, b: TurnEnd, positions: int) -> int:
    """How many leading blocks two timelines have in common within their first `positions`."""
    count = end = 0
    for ours, theirs in zip(a.uses, b.uses, strict=False):
        end += ours.used
        if ours != theirs or end > positions:
            break
        count += 1
    return count

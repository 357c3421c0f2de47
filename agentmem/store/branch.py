"""Fork and rewind: turns that begin where an earlier one ended, without copying what it holds.

One block may have to be written: where the earlier turn ends inside a block, the block of its positions up to there,
so that nothing said later lives on in a fork, or in the last timeline of an agent that was set back.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from agentmem.store import transfer
from agentmem.store.blockfile import Block
from agentmem.store.blocks import BlockFiles
from agentmem.store.catalog import agents, requests, turns
from agentmem.store.catalog import blocks as block_rows
from agentmem.store.catalog.thread import Catalog
from agentmem.store.history import History
from agentmem.store.keys import catalog_parent
from agentmem.store.namespaces import Namespaces
from agentmem.store.records import BlockUse, TurnRecord
from agentmem.store.rows import AgentRow, BlockRow, NewTurn
from agentmem.store.transfer import ExportFile
from agentmem.store.writer import TurnWriter
from agentmem.types import Exactness, Share, Timings, TurnKind, TurnMessage, Usage


@dataclass(frozen=True, eq=False)
class TurnEnd:
    """All that holds at the end of a turn. blocks: those of `uses` that may not be there yet."""

    uses: tuple[BlockUse, ...] = ()
    blocks: tuple[Block, ...] = ()
    ids: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    messages: tuple[TurnMessage, ...] = ()
    state_id: str = ""
    tokenizer_id: str = ""
    open: bool = False
    exactness: Exactness = Exactness.EXACT

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
        )


class Branches:
    """The caller sees to it that nobody else changes the store meanwhile.

    Methods raise TURN_NOT_FOUND; RecordUnreadable or BlockUnreadable if what the turn needs cannot be read.
    """

    def __init__(self, catalog: Catalog, blocks: BlockFiles, namespaces: Namespaces, writer: TurnWriter) -> None:
        self._catalog = catalog
        self._blocks = blocks
        self._namespaces = namespaces
        self._writer = writer

    def fork(self, source: History, new_name: str, number: int, request_id: str) -> AgentRow:
        """A new agent that begins at the end of the source's turn, and is as private as the source.

        Raises AGENT_EXISTS, REQUEST_ID_REUSED.
        """
        namespace, share = source.agent.namespace, source.agent.share
        self._catalog.read(requests.check_new, namespace, request_id)
        if self._catalog.read(agents.find, namespace, new_name):
            raise agents.exists(new_name)
        agent = replace(AgentRow.new(namespace, new_name), share=share)
        end = self.end_of(source, number)
        record = end.record(TurnKind.FORK, agent, request_id)
        return self._writer.add(record, list(end.blocks), partial(_add_agent, agent), agent)[0]

    def export(self, history: History) -> Iterator[bytes]:
        """The agent as it stands, in one file. Raises BlockUnreadable while it is read."""
        agent = history.agent
        end = self.end_of(history, agent.turn)
        secret = self._namespaces.get(agent.namespace).secret
        rows = self._catalog.read(block_rows.known, [use.key for use in end.uses])
        blocks = (self._blocks.read(use.key, rows[use.key].size, secret) for use in end.uses)
        return transfer.export(end.record(TurnKind.FORK, agent, ""), blocks)

    def take_in(self, file: ExportFile, namespace: str, name: str, request_id: str, state_id: str | None) -> AgentRow:
        """A new agent from an export, with its blocks; or without, all to be computed by the model of `state_id`.

        With the file's blocks it is private: nobody but who made the file vouches for its state.

        Raises AGENT_EXISTS, REQUEST_ID_REUSED, IMPORT_INVALID.
        """
        self._catalog.read(requests.check_new, namespace, request_id)
        if self._catalog.read(agents.find, namespace, name):
            raise agents.exists(name)
        secret = self._namespaces.get(namespace).secret
        agent = replace(AgentRow.new(namespace, name), share=Share.NAMESPACE if state_id else Share.PRIVATE)
        record = transfer.as_agents(file.record, agent.id, namespace, name, request_id)
        keys = transfer.timeline_keys(record, secret, state_id or record.state_id)
        uses = tuple(BlockUse(key, use.used) for key, use in zip(keys, record.blocks, strict=True))
        if state_id is None:
            record = replace(record, blocks=uses)
            return self._writer.add(record, file.blocks(secret), partial(_add_agent, agent), agent)[0]
        record = replace(record, blocks=uses, state_id=state_id)
        parents = [catalog_parent(secret, parent, state_id) for parent in (b"", *keys[:-1])]
        missing = {
            use.key: BlockRow(0, use.used, parent) for use, parent in zip(uses, parents[: len(uses)], strict=True)
        }
        return self._writer.add(record, [], partial(_add_agent, agent, missing=missing), agent)[0]

    def rewind(self, history: History, number: int, request_id: str) -> AgentRow:
        """Sets the agent back to the end of an earlier turn, by a new one. Raises REQUEST_ID_REUSED."""
        agent = history.agent
        self._catalog.read(requests.check_new, agent.namespace, request_id)
        old, new = self.end_of(history, agent.turn), self.end_of(history, number)
        start = _common_positions(old, new)
        record = new.record(TurnKind.REWIND, agent, request_id, start, _common_blocks(old, new, start))
        return self._writer.add(record, list(new.blocks), _add_turn)[0]

    def end_of(self, history: History, number: int) -> TurnEnd:
        """The end of a turn, no block used in part. Turn 0 is the empty timeline."""
        if number == 0:
            return TurnEnd()
        record = history.record(number)
        uses = history.timeline(number)
        cut = self._cut(history.agent, uses)
        return TurnEnd(
            uses=tuple(BlockUse(cut[use].key, use.used) if use in cut else use for use in uses),
            blocks=tuple(cut.values()),
            ids=history.ids(number),
            messages=history.messages(number),
            state_id=record.state_id,
            tokenizer_id=record.tokenizer_id,
            open=record.open,
            exactness=record.exactness,
        )

    def _cut(self, agent: AgentRow, uses: list[BlockUse]) -> dict[BlockUse, Block]:
        """For each block that is used in part, the block of that part."""
        secret = self._namespaces.get(agent.namespace).secret
        rows = self._catalog.read(block_rows.known, {use.key for use in uses})
        return {
            use: self._blocks.read(use.key, rows[use.key].size, secret).prefix(secret, use.used)
            for use in uses
            if use.used < rows[use.key].tokens
        }


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


def _add_agent(
    agent: AgentRow, db: sqlite3.Connection, new: NewTurn, missing: Mapping[bytes, BlockRow] | None = None
) -> AgentRow:
    """missing: blocks that are to be computed, unless they are there by chance."""
    agents.insert(db, agent)
    there = block_rows.known(db, missing or ())
    block_rows.put(db, {key: row for key, row in (missing or {}).items() if key not in there})
    return _add_turn(db, new)


def _add_turn(db: sqlite3.Connection, new: NewTurn) -> AgentRow:
    turns.add(db, new, {})
    return agents.by_id(db, new.record.agent_id)

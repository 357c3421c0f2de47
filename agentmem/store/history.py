"""What an agent's turns hold: records, and the timelines, ids and messages that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.store.catalog import turns
from agentmem.store.catalog.thread import Catalog
from agentmem.store.layout import RawTensor
from agentmem.store.records import BlockUse, CompanionUse, TurnRecord
from agentmem.store.rows import AgentRow, TurnRow
from agentmem.store.turnfiles import TurnFiles
from agentmem.types import TurnKind, TurnMessage


class History:
    """The turns of an agent that are listed now. Short-lived: a record is read once, and kept.

    Methods raise TURN_NOT_FOUND for a turn that is not listed (yet, or any more), RecordUnreadable if a record that is
    needed isn't there or is another than was committed. Turn 0 is the empty timeline, None the last turn's.
    """

    def __init__(self, agent: AgentRow, catalog: Catalog, files: TurnFiles, secret: bytes) -> None:
        self.agent = agent
        self._catalog = catalog
        self._files = files
        self._secret = secret
        self._records: dict[int, TurnRecord] = {}

    @cached_property
    def _rows(self) -> dict[int, TurnRow]:
        return self._catalog.read(turns.rows, self.agent.id)

    @property
    def listed(self) -> range:
        """The numbers of the turns."""
        return range(min(self._rows, default=1), self.agent.turn + 1)

    def record(self, number: int) -> TurnRecord:
        if number not in self.listed:
            raise self._not_listed(number)
        return self._read(number)

    def page(self, after: int = 0, limit: int = 100) -> list[TurnRecord]:
        """Up to `limit` turns with numbers above `after`, oldest first."""
        begin = max(after + 1, self.listed.start)
        return [self._read(number) for number in range(begin, min(begin + limit, self.listed.stop))]

    def timeline(self, number: int | None = None) -> list[BlockUse]:
        number = self.agent.turn if number is None else number
        uses = self._catalog.read(turns.timeline, self.agent.id, number) if number else []
        if uses is None:
            raise self._not_listed(number)
        return uses

    def companions(self, number: int | None = None) -> list[CompanionUse]:
        """What going on from a turn's end needs beside the timeline's blocks."""
        return self._catalog.read(turns.companions, self.agent.id, self.agent.turn if number is None else number)

    def ids(self, number: int | None = None) -> np.ndarray:
        """The token ids of a turn's timeline, int32 [tokens]."""
        pieces = [record.ids[: end - record.start] for record, end in self._live(number)]
        return np.concatenate([np.empty(0, np.int32), *reversed(pieces)])

    def latents(self, number: int | None = None) -> dict[int, RawTensor]:
        """The embeddings of a turn's timeline, by the ids that stand for them."""
        live = list(self._live(number))
        return {id_: row for record, _ in reversed(live) for id_, row in record.latents.items()}

    def turn_at(self, position: int) -> int:
        """The turn of the last timeline that holds a position."""
        return next(record.number for record, _ in self._live(None) if record.start <= position)

    def messages(self, number: int | None = None) -> tuple[TurnMessage, ...]:
        """The messages of a turn's timeline: those all of whose positions it still has, oldest first."""
        # A REBUILD computes the same messages anew, and does not repeat them.
        live = list(self._live(number, ignoring=TurnKind.REBUILD))
        return tuple(message for record, end in reversed(live) for message in record.messages if message.end <= end)

    def _live(self, number: int | None, ignoring: TurnKind | None = None) -> Iterator[tuple[TurnRecord, int]]:
        """Newest first, the records that say what stands in the timeline, each with the end of what it has to say."""
        number = self.agent.turn if number is None else number
        missing = self.record(number).end if number else 0
        # Backwards: what a turn says of positions that a later one begins before no longer holds.
        while missing:
            record = self._read(number)
            if record.start < missing and record.kind is not ignoring:
                yield record, missing
                missing = record.start
            number -= 1

    def _read(self, number: int) -> TurnRecord:
        if number not in self._records:
            row = self._rows.get(number)
            record = self._files.read(self.agent.id, number, row, self._secret)
            # The record is authentic; a damaged catalog must not hand it to another agent.
            agent = self.agent
            if (record.agent_id, record.namespace, record.agent_name) != (agent.id, agent.namespace, agent.name):
                raise AgentmemError(Reason.STORE_UNREADABLE, f"The catalog contradicts the record of turn {number}.")
            self._records[number] = record
        return self._records[number]

    def _not_listed(self, number: int) -> AgentmemError:
        listed = self.listed
        there_are = f"the turns listed are {listed[0]} to {listed[-1]}" if listed else "the agent has none yet"
        return AgentmemError(Reason.TURN_NOT_FOUND, f"There is no turn {number}: {there_are}.", turn=number)

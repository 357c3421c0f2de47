"""What turns hold: records, and the timelines, ids and messages that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.store.catalog import turns
from agentmem.store.catalog.thread import Catalog
from agentmem.store.namespaces import Namespaces
from agentmem.store.records import BlockUse, TurnRecord
from agentmem.store.rows import AgentRow
from agentmem.store.turnfiles import TurnFiles
from agentmem.types import TurnKind, TurnMessage


class History:
    """Reads turns that are listed. Turn 0 is the empty timeline.

    Methods raise TURN_NOT_FOUND for a turn that is not listed (yet, or any more), RecordUnreadable if a record that is
    needed isn't there or is another than was committed.
    """

    def __init__(self, catalog: Catalog, files: TurnFiles, namespaces: Namespaces) -> None:
        self._catalog = catalog
        self._files = files
        self._namespaces = namespaces

    def record(self, agent: AgentRow, number: int) -> TurnRecord:
        self._check_listed(agent, number, first=self._first(agent))
        return self._reader(agent, number, number)(number)

    def page(self, agent: AgentRow, after: int, limit: int) -> list[TurnRecord]:
        """Up to `limit` turns with numbers above `after`, oldest first."""
        first = max(after + 1, self._first(agent))
        last = min(agent.turn, first + limit - 1)
        read = self._reader(agent, first, last)
        return [read(number) for number in range(first, last + 1)]

    def timeline(self, agent: AgentRow, number: int) -> list[BlockUse]:
        tokens = self._tokens(agent, number)
        uses = self._catalog.read(turns.timeline, agent.id, number) if number else []
        if sum(use.used for use in uses) != tokens:
            raise AgentmemError(Reason.STORE_UNREADABLE, f"The catalog contradicts itself about turn {number}.")
        return uses

    def ids(self, agent: AgentRow, number: int) -> np.ndarray:
        """The token ids of a turn's timeline, int32 [tokens]."""
        pieces = [record.ids[: end - record.start] for record, end in self._live(agent, number)]
        return np.concatenate([np.empty(0, np.int32), *reversed(pieces)])

    def turn_at(self, agent: AgentRow, position: int) -> int:
        """The turn of the last timeline that holds a position."""
        return next(record.number for record, _ in self._live(agent, agent.turn) if record.start <= position)

    def messages(self, agent: AgentRow, number: int) -> tuple[TurnMessage, ...]:
        """The messages of a turn's timeline: those all of whose positions it still has, oldest first."""
        # A REBUILD computes the same messages anew, and does not repeat them.
        live = list(self._live(agent, number, ignoring=TurnKind.REBUILD))
        return tuple(message for record, end in reversed(live) for message in record.messages if message.end <= end)

    def _live(self, agent: AgentRow, number: int, ignoring: TurnKind | None = None) -> Iterator[tuple[TurnRecord, int]]:
        """Newest first, the records that say what stands in the timeline, each with the end of what it has to say."""
        missing = self._tokens(agent, number)
        read = self._reader(agent, self._first(agent), number)
        # Backwards: what a turn says of positions that a later one begins before no longer holds.
        while missing:
            record = read(number)
            if record.start < missing and record.kind is not ignoring:
                yield record, missing
                missing = record.start
            number -= 1

    def _tokens(self, agent: AgentRow, number: int) -> int:
        if number == 0:
            return 0
        row = self._catalog.read(turns.rows, agent.id, number, number).get(number)
        if row is None:
            self._check_listed(agent, number, self._first(agent))
            raise AgentmemError(Reason.STORE_UNREADABLE, f"The catalog lacks turn {number}.")
        return row.tokens

    def _reader(self, agent: AgentRow, first: int, last: int) -> Callable[[int], TurnRecord]:
        """Reads the turns first..last."""
        secret = self._namespaces.get(agent.namespace).secret
        rows = self._catalog.read(turns.rows, agent.id, first, last)

        def read(number: int) -> TurnRecord:
            record = self._files.read(agent.id, number, rows.get(number), secret)
            # The record is authentic; a damaged catalog must not hand it to another agent.
            if (record.agent_id, record.namespace, record.agent_name) != (agent.id, agent.namespace, agent.name):
                raise AgentmemError(Reason.STORE_UNREADABLE, f"The catalog contradicts the record of turn {number}.")
            return record

        return read

    def _first(self, agent: AgentRow) -> int:
        return self._catalog.read(turns.first, agent.id)

    def _check_listed(self, agent: AgentRow, number: int, first: int) -> None:
        if not first <= number <= agent.turn:
            raise AgentmemError(
                Reason.TURN_NOT_FOUND,
                f"There is no turn {number}: the turns listed are {first} to {agent.turn}."
                if agent.turn
                else f"There is no turn {number}: the agent has none yet.",
                turn=number,
            )

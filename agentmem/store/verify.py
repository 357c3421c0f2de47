"""Reads all that agents remember, and says what is not as it was written. Other threads may use the store meanwhile.

A damaged or lost block is given up when asked, to be computed again at its agent's next restore. A damaged record
cannot be: what was said in that turn is lost. A catalog that contradicts sound records can be rebuilt.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.store.blockfile import BlockUnreadable, Unreadable
from agentmem.store.grid import is_spliced
from agentmem.store.latents import Latents, embeddings_of, key_of, kind_of
from agentmem.store.layout import RawTensor
from agentmem.store.problems import Problem, ProblemKind
from agentmem.store.records import BlockUse, RecordUnreadable, TurnRecord
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS

_PAGE = 100
_CONTRADICTION = "CATALOG_CONTRADICTS_RECORD"
_UNUSED = "FILES_UNUSED"
_LOST = "SPLICE_"
"""How the reason begins where a block of a splice cannot be read: it cannot be computed again."""
_REPAIRABLE = {ProblemKind.BLOCK, ProblemKind.ORPHAN}


@dataclass(frozen=True)
class Verified:
    """blocks, records, bytes: how many were read, each once. repaired: problems that are none any more."""

    blocks: int
    records: int
    bytes: int
    problems: tuple[Problem, ...]
    repaired: int


def verify(store: Store, namespace: str | None = None, repair: bool = False) -> Verified:
    """Of one namespace, or of all, then with files that nothing refers to. repair: gives up and removes what it may.

    Raises STORE_UNREADABLE if the catalog cannot be read at all, STORE_UNWRITABLE if repairs fail.
    """
    check = _Check(store)
    for name, *_ in store.namespaces():
        if namespace in (None, name) and store.has_namespace(name):  # it may have been removed meanwhile
            check.namespace(name)
    if namespace is None and store.pruning.orphans(dry_run=not repair):
        check.problems.append(Problem(ProblemKind.ORPHAN, _UNUSED))
    repaired = 0
    if repair:
        for key, name in check.unsound.items():
            store.blocks.give_up(name, key)
        lost = sum(problem.reason.startswith(_LOST) for problem in check.problems)
        repaired = sum(problem.kind in _REPAIRABLE for problem in check.problems) - lost
    return Verified(len(check.blocks), check.records, check.bytes_read, tuple(check.problems), repaired)


class _Held(NamedTuple):
    """Where a block begins, and its positions and ids."""

    start: int
    positions: np.ndarray
    ids: np.ndarray


@dataclass
class _Check:
    store: Store
    records: int = 0
    bytes_read: int = 0
    blocks: set[bytes] = field(default_factory=set)
    """Keys of those that were read and are sound."""
    known: set[bytes] = field(default_factory=set)
    """Keys of those that were so before."""
    partial: dict[bytes, _Held] = field(default_factory=dict)
    """What there is of sound blocks of which some turn uses a part: many turns in a row use the same."""
    unsound: dict[bytes, str] = field(default_factory=dict)
    """Keys of those that are not, and their namespaces."""
    lost: set[bytes] = field(default_factory=set)
    """Keys of those of splices that are not: nothing tells how to compute them."""
    problems: list[Problem] = field(default_factory=list)

    def namespace(self, name: str) -> None:
        try:
            self.store.namespace(name)
        except AgentmemError as error:
            if error.reason is not Reason.STORE_UNREADABLE:
                raise
            self.problems.append(Problem(ProblemKind.NAMESPACE, "SECRET_UNREADABLE", name))
            return
        after = ""
        while agents := self.store.agents(name, after, _PAGE):
            after = agents[-1].name
            for agent in agents:
                self._agent(agent)

    def _agent(self, agent: AgentRow) -> None:
        """Looks twice before it says that something is wrong: a commit or deletion may have come between two reads."""
        found = self._look(agent)
        if found.problems:
            again = self.store.agent(agent.namespace, agent.name)
            if again is None:
                return
            found = self._look(again)
        self.records += found.records
        self.bytes_read += found.bytes_read
        self.blocks |= found.blocks
        self.unsound |= found.unsound
        self.lost |= found.lost
        self.problems += found.problems

    def _look(self, agent: AgentRow) -> _Check:
        found = replace(
            self, records=0, bytes_read=0, blocks=set(), known=self.blocks, unsound={}, lost=set(), problems=[]
        )
        last: TurnRecord | None = None
        ids: np.ndarray | None = None
        latents: dict[int, RawTensor] = {}
        for number in found._listed(agent):
            last = found._record(agent, number)
            ids = _extended(ids, last)
            if last is not None and ids is not None:
                latents |= last.latents
                found._timeline(agent, last, ids, latents)
        if last is not None and (last.number, last.end, last.state_id) != (agent.turn, agent.tokens, agent.state_id):
            found._problem(ProblemKind.CATALOG, _CONTRADICTION, agent, agent.turn)
        return found

    def _listed(self, agent: AgentRow) -> range:
        """The numbers of the agent's turns: those before the first may have been pruned."""
        number = agent.turn
        while number and self._is_listed(agent, number - 1):
            number -= 1
        return range(max(number, 1), agent.turn + 1)

    def _is_listed(self, agent: AgentRow, number: int) -> bool:
        try:
            self.store.history(agent.id).timeline(number)
        except AgentmemError as error:
            return error.reason is not Reason.TURN_NOT_FOUND
        return number > 0

    def _record(self, agent: AgentRow, number: int) -> TurnRecord | None:
        try:
            record = self.store.history(agent.id).record(number)
        except RecordUnreadable:
            self._problem(ProblemKind.RECORD, "RECORD_UNREADABLE", agent, number)
        except AgentmemError as error:
            self._unless_gone(error, agent, number)
        else:
            self.records += 1
            return record
        return None

    def _timeline(self, agent: AgentRow, record: TurnRecord, ids: np.ndarray, latents: Latents) -> None:
        """The blocks of a turn's timeline: each must hold the turn's ids at its place."""
        try:
            timeline = self.store.history(agent.id).timeline(record.number)
            secret = self.store.namespace(agent.namespace).secret
        except AgentmemError as error:
            self._unless_gone(error, agent, record.number)
            return
        if sum(use.used for use in timeline) != len(ids):
            self._problem(ProblemKind.CATALOG, _CONTRADICTION, agent, record.number)
            return
        start, parent = 0, b""
        for place, use in enumerate(timeline):
            if is_spliced(place, record.splices):
                if use.key not in self.lost and use.key not in self.blocks and use.key not in self.known:
                    self._block(agent, record.number, use, start, ids, spliced=True)
                start, parent = start + use.used, use.key
                continue
            own = ids[start : start + use.used]
            read = use.key in self.blocks or use.key in self.known
            # Of a block that was read before, its key tells what it holds.
            whole = read and use.key == key_of(
                secret, parent, record.state_id, kind_of(own), own, embeddings_of(own, latents)
            )
            if not whole and use.key not in self.unsound:
                self._block(agent, record.number, use, start, ids)
            start, parent = start + use.used, use.key
        for one in self.store.history(agent.id).companions(record.number):
            if one.key not in self.unsound:
                self._block(agent, record.number, one, one.place * BLOCK_TOKENS, ids)

    def _block(
        self, agent: AgentRow, number: int, use: BlockUse, start: int, ids: np.ndarray, spliced: bool = False
    ) -> None:
        """A block, or companion, that is to begin at `start`. ids: the timeline's."""
        try:
            held = self.partial[use.key] if use.key in self.partial else self._read(agent, use)
        except BlockUnreadable as error:
            if spliced:
                self.lost.add(use.key)
                reason = Unreadable.MISSING if error.reason is Unreadable.EVICTED else error.reason
                self._problem(ProblemKind.BLOCK, f"{_LOST}{reason}", agent, number)
            elif error.reason is not Unreadable.EVICTED:
                self.unsound[use.key] = agent.namespace
                self._problem(ProblemKind.BLOCK, f"BLOCK_{error.reason}", agent, number)
        except AgentmemError as error:
            self._unless_gone(error, agent, number)
        else:
            own = held.positions[: use.used]
            if held.start != start or own.max() >= len(ids) or not np.array_equal(held.ids[: use.used], ids[own]):
                # A sound block; it is the timeline that should name another.
                self._problem(ProblemKind.CATALOG, _CONTRADICTION, agent, number)

    def _read(self, agent: AgentRow, use: BlockUse) -> _Held:
        block, size = self.store.blocks.read(agent.namespace, use.key)
        if use.key not in self.blocks and use.key not in self.known:
            self.blocks.add(use.key)
            self.bytes_read += size
        held = _Held(block.start, block.positions, block.ids.copy())
        if use.used < block.tokens:
            self.partial[use.key] = held
        return held

    def _unless_gone(self, error: AgentmemError, agent: AgentRow, number: int) -> None:
        if error.reason not in (Reason.AGENT_NOT_FOUND, Reason.TURN_NOT_FOUND):
            self._problem(ProblemKind.CATALOG, _CONTRADICTION, agent, number)

    def _problem(self, kind: ProblemKind, reason: str, agent: AgentRow, turn: int) -> None:
        self.problems.append(Problem(kind, reason, agent.namespace, agent.name, turn))


def _extended(ids: np.ndarray | None, record: TurnRecord | None) -> np.ndarray | None:
    """The ids of the timeline after a turn; None if they depend on a record that cannot be read."""
    if record is None:
        return None
    if record.start == 0:
        return record.ids
    return None if ids is None else np.concatenate([ids[: record.start], record.ids])

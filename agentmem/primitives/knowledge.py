"""The knowledge pool: which plan suited which kind of task. It ships with entries, and grows by recorded outcomes.

Queries are their users': a query's text gets into the pool's file only by `record`, and never into a log or an error.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType

from agentmem.errors import AgentmemError, Reason, request_id_reused
from agentmem.primitives import pooldb
from agentmem.primitives.entry import Entry, Outcomes, invalid_line, learned, read_lines, write_lines
from agentmem.primitives.nearness import FLOOR, Nearness
from agentmem.primitives.plan import Plan
from agentmem.primitives.words import match_expression, query_ends
from agentmem.sqlite import transaction

WEIGHTS = (4.0, 1.0, 2.0)
"""Of a word in an entry's title, description and tags, for bm25."""
PRIOR, PRIOR_COUNT = 0.5, 2
"""The score that an entry is taken to deserve before any is recorded, and how many recorded ones weigh as much."""
CANDIDATES = 200
"""The most similar learned entries, whose recorded scores are then looked at; of shipped ones all are."""
MAX_NEAREST = 100
MAX_LEARNED = 10_000
"""Learned entries; one more replaces the oldest."""


@dataclass(frozen=True)
class Match:
    """An entry that shares words with a query. similarity: 0 to 1, see `nearness`. rank: its place, see `nearest`."""

    entry: Entry
    similarity: float
    rank: float


def expected_score(outcomes: Outcomes) -> float:
    """The mean of the recorded scores and PRIOR_COUNT imagined ones of PRIOR: 0 to 1, and sure only of many."""
    return (PRIOR_COUNT * PRIOR + outcomes.count * outcomes.mean) / (PRIOR_COUNT + outcomes.count)


def shipped_entries() -> list[Entry]:
    """Those that were written for this project."""
    with resources.files("agentmem.primitives").joinpath("pool.jsonl").open(encoding="utf-8") as file:
        return read_lines(file)


class KnowledgePool:
    """A pool in a file (0600), which several processes may have open. An object belongs to the thread that opened it.

    Every method may raise KNOWLEDGE_UNREADABLE or KNOWLEDGE_UNWRITABLE.
    """

    def __init__(self, path: Path, *, shipped: bool = True) -> None:
        """Opens the file, or makes it; its folder exists. shipped: with the entries that this version ships.

        Those are added, or replaced by what this version says; their outcomes stay. The whole file is checked.
        Raises KNOWLEDGE_TOO_NEW, FULL_TEXT_SEARCH_MISSING.
        """
        entries = shipped_entries() if shipped else []
        self._db = pooldb.open_pool(path, lambda db: _put_all(db, entries))
        try:
            with pooldb.errors():
                _ship(self._db, entries)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> KnowledgePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def nearest(self, query: str, k: int = 5) -> list[Match]:
        """The k entries that suit a query best, best first; fewer, or none, if fewer share a word with it.

        Those that are near (of a similarity of FLOOR or more) come first, then the others; among either, rank decides.
        rank = similarity * expected_score: how near the entry is (see `nearness`), times what its plan may be expected
        to score. Among entries without outcomes similarity alone counts; good outcomes up to double an entry's rank,
        bad ones let it fade. Those alike keep bm25's order (of title, description and tags by WEIGHTS). Any text is a
        query. Raises INPUT_INVALID for k.
        """
        if not 1 <= k <= MAX_NEAREST:
            raise AgentmemError(Reason.INPUT_INVALID, f"k lies between 1 and {MAX_NEAREST}")
        ends = query_ends(query)
        searched = {word for end in ends for word in end}
        if not searched:
            return []
        with pooldb.errors():
            found = pooldb.matching(self._db, match_expression(sorted(searched)), WEIGHTS)
            holders = {word: pooldb.holders(self._db, word) for word in searched}
            shipped = pooldb.shipped(self._db)
            nearness = Nearness(ends, holders, shipped)
            ordered = sorted(found, key=nearness.similarity, reverse=True)  # which leaves those alike in bm25's order
            learned = [number for number in ordered if number not in shipped][:CANDIDATES]
            looked_at = shipped.union(learned)
            entries = pooldb.read(self._db, [number for number in ordered if number in looked_at])
        near = [(entry, _similarity(nearness, number, entry, len(searched))) for number, entry in entries]
        matches = [Match(entry, fit, fit * expected_score(entry.outcomes)) for entry, fit in near]
        # Those alike stay as they are.
        return sorted(matches, key=lambda m: (m.similarity < FLOOR, -m.rank))[:k]

    def get(self, id: str) -> Entry | None:
        with pooldb.errors():
            return pooldb.get(self._db, id)

    def page(self, after: int = 0, limit: int = 100) -> list[tuple[int, Entry]]:
        """Entries with their numbers, up to `limit` behind number `after`, in the order in which they came."""
        with pooldb.errors():
            return pooldb.page(self._db, after, limit)

    def record(self, query: str, plan: Plan, score: float, *, entry: str | None = None, request_id: str = "") -> Entry:
        """Notes, durably, how well a plan did on a query; returns what is known of the two now. score: 0 to 1.

        entry: the id of the entry that the plan came from; the score counts for it, too. An id unknown by now is none.
        request_id: a repeat within 24 h counts nothing more.
        Raises INPUT_INVALID, REQUEST_ID_REUSED.
        """
        if not 0 <= score <= 1:  # NaN fails
            raise AgentmemError(Reason.INPUT_INVALID, "the score lies between 0 and 1")
        new = learned(query, plan)
        with pooldb.errors(), transaction(self._db):
            if (repeated := pooldb.entry_of_request(self._db, request_id)) is not None:
                if repeated != new.id:
                    raise request_id_reused()
                return pooldb.get(self._db, new.id) or new
            if entry is not None and entry != new.id and (origin := pooldb.get(self._db, entry)) is not None:
                pooldb.put(self._db, origin.with_score(score))
            known = pooldb.get(self._db, new.id)
            while known is None and pooldb.count_learned(self._db) >= MAX_LEARNED:
                pooldb.drop_oldest_learned(self._db)
            recorded = (known or new).with_score(score)
            pooldb.put(self._db, recorded)
            pooldb.remember_request(self._db, request_id, new.id)
            return recorded

    def has_recorded(self, request_id: str) -> bool:
        """Whether `record` has had this request id in the last 24 hours."""
        with pooldb.errors():
            return pooldb.entry_of_request(self._db, request_id) is not None

    def forget(self, id: str) -> bool:
        """Removes a learned entry, its text from the file, too; False if there is none of that id."""
        with pooldb.errors():
            with transaction(self._db):
                entry = pooldb.get(self._db, id)
                if entry is None or entry.source != "learned":
                    return False
                pooldb.drop(self._db, id)
            pooldb.scrub(self._db)
            return True

    def export_lines(self) -> Iterator[str]:
        """All entries with their outcomes, as lines of a JSONL file. They hold recorded queries."""
        with pooldb.errors():
            entries = list(pooldb.all_entries(self._db))
        return write_lines(entries)

    def import_lines(self, lines: Iterable[str]) -> int:
        """Takes in what `export_lines` gave; how many entries changed or came. All of it, or nothing on an error.

        Of an entry that is there already, the outcomes stay that are more. Of a shipped one, the text stays, too.
        Raises IMPORT_INVALID, which names the line.
        """
        entries = read_lines(lines)
        with pooldb.errors(), transaction(self._db):
            changed = sum(self._take(number, entry) for number, entry in enumerate(entries, start=2))
            if pooldb.count_learned(self._db) > MAX_LEARNED:
                message = f"The pool would hold more than {MAX_LEARNED} learned entries: forget some, or import fewer."
                raise AgentmemError(Reason.IMPORT_INVALID, message)
            return changed

    def _take(self, line: int, entry: Entry) -> bool:
        known = pooldb.get(self._db, entry.id)
        if known is None:
            pooldb.put(self._db, entry)
            return True
        if known.source != entry.source or (known.source == "learned" and known.about() != entry.about()):
            raise invalid_line(line, "the pool has another entry of its id")
        if known.outcomes.count >= entry.outcomes.count:
            return False
        pooldb.put(self._db, known.model_copy(update={"outcomes": entry.outcomes}))
        return True


def _similarity(nearness: Nearness, number: int, entry: Entry, searched: int) -> float:
    """searched: how many distinct words the query has. Those of a learned entry are compared as another query's."""
    if entry.source == "learned" and nearness.covered(number):
        own = {word for end in query_ends(entry.description) for word in end}
        if len(own) == searched:
            return 1.0
    return nearness.similarity(number)


def _put_all(db: sqlite3.Connection, entries: list[Entry]) -> None:
    for entry in entries:
        pooldb.put(db, entry)


def _ship(db: sqlite3.Connection, entries: list[Entry]) -> None:
    """Brings the shipped entries up to date; writes nothing if they are."""
    known = {entry.id: entry for entry in pooldb.all_entries(db)}
    if all(e.id in known and known[e.id].about() == e for e in entries):
        return
    with transaction(db):
        for entry in entries:
            old = pooldb.get(db, entry.id)
            pooldb.put(db, entry if old is None else entry.model_copy(update={"outcomes": old.outcomes}))

"""Events: a list, of bounded length, of what the daemon did on its own, so that nobody is surprised.

To note one costs no transaction and never fails: it waits in RAM, and goes to the disk along with the next change of
the catalog. `page` shows those that wait as well; what is lost with a crash are those since the last change.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count

from agentmem.store.catalog import agents, events
from agentmem.store.catalog.thread import Catalog
from agentmem.store.rows import Event, EventKind, NewEvent

MAX_WAITING = events.KEPT
"""A disk that takes nothing must not fill the RAM with news of that."""

QUIET_S = 60.0
"""A request that is refused is often repeated: one event in so many seconds, for each agent, must do."""
_REFUSALS = (EventKind.RAM_REFUSED, EventKind.DISK_REFUSED)

log = logging.getLogger(__name__)


class Events:
    """A part of `Store`. Thread-safe."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._waiting: deque[NewEvent] = deque(maxlen=MAX_WAITING)
        self._refused: dict[tuple[EventKind, str | None], float] = {}
        # Given here, not by the table: a number that was shown stays, whatever becomes of those before it.
        self._numbers = count(catalog.read(events.last_number) + 1)
        catalog.rider = self._ride

    def note(
        self,
        kind: EventKind,
        agent_id: str | None = None,
        *,
        reason: str = "",
        nbytes: int = 0,
        start: int = 0,
        end: int = 0,
        soon: bool = False,
    ) -> NewEvent:
        """See NewEvent. soon: no change of the catalog is about to come that could take it along."""
        now = round(time.time(), 6)  # as the contract's timestamps tell it
        with self._lock:
            event = NewEvent(next(self._numbers), now, kind, agent_id or None, reason, nbytes, start, end)
            if kind in _REFUSALS and self._refused_lately(kind, event.agent_id):
                return event
            self._waiting.append(event)
        if soon:
            self._catalog.write_soon()
        return event

    def take_back(self, noted: Iterable[NewEvent]) -> None:
        """They did not happen: the change that was to take them along failed."""
        self._arrived({id(event) for event in noted})

    def _refused_lately(self, kind: EventKind, agent_id: str | None) -> bool:
        now = time.monotonic()
        self._refused = {refused: at for refused, at in self._refused.items() if now - at < QUIET_S}
        return now != self._refused.setdefault((kind, agent_id), now)

    def page(
        self,
        namespace: str | None = None,
        agent: str | None = None,
        since: float = 0.0,
        after: int = 0,
        limit: int = 100,
    ) -> list[Event]:
        """Up to `limit` behind number `after`, oldest first, from `since` (Unix seconds) on.

        Of an agent of a namespace, of all of its agents, or of everything. Raises AGENT_NOT_FOUND.
        """
        return self._catalog.read(self._page, namespace, agent, since, after, limit)

    def _page(
        self,
        db: sqlite3.Connection,
        namespace: str | None,
        agent: str | None,
        since: float,
        after: int,
        limit: int,
    ) -> list[Event]:
        # On the catalog's thread: none of those that wait gets entered meanwhile.
        with self._lock:
            waiting = tuple(self._waiting)
        agent_id = agents.get(db, namespace, agent).id if namespace is not None and agent is not None else None
        return events.page(db, namespace, agent_id, since, after, limit, waiting)

    def stopped_last(self) -> bool | None:
        """Whether the last run of the daemon noted its end; None if there was none."""
        return self._catalog.read(events.stopped_last)

    def _ride(self, db: sqlite3.Connection) -> Callable[[], None]:
        """Enters what waits as part of a transaction. Returns what is to be done once that is committed."""
        with self._lock:
            riding = tuple(self._waiting)
        if riding:
            db.execute("SAVEPOINT events")
            try:
                events.add(db, riding)
            except sqlite3.Error as error:
                if not db.in_transaction:  # the disk is full: SQLite has taken everything back
                    raise
                db.execute("ROLLBACK TO events")
                log.warning("%d events could not be noted: %s", len(riding), type(error).__name__)
            db.execute("RELEASE events")
        return partial(self._arrived, {id(event) for event in riding})

    def _arrived(self, riding: set[int]) -> None:
        with self._lock:
            self._waiting = deque((event for event in self._waiting if id(event) not in riding), MAX_WAITING)

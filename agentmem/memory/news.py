"""What the store's events say of state that could not be read, and of turns that could not be saved."""

from __future__ import annotations

from collections.abc import Sequence

from agentmem.store.blockfile import Unreadable
from agentmem.store.events import Events
from agentmem.store.rows import EventKind
from agentmem.types import AgentRef, PrefixMiss

_SET_ASIDE = {f"BLOCK_{reason}" for reason in (Unreadable.CORRUPT, Unreadable.FOREIGN)}


class News:
    def __init__(self, events: Events) -> None:
        self._events = events
        self._not_durable: set[AgentRef] = set()

    def recomputed(self, agent_id: str, misses: Sequence[PrefixMiss]) -> None:
        """One event for each run of positions that were lost alike and computed again, and one if files were unsound.

        misses: by position.
        """
        runs: list[PrefixMiss] = []
        for miss in misses:
            last = runs[-1] if runs else None
            if last is not None and (last.position + last.tokens, last.reason) == (miss.position, miss.reason):
                runs[-1] = PrefixMiss(last.position, last.tokens + miss.tokens, miss.reason)
            else:
                runs.append(miss)
        for run in runs:
            kinds = [EventKind.BLOCK_QUARANTINED] if run.reason in _SET_ASIDE else []
            for kind in (*kinds, EventKind.BLOCK_RECOMPUTED):
                end = run.position + run.tokens
                self._events.note(kind, agent_id, reason=run.reason, start=run.position, end=end)

    def durable(self, ref: AgentRef, agent_id: str, saved: bool) -> None:
        """Notes when an agent's turns begin to be in RAM only, and when they no longer are."""
        if saved and ref in self._not_durable:
            self._not_durable.remove(ref)
            self._events.note(EventKind.SAVED, agent_id, soon=True)
        elif not saved and ref not in self._not_durable:
            self._not_durable.add(ref)
            self._events.note(EventKind.NOT_DURABLE, agent_id)

    def forget(self, ref: AgentRef) -> None:
        self._not_durable.discard(ref)

"""What the store's events say of an agent's state that could not be read."""

from __future__ import annotations

from collections.abc import Sequence

from agentmem.store.blockfile import Unreadable
from agentmem.store.events import Events
from agentmem.store.rows import EventKind
from agentmem.types import PrefixMiss

_SET_ASIDE = {f"BLOCK_{reason}" for reason in (Unreadable.CORRUPT, Unreadable.FOREIGN)}


def note_recomputed(events: Events, agent_id: str, misses: Sequence[PrefixMiss]) -> None:
    """One event for each run of positions that were lost alike and computed again, and one if files were set aside."""
    runs: list[list[PrefixMiss]] = []
    for miss in misses:
        last = runs[-1][-1] if runs else None
        if last is not None and (last.position + last.tokens, last.reason) == (miss.position, miss.reason):
            runs[-1].append(miss)
        else:
            runs.append([miss])
    for run in runs:
        start, end, reason = run[0].position, run[-1].position + run[-1].tokens, run[0].reason
        if reason in _SET_ASIDE:
            events.note(EventKind.BLOCK_QUARANTINED, agent_id, reason=reason, start=start, end=end)
        events.note(EventKind.BLOCK_RECOMPUTED, agent_id, reason=reason, start=start, end=end)

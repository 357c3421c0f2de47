"""The disk budget: what blocks and records may take. Over it, the state of agents that rest longest is given up.

Their records stay, so that nothing is forgotten: their blocks are computed again at their next turn.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from agentmem.errors import AgentmemError, Reason
from agentmem.store.catalog import blocks, quota, usage
from agentmem.store.core import Core
from agentmem.store.events import Events
from agentmem.store.rows import EventKind, GivenUp
from agentmem.types import AgentRef

LOW_WATER = 0.9
"""Of the budget: once it is reached, so much is made free that it is not reached again at once."""
DEFAULT_SHARE = 10
"""The budget is one part in so many of the free disk, unless a user says otherwise."""

log = logging.getLogger(__name__)


def default_budget(folder: Path, taken: int) -> int:
    """Bytes, for a store that takes `taken` of them: these count as free, or each start would find a smaller budget."""
    return (shutil.disk_usage(folder).free + taken) // DEFAULT_SHARE


class Quota:
    """A part of `Store`; raises as it does."""

    def __init__(self, core: Core, events: Events) -> None:
        self._core = core
        self._events = events
        self._at_most: int | None = None
        """The store has, and was promised, no more than this; None if nobody has looked."""

    def make_room(
        self,
        budget: int,
        needed: int,
        *,
        promised: int = 0,
        staying: Callable[[], Collection[AgentRef]] = tuple,
        relied_on: Collection[bytes] = (),
    ) -> list[GivenUp]:
        """Sees to it that `needed` more bytes fit, besides those promised to others; who lost state for that.

        staying: agents that keep theirs, as pinned ones do; asked for only if some must go. relied_on: keys of blocks
        that stay. needed=0: only sees to the budget, as far as that can be.
        Raises DISK_BUDGET_EXCEEDED; then nothing was given up but what is over the budget anyhow.
        """
        low = int(budget * LOW_WATER)
        if self._at_most is not None and self._at_most + needed <= low:  # to count takes 14 ms with 100,000 blocks
            self._at_most += needed
            return []
        with self._core.change():
            taken = self._core.catalog.read(usage.total) + promised
            self._at_most = taken + needed
            if taken + needed <= budget:
                return []
            going = self._going(staying(), relied_on)
            fits = taken + needed - going.freeable <= budget
            wanted = taken + (needed if fits else 0)
            given_up = self._give_up(going, wanted - budget, wanted - low) if wanted > budget else []
            self._at_most -= sum(one.freed_bytes for one in given_up) + (0 if fits else needed)
        if fits or not needed:
            return given_up
        free = max(0, budget - taken + going.freeable)
        raise AgentmemError(
            Reason.DISK_BUDGET_EXCEEDED,
            f"this takes up to {needed} bytes on disk, and of the disk budget of {budget} only {free} are free or can "
            "be made so: ask for fewer tokens, unpin or remove agents, or serve with a larger --disk-budget",
            needed_bytes=needed,
            free_bytes=free,
            budget_bytes=budget,
        )

    def _going(self, staying: Collection[AgentRef], relied_on: Collection[bytes]) -> _Going:
        agents = [one for one in self._core.catalog.read(quota.unpinned) if one[1] not in staying]
        blocks = self._core.catalog.read(quota.goes_with, [agent_id for agent_id, _ in agents])
        return _Going(agents, [one for one in blocks if one[1] not in relied_on])

    def _give_up(self, going: _Going, least: int, wanted: int) -> list[GivenUp]:
        """Gives up as few agents' state as frees `wanted` bytes, or at least `least`, or else all there is."""
        freed = going.freed_by_place()
        last = going.last_for(wanted if wanted <= going.freeable else min(least, going.freeable))
        keys = [key for place, key, _ in going.blocks if place <= last]
        losing = self._core.catalog.read(quota.users, keys)
        given_up = [
            GivenUp(ref, agent_id, freed[place])
            for place, (agent_id, ref) in enumerate(going.agents[: last + 1])
            if agent_id in losing
        ]
        noted = [self._events.note(EventKind.DISK_EVICTED, one.agent_id, nbytes=one.freed_bytes) for one in given_up]
        try:
            if keys:
                self._core.catalog.write(blocks.empty, keys)
        except BaseException:
            self._events.take_back(noted)
            raise
        for one in given_up:
            log.info("agent %r is cold: %d bytes of its state were given up", one.agent.name, one.freed_bytes)
        for key in keys:
            if key not in self._core.ahead:  # or else a turn that is running is going to use it
                self._core.blocks.remove(key)
        return given_up


@dataclass(frozen=True)
class _Going:
    """What may go. agents: ids and names, in order. blocks: places, keys and bytes, in order of the places.

    A block's place is that of the last agent that uses it: it can go once all up to there do.
    """

    agents: list[tuple[str, AgentRef]]
    blocks: list[tuple[int, bytes, int]]

    @property
    def freeable(self) -> int:
        return sum(size for _, _, size in self.blocks)

    def freed_by_place(self) -> Counter[int]:
        freed: Counter[int] = Counter()
        for place, _, size in self.blocks:
            freed[place] += size
        return freed

    def last_for(self, wanted: int) -> int:
        """The place up to which all must go to free that many bytes; -1 if none need to."""
        freed, last = 0, -1
        for place, _, size in self.blocks:
            if freed >= wanted and place != last:
                break
            freed, last = freed + size, place
        return last if wanted > 0 else -1

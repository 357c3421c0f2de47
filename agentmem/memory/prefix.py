"""Prefix match: what an agent is about to be fed is taken over from blocks that hold the same ids already.

Whole blocks are matched by key, the last one token by token: attention is causal, so the first positions of a longer
block are what computing them would give. Only blocks that some agent shares with its namespace are looked at, and a
part is taken over only if it saves BEGINNING positions: computing fewer is quicker than reading a block.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from agentmem.kv.full import FullLayers
from agentmem.kv.pool import BlockPool
from agentmem.kv.state import AgentState
from agentmem.memory import blocks as block_cutter
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.companions import Companions, Restorable
from agentmem.memory.incoming import IncomingBlocks, Wanted
from agentmem.memory.reader import ReaderThreads
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import Block, BlockUnreadable
from agentmem.store.keys import BEGINNING, beginning
from agentmem.store.records import CompanionUse
from agentmem.store.store import Store
from agentmem.store.timelinekeys import block_keys
from agentmem.types import BLOCK_TOKENS, BlockKind

MAX_CANDIDATES = 4
"""How many blocks that begin alike are read to find the one that agrees longest."""

MAX_ENDS = 256
"""How many positions are looked at to find one where another agent left a snapshot."""


@dataclass
class _Found:
    """Full blocks that match, from the one at place `base` on, and one more of which the first positions do.

    begin: the first position of the block at `base`.
    """

    base: int
    begin: int
    keys: list[bytes] = field(default_factory=list)
    part: Block | None = None
    part_tokens: int = 0
    bytes_read: int = 0

    @property
    def end(self) -> int:
        """The position behind all that matches."""
        return self.start_of(self.base + len(self.keys)) + self.part_tokens

    def start_of(self, place: int) -> int:
        """The first position of the block at a place."""
        return self.begin + (place - self.base) * BLOCK_TOKENS


class PrefixMatch:
    def __init__(
        self, store: Store, pool: BlockPool, model: LoadedModel, companions: Companions, readers: ReaderThreads
    ) -> None:
        self._store, self._pool, self._model = store, pool, model
        self._companions, self._readers = companions, readers

    def take_over(self, agent: Agent, ids: np.ndarray, draft: TurnDraft) -> Iterator[object]:
        """Extends the agent's state, which holds its timeline, by what is there of ids[agent.tokens:].

        ids: int32, the timeline and what may be taken over. Yields what it needs (`needs`). Counts into draft.usage.
        """
        # A timeline that was just rebuilt has no blocks under this model yet.
        if agent.private or agent.state is None or agent.rebuilt is not None:
            return
        base = agent.grid.place_of(agent.tokens)
        found = _Found(base, agent.grid.start_of(base))
        yield from self._match(agent, ids, found)
        companions = None
        if self._model.layout.has_companions:
            companions = yield from self._where_companions_are(agent, ids, found)
        if found.end <= agent.tokens:
            return
        held = FullLayers(self._model.layout.full)  # so that it stays, whatever others let go of meanwhile
        for span in self._pool.find(found.keys):
            held.hold(span)
        end, hot = found.end, held.offset // BLOCK_TOKENS
        incoming = yield from self._read(agent, ids, found, hot)
        if found.end <= agent.tokens or (companions is not None and found.end != end):
            return
        draft.taken.update(found.keys[: hot + incoming.arrived])
        draft.usage.bytes_read += found.bytes_read
        self._extend(agent.state, found, held, incoming)
        if companions is not None:
            companions.give(agent.state, found.end)
        from_ram = max(0, hot * BLOCK_TOKENS - (agent.tokens - found.begin))
        draft.usage.reused_hot_tokens += from_ram
        draft.usage.reused_warm_tokens += found.end - agent.tokens - from_ram

    def _match(self, agent: Agent, ids: np.ndarray, found: _Found) -> Iterator[object]:
        namespace, state_id = agent.ref.namespace, self._model.state_id
        secret = self._store.namespace(namespace).secret
        first = agent.parent_of(found.base)
        whole = ids[: found.begin + (len(ids) - found.begin) // BLOCK_TOKENS * BLOCK_TOKENS]
        keys = list(block_keys(whole, found.begin, first, secret, state_id, agent.latents))
        found.keys = keys[: self._store.blocks.count_shared(keys)]
        parent = found.keys[-1] if found.keys else first
        start = found.end
        run = ids[start : start + BLOCK_TOKENS]
        own = max(0, agent.tokens - start)
        if len(run) >= own + BEGINNING:
            begins = beginning(secret, parent, state_id, run)
            mine = {use.key for use in agent.blocks}
            others = [k for k in self._store.blocks.beginning(begins, MAX_CANDIDATES + 1) if k not in mine]
            yield from self._match_part(agent, parent, start, run, own, others[:MAX_CANDIDATES], found)

    def _match_part(
        self, agent: Agent, parent: bytes, start: int, run: np.ndarray, own: int, candidates: list[bytes], found: _Found
    ) -> Iterator[object]:
        """Finds the candidate that agrees longest with `run`, by more than what the agent itself holds of it."""
        works = [partial(self._store.blocks.read, agent.ref.namespace, key) for key in candidates]
        with self._readers.reading(works) as reading:
            for _ in candidates:
                try:
                    block, size = yield from reading.next()
                    found.bytes_read += size
                    same = _common(block.ids, run)
                    if same >= max(own, found.part_tokens) + BEGINNING and self._is_same(agent, block, run[:same]):
                        block_cutter.checked(block, parent, start, run[:same], self._model)
                        found.part, found.part_tokens = block, same
                except BlockUnreadable:
                    continue  # its owner's next restore mends it

    def _is_same(self, agent: Agent, block: Block, run: np.ndarray) -> bool:
        """Whether a block begins as the agent's does, latent positions included: their ids alone do not tell."""
        secret = self._store.namespace(agent.ref.namespace).secret
        (key,) = block_keys(run, 0, block.parent, secret, self._model.state_id, agent.latents)
        return key == block.key_of_prefix(secret, len(run))

    def _where_companions_are(
        self, agent: Agent, ids: np.ndarray, found: _Found
    ) -> Generator[object, None, Restorable | None]:
        """Cuts what was found back to a position from which layers with companions can go on; those of that position.

        There are companions where turns end, and a window's for all of a turn's last block. Nothing is left of what
        was found if there is no such position behind the agent's own.
        """
        for end in self._ends(agent, ids, found):
            try:
                part = yield from self._part_before(agent, end, found)
                uses, keys = self._uses(agent, ids[:end], found, part)
                if uses is None:
                    continue
                read = yield from self._companions.read(agent.ref.namespace, ids[:end], agent.latents, keys, uses)
            except BlockUnreadable:
                continue
            found.bytes_read += read.bytes_read
            found.keys = found.keys[: end // BLOCK_TOKENS - found.base]
            found.part, found.part_tokens = part, end % BLOCK_TOKENS
            return read
        found.keys, found.part, found.part_tokens = [], None, 0
        return None

    def _ends(self, agent: Agent, ids: np.ndarray, found: _Found) -> list[int]:
        """Positions of what was found at which there may be companions, the last first."""
        namespace = agent.ref.namespace
        if self._model.layout.recurrent is None:
            ends = self._store.turn_ends(namespace, agent.tokens, found.end, MAX_CANDIDATES)
            return [end for end in (found.end, *ends) if end > agent.tokens]
        keys = [*agent.keys[: found.base], *found.keys]
        snapshots = {
            end: self._companions.use(
                BlockKind.SNAPSHOT,
                (end - 1) // BLOCK_TOKENS,
                self._companions.timeline(namespace, ids[:end], agent.latents, keys),
            )
            for end in self._store.turn_ends(namespace, agent.tokens, found.end, MAX_ENDS)
        }
        return [end for end, snapshot in snapshots.items() if self._store.blocks.shared(snapshot.key)]

    def _part_before(self, agent: Agent, end: int, found: _Found) -> Generator[object, None, Block | None]:
        """The block of which the positions up to `end` are the first ones; None if `end` is on a border."""
        place = end // BLOCK_TOKENS - found.base
        if end % BLOCK_TOKENS == 0:
            return None
        if place == len(found.keys):
            return found.part
        work = partial(self._store.blocks.read, agent.ref.namespace, found.keys[place])
        with self._readers.reading([work]) as reading:
            block, size = yield from reading.next()
        found.bytes_read += size
        return block

    def _uses(
        self, agent: Agent, ids: np.ndarray, found: _Found, part: Block | None
    ) -> tuple[list[CompanionUse] | None, list[bytes]]:
        """The companions of the position behind `ids` that agents share; None if they do not share all. And the keys.

        part: the longer block that holds the last positions. Its window part begins with theirs.
        """
        namespace = agent.ref.namespace
        keys = [*agent.keys[: found.base], *found.keys[: len(ids) // BLOCK_TOKENS - found.base]]
        if part is not None:
            keys.append(part.key)
        uses = []
        for needed in self._companions.needed(self._companions.timeline(namespace, ids, agent.latents, keys)):
            possible = [needed]
            if part is not None and needed.kind is BlockKind.WINDOW and needed.place == len(keys) - 1:
                whole = np.concatenate([ids[: needed.place * BLOCK_TOKENS], part.ids])
                longer = self._companions.timeline(namespace, whole, agent.latents | part.latents, keys)
                possible.append(self._companions.use(BlockKind.WINDOW, needed.place, longer))
            shared = next((use for use in possible if self._store.blocks.shared(use.key)), None)
            if shared is None:
                return None, keys
            uses.append(shared)
        return uses, keys

    def _read(self, agent: Agent, ids: np.ndarray, found: _Found, hot: int) -> Generator[object, None, IncomingBlocks]:
        """Reads the matching blocks that are not in RAM. One that cannot be read ends the match."""
        wanted = []
        for number, key in enumerate(found.keys[hot:], hot):
            start = found.start_of(found.base + number)
            parent = found.keys[number - 1] if number else agent.parent_of(found.base)
            wanted.append(Wanted(key, parent, start, ids[start : start + BLOCK_TOKENS]))
        incoming = IncomingBlocks(self._store, self._model, self._readers, agent.ref.namespace, wanted)
        yield from incoming.allocate()
        with incoming:
            for number in range(hot, len(found.keys)):
                try:
                    found.bytes_read += yield from incoming.next()
                except BlockUnreadable:
                    found.keys, found.part, found.part_tokens = found.keys[:number], None, 0
                    break
        return incoming

    def _extend(self, state: AgentState, found: _Found, held: FullLayers, incoming: IncomingBlocks) -> None:
        """Gives the full layers what was found, in place of what they hold from `base` on."""
        state.full.trim(found.begin)
        state.full.freeze()
        for span in held.spans:
            state.hold(span)
        incoming.give(state)
        if found.part is not None:
            state.extend([block_cutter.rows(found.part, found.part_tokens, self._model)])


def _common(a: np.ndarray, b: np.ndarray) -> int:
    n = min(len(a), len(b))
    differ = np.nonzero(a[:n] != b[:n])[0]
    return int(differ[0]) if len(differ) else n

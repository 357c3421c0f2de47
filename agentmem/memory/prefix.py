"""Prefix match: what an agent is about to be fed is taken over from blocks that hold the same ids already.

Whole blocks are matched by key, the last one token by token: attention is causal, so the first positions of a longer
block are what computing them would give. Only blocks that some agent shares with its namespace are looked at, and a
part is taken over only if it saves BEGINNING positions: computing fewer is quicker than reading a block.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np

from agentmem.kv.pool import BlockPool
from agentmem.memory import blocks as block_cutter
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import BlockUnreadable
from agentmem.store.keys import BEGINNING, beginning
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS

MAX_CANDIDATES = 4
"""How many blocks that begin alike are read to find the one that agrees longest."""

Arrays = dict[str, np.ndarray]


@dataclass
class _Found:
    """Full blocks that match, and the first positions of one more."""

    keys: list[bytes] = field(default_factory=list)
    part: Arrays | None = None
    part_tokens: int = 0
    bytes_read: int = 0


class PrefixMatch:
    def __init__(self, store: Store, pool: BlockPool, model: LoadedModel) -> None:
        self._store, self._pool, self._model = store, pool, model

    def take_over(self, agent: Agent, ids: np.ndarray, draft: TurnDraft) -> Iterator[None]:
        """Extends the agent's state, which holds its timeline, by what is there of ids[agent.tokens:].

        ids: int32, the timeline and what may be taken over. Yields between reads. Counts into draft.usage.
        """
        if agent.private or agent.state is None:
            return
        base = agent.tokens // BLOCK_TOKENS
        found = _Found()
        yield from self._match(agent, base, ids, found)
        if not found.keys and found.part is None:
            return
        hot = self._pool.count(found.keys)
        read = yield from self._read(agent, base, ids, found, hot)
        covered = (base + hot + len(read)) * BLOCK_TOKENS + found.part_tokens
        if covered <= agent.tokens:
            return
        state, own = agent.state, agent.tokens - base * BLOCK_TOKENS
        state.trim(base * BLOCK_TOKENS)
        state.freeze()
        for span in self._pool.find(found.keys[:hot]):
            state.hold(span)
        state.extend([*read, *([found.part] if found.part is not None else [])])
        draft.taken.update(found.keys[: hot + len(read)])
        from_ram = max(0, hot * BLOCK_TOKENS - own)
        draft.usage.reused_hot_tokens += from_ram
        draft.usage.reused_warm_tokens += covered - agent.tokens - from_ram
        draft.usage.bytes_read += found.bytes_read

    def _match(self, agent: Agent, base: int, ids: np.ndarray, found: _Found) -> Iterator[None]:
        namespace, state_id = agent.ref.namespace, self._model.state_id
        secret = self._store.namespace(namespace).secret
        first = agent.parent_of(base)
        whole = ids[: len(ids) // BLOCK_TOKENS * BLOCK_TOKENS]
        keys = list(block_cutter.keys_of(whole, base * BLOCK_TOKENS, first, secret, state_id))
        found.keys = keys[: self._store.blocks.count_shared(keys)]
        parent = found.keys[-1] if found.keys else first
        start = (base + len(found.keys)) * BLOCK_TOKENS
        run = ids[start : start + BLOCK_TOKENS]
        own = max(0, agent.tokens - start)
        if len(run) >= own + BEGINNING:
            begins = beginning(secret, parent, state_id, run)
            mine = {use.key for use in agent.blocks}
            others = [k for k in self._store.blocks.beginning(begins, MAX_CANDIDATES + 1) if k not in mine]
            yield from self._match_part(agent, parent, start, run, own, others[:MAX_CANDIDATES], found)

    def _match_part(
        self, agent: Agent, parent: bytes, start: int, run: np.ndarray, own: int, candidates: list[bytes], found: _Found
    ) -> Iterator[None]:
        """Finds the candidate that agrees longest with `run`, by more than what the agent itself holds of it."""
        for key in candidates:
            yield
            try:
                block, size = self._store.blocks.read(agent.ref.namespace, key)
                found.bytes_read += size
                same = _common(block.ids, run)
                if same >= max(own, found.part_tokens) + BEGINNING:
                    found.part = block_cutter.checked(block, parent, start, run[:same], self._model)
                    found.part_tokens = same
            except BlockUnreadable:
                continue  # its owner's next restore mends it

    def _read(
        self, agent: Agent, base: int, ids: np.ndarray, found: _Found, hot: int
    ) -> Generator[None, None, list[Arrays]]:
        """Reads the matching blocks that are not in RAM. One that cannot be read ends the match."""
        read: list[Arrays] = []
        known = self._store.blocks.known(found.keys[hot:])
        for place, key in enumerate(found.keys[hot:], base + hot):
            yield
            start = place * BLOCK_TOKENS
            parent = found.keys[place - base - 1] if place > base else agent.parent_of(base)
            try:
                block, size = self._store.blocks.read(agent.ref.namespace, key, known)
                read.append(block_cutter.checked(block, parent, start, ids[start : start + BLOCK_TOKENS], self._model))
                found.bytes_read += size
            except BlockUnreadable:
                found.part, found.part_tokens = None, 0
                break
        return read


def _common(a: np.ndarray, b: np.ndarray) -> int:
    n = min(len(a), len(b))
    differ = np.nonzero(a[:n] != b[:n])[0]
    return int(differ[0]) if len(differ) else n

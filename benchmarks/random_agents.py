"""Agents whose state is random numbers, fed to the store as the daemon feeds it: prefill takes too long on a CPU."""

from __future__ import annotations

import time
from concurrent.futures import wait
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import mlx.core as mx
import numpy as np

from agentmem.kv.layout import AttentionLayout, StateLayout
from agentmem.kv.state import AgentState
from agentmem.memory.incoming import IncomingBlocks, Wanted
from agentmem.memory.reader import ReaderThreads
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import Block, RawTensor
from agentmem.store.records import BlockUse, TurnRecord
from agentmem.store.store import Store
from agentmem.store.timelinekeys import block_keys
from agentmem.types import BLOCK_TOKENS, BlockKind, Exactness, Timings, TurnKind, Usage

LAYOUT = AttentionLayout(layers=8, kv_heads=4, head_dim=64, group_size=64, dtype=mx.float32)
VOCAB = 500
READERS = ReaderThreads()


@dataclass(frozen=True)
class Identity:
    """Whose state it says that it is."""

    state_id: str = "random"
    tokenizer_id: str = "tokenizer"
    numerics: str = "reference"


class RandomAgent:
    """layout: the shape of its state."""

    def __init__(
        self,
        store: Store,
        name: str,
        identity: Identity = Identity(),  # noqa: B008
        seed: int = 0,
        layout: AttentionLayout = LAYOUT,
    ) -> None:
        self._layout = layout
        self.store, self.row, self._identity = store, store.create_agent("default", name), identity
        self._rng = np.random.default_rng(seed)
        self._ids = np.zeros(0, np.int32)
        self._uses: list[BlockUse] = []
        self._rows: dict[int, dict[str, np.ndarray]] = {}

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self._ids.tolist())

    def turn(self, tokens: int) -> int:
        """Adds a turn of random state; bytes written."""
        start, base = len(self._ids), len(self._ids) // BLOCK_TOKENS
        new = self._rng.integers(5, VOCAB, tokens).astype(np.int32)
        self._ids = np.concatenate([self._ids, new])
        secret = self.store.namespace("default").secret
        parent = self._uses[base - 1].key if base else b""
        state_id = self._identity.state_id
        blocks, uses = [], []
        keys = block_keys(self._ids, base * BLOCK_TOKENS, parent, secret, state_id, {})
        for place, key in enumerate(keys, base):
            ids = self._ids[place * BLOCK_TOKENS : (place + 1) * BLOCK_TOKENS]
            blocks.append(self._block(place, key, parent, ids))
            uses.append(BlockUse(key, len(ids)))
            parent = key
        record = TurnRecord(
            self.row.id, "default", self.row.name, self.row.turn + 1, TurnKind.APPEND, start, len(self._ids), state_id,
            self._identity.tokenizer_id, base, tuple(uses), new, (), False, None, "", Exactness.EXACT, "", time.time(),
            Usage(), Timings(), 0, (),
        )  # fmt: skip
        written = self.store.commit(record, blocks)
        self._uses = [*self._uses[:base], *uses]
        row = self.store.agent("default", self.row.name)
        assert row is not None
        self.row = row
        return written

    def _block(self, place: int, key: bytes, parent: bytes, ids: np.ndarray) -> Block:
        if place not in self._rows:
            self._rows[place] = {n: self._random(n) for n in self._layout.tensors}
        tensors = {}
        for name, rows in self._rows[place].items():
            part = np.ascontiguousarray(rows[:, :, : len(ids)])
            tensors[name] = RawTensor("U32" if name.endswith("weight") else "F32", part.shape, part)
        return Block(
            key, parent, self._identity.state_id, BlockKind.TEXT, place * BLOCK_TOKENS, ids, tensors,
            self._identity.numerics, self._layout.group_size, self._layout.bits,
        )  # fmt: skip

    def _random(self, name: str) -> np.ndarray:
        shape = self._layout.shape(name)
        if name.endswith("weight"):
            return self._rng.integers(0, 2**32, shape, dtype=np.uint32)
        return self._rng.standard_normal(shape, dtype=np.float32) / 50

    def restore(self) -> AgentState:
        """As `Restorer.restore` does."""
        uses = self.store.history(self.row.id).timeline()
        wanted, parent = [], b""
        for start, use in zip(range(0, len(self._ids), BLOCK_TOKENS), uses, strict=True):
            wanted.append(Wanted(use.key, parent, start, self._ids[start : start + use.used]))
            parent = use.key
        layout = StateLayout.of_full(self._layout)
        model = cast(LoadedModel, SimpleNamespace(layout=layout, state_id=self._identity.state_id))
        incoming, state = IncomingBlocks(self.store, model, READERS, "default", wanted), AgentState(model.layout)
        for _ in incoming.allocate():
            pass
        with incoming:
            for _ in wanted:
                for need in incoming.next():
                    wait(need.futures)
        incoming.give(state)
        return state

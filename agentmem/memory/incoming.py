"""A run of blocks that is not in RAM, on its way there."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from agentmem.kv.layers import Tensors
from agentmem.kv.openspan import OpenSpan
from agentmem.kv.state import AgentState
from agentmem.memory import blocks as block_cutter
from agentmem.memory.needs import Wait
from agentmem.memory.reader import ReaderThreads
from agentmem.model.loader import LoadedModel
from agentmem.store.rows import BlockRow
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS


@dataclass(frozen=True, eq=False)
class Wanted:
    """A block of a timeline, or its first positions: their ids, int32."""

    key: bytes
    parent: bytes
    start: int
    ids: np.ndarray


class IncomingBlocks:
    """Read and verified by the reader threads, in the order in which they are wanted; all but the last are full.

    arrived: how many of them are there. To be used in a `with`, once `allocate` was gone through.
    """

    def __init__(
        self,
        store: Store,
        model: LoadedModel,
        readers: ReaderThreads,
        namespace: str,
        wanted: Sequence[Wanted],
        known: Mapping[bytes, BlockRow] | None = None,
    ) -> None:
        """known: of the blocks, if the catalog is not who knows them."""
        self._store, self._model, self._namespace = store, model, namespace
        self._span = OpenSpan(model.layout.full, sum(len(one.ids) == BLOCK_TOKENS for one in wanted))
        self._known = store.blocks.known([one.key for one in wanted]) if known is None else known
        self._reading = readers.reading((partial(self._read, *one) for one in enumerate(wanted)), self._span)
        self._last: Tensors | None = None
        self.arrived = 0

    def allocate(self) -> Iterator[None]:
        return self._span.allocate()

    def __enter__(self) -> IncomingBlocks:
        self._reading.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.__exit__()

    def _read(self, number: int, one: Wanted) -> tuple[int, Tensors | None]:
        """On a reader thread. The bytes read, and the rows if they are not a full block's."""
        tensors, size = block_cutter.read(
            self._store, self._namespace, one.key, self._known, one.parent, one.start, one.ids, self._model
        )
        if number >= self._span.segments:
            return size, tensors
        self._span.put(number, tensors)
        return size, None

    def next(self) -> Generator[Wait, None, int]:
        """Waits for the next block; the bytes read. Raises BlockUnreadable: then it may be `put`."""
        size, self._last = yield from self._reading.next()
        self.arrived += 1
        return size

    def put(self, tensors: Tensors) -> None:
        """Takes these rows in place of the block that could not be read."""
        if self.arrived < self._span.segments:
            self._span.put(self.arrived, tensors)
        else:
            self._last = tensors
        self.arrived += 1

    def lend(self, state: AgentState) -> None:
        """Has a state go on with what has arrived, all full blocks, while the others come in."""
        if self.arrived:
            state.hold(self._span.head(self.arrived))

    def give(self, state: AgentState) -> None:
        """Has a state go on with what has arrived, once and for all."""
        if full := min(self.arrived, self._span.segments):
            state.hold(self._span.close(full))
        if self._last is not None:
            state.extend([self._last])

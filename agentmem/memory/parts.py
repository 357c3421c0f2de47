"""Parts of agents' timelines, to be put into others': what they are, and their state, from RAM or from the disk."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.kv import splicing
from agentmem.kv.placed import UNUSED
from agentmem.kv.pool import BlockPool
from agentmem.kv.splicing import Taken
from agentmem.kv.state import AgentState
from agentmem.memory.agent import Agent
from agentmem.memory.incoming import IncomingBlocks, wanted_of
from agentmem.memory.reader import ReaderThreads
from agentmem.memory.turning import Turning
from agentmem.memory.writer import until_done
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import BlockUnreadable
from agentmem.store.grid import is_spliced
from agentmem.store.keys import keyed_digest
from agentmem.store.latents import Latents, embeddings_of, key_of, kind_of
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS


class Source(NamedTuple):
    """A block that a part has positions of. key: of those up to the part's end: what follows does not matter."""

    place: int
    key: bytes


@dataclass(frozen=True, eq=False)
class Part:
    """Positions [start, end) of an agent's timeline, as it is now.

    key: equal ones mean equal parts. unclosed: it ends within a message, whose closing text it lacks.
    """

    agent: Agent
    start: int
    end: int
    ids: np.ndarray
    latents: Latents
    sources: tuple[Source, ...]
    key: bytes
    unclosed: bool

    def __len__(self) -> int:
        return self.end - self.start


class PartState(NamedTuple):
    """The state of a part alone, at positions from 0 on.

    rows: of each segment in it, in order: int64 [256], those positions, or UNUSED. shifts: see `Taken`.
    sources: keys of the blocks that they are of. hot: whether it was in RAM. bytes_read: from disk.
    """

    state: AgentState
    rows: list[np.ndarray]
    shifts: list[int]
    sources: list[bytes]
    hot: bool
    bytes_read: int


class Parts:
    def __init__(
        self, store: Store, pool: BlockPool, model: LoadedModel, readers: ReaderThreads, turning: Turning
    ) -> None:
        self._store, self._pool, self._model = store, pool, model
        self._readers, self._turning = readers, turning

    def of(self, agent: Agent, start: int, end: int, unclosed: bool = False) -> Part:
        """Positions [start, end) of an agent of this model. They must be there. unclosed: as `Part` has it."""
        begins = agent.starts
        spans = [(run.place, run.end) for run in agent.splices]
        sources = []
        for place, use in enumerate(agent.blocks):
            # Blocks of one splice have its positions together.
            first, last = next(((a, b) for a, b in spans if a <= place < b), (place, place + 1))
            if begins[first] < end and begins[last] > start:
                sources.append(Source(place, self._key(agent, place, use.key, begins[place], min(end, begins[last]))))
        ids = agent.ids[start:end]
        latents = {id_: agent.latents[id_] for id_ in ids[ids < 0].tolist()}
        secret = self._store.namespace(agent.ref.namespace).secret
        border = f"{start} {end}".encode()
        key = keyed_digest(secret, b"agentmem.part.1", border, *(source.key for source in sources))
        return Part(agent, start, end, ids, latents, tuple(sources), key, unclosed)

    def _key(self, agent: Agent, place: int, key: bytes, begin: int, end: int) -> bytes:
        if is_spliced(place, agent.splices):
            return key
        own = agent.ids[begin:end]
        secret, parent = self._store.namespace(agent.ref.namespace).secret, agent.parent_of(place)
        embeddings = embeddings_of(own, agent.latents)
        return key_of(secret, parent, self._model.state_id, kind_of(own), own, embeddings)

    def state_of(self, part: Part) -> Generator[Any, None, PartState]:
        """Spans are shared with the agent where it is hot. Yields what it needs (`needs`).

        Raises BLOCK_UNRECOVERABLE if a block cannot be read: the agent's next restore mends it.
        """
        agent, read, places = part.agent, 0, [source.place for source in part.sources]
        hot = agent.state is not None
        if agent.state is not None:
            # So that spans are cut where the part begins and ends, and nothing else is kept with it.
            self._pool.find(agent.full_keys[places[0] : places[-1] + 1])
            taken = splicing.take(agent.state.full, part.start, part.end)
        else:
            taken, read = yield from self._read(part, places)
        rows, shifts, sources = [], [], [source.key for source in part.sources]
        own: list[Taken] = []
        for span, there, shift in taken:
            inside = (there >= part.start) & (there < part.end)
            if not inside.any():
                continue
            here = np.where(inside, there - part.start, UNUSED)
            own.append(Taken(span, here, shift - part.start))
            for segment in here.reshape(-1, BLOCK_TOKENS):
                if (segment != UNUSED).any():
                    rows.append(segment)
                    shifts.append(shift - part.start)
        state = AgentState(self._model.layout)
        splicing.place(state.full, own, self._turning.frequencies)
        return PartState(state, rows, shifts, self._of_rows(part, rows, sources), hot, read)

    def _of_rows(self, part: Part, rows: Sequence[np.ndarray], sources: list[bytes]) -> list[bytes]:
        """The source of each segment: that of the block it is. Some blocks of a splice may have no row of the part."""
        if len(rows) == len(sources):
            return sources
        # Which they are only the rows tell; so each is said to be of all of the part's blocks.
        secret = self._store.namespace(part.agent.ref.namespace).secret
        return [keyed_digest(secret, b"agentmem.part.1", *sources)] * len(rows)

    def _read(self, part: Part, places: list[int]) -> Generator[Any, None, tuple[list[Taken], int]]:
        agent, first = part.agent, places[0]
        yield from until_done(agent.outstanding)  # or else their blocks would be missing
        if places != list(range(first, first + len(places))):
            raise ValueError("the blocks of a part follow one another")
        uses = agent.blocks[first : first + len(places)]
        incoming = IncomingBlocks(
            self._store,
            self._model,
            self._readers,
            agent.ref.namespace,
            list(wanted_of(agent, uses, first)),
            placed_from=0,
            to_grow=False,
        )
        yield from incoming.allocate()
        read = 0
        with incoming:
            try:
                for _ in uses:
                    read += yield from incoming.next()
            except BlockUnreadable as fault:
                raise AgentmemError(
                    Reason.BLOCK_UNRECOVERABLE,
                    f"a block of agent {agent.ref.name!r} is {fault.reason.lower()}: prefetch that agent, which "
                    "computes it again, and repeat",
                    agent=agent.ref.name,
                ) from fault
        return incoming.taken(), read

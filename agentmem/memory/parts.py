"""Parts of agents' timelines, to be put into others': what they are, and their state, from RAM or from the disk."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from agentmem.errors import AgentmemError
from agentmem.kv import splicing
from agentmem.kv.placed import UNUSED
from agentmem.kv.pool import BlockPool
from agentmem.kv.splicing import Taken
from agentmem.kv.state import AgentState
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.incoming import IncomingBlocks, wanted_of
from agentmem.memory.reader import ReaderThreads
from agentmem.memory.restoring import Restorer
from agentmem.memory.turning import Turning
from agentmem.memory.writer import until_done
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import BlockUnreadable
from agentmem.store.grid import is_spliced
from agentmem.store.keys import keyed_digest
from agentmem.store.latents import Latents, embeddings_of, key_of, kind_of
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS, Usage, Warning

NONE = np.zeros(0, np.int64)
"""No positions."""


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

    @property
    def alone(self) -> Agent:
        """What its agent's timeline is up to the last block that the part has positions of, without state."""
        agent, places = self.agent, self.sources[-1].place + 1
        return replace(
            agent,
            blocks=agent.blocks[:places],
            ids=agent.ids[: agent.starts[places]],
            splices=tuple(run for run in agent.splices if run.end <= places),
            state=None,
        )


class PartState(NamedTuple):
    """The state of a part alone, at positions from 0 on.

    rows: of each segment in it, in order: int64 [256], those positions, or UNUSED. shifts: see `Taken`.
    sources: keys of the blocks that they are of. hot: whether it was in RAM. bytes_read: from disk.
    computed: those of its positions that were lost, and were computed again.
    """

    state: AgentState
    rows: list[np.ndarray]
    shifts: list[int]
    sources: list[bytes]
    hot: bool
    bytes_read: int
    computed: np.ndarray


class Parts:
    def __init__(
        self,
        store: Store,
        pool: BlockPool,
        model: LoadedModel,
        readers: ReaderThreads,
        turning: Turning,
        restorer: Restorer,
    ) -> None:
        self._store, self._pool, self._model = store, pool, model
        self._readers, self._turning = readers, turning
        self._restorer = restorer

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

    def state_of(self, part: Part) -> Generator[Any, None, PartState | None]:
        """None if a block of it cannot be read: then `restored` has it.

        Spans are shared with the agent where it is hot. Yields what it needs (`needs`).
        """
        if part.agent.state is not None:
            return self._laid(part, self._taken(part, part.agent), hot=True)
        read = yield from self._read(part)
        return None if read is None else self._laid(part, read[0], bytes_read=read[1])

    def restored(self, part: Part, draft: TurnDraft) -> Generator[Any, None, PartState]:
        """The same of a part that is cold: its agent's timeline up to there is restored, as for a turn of the agent.

        What is lost of it is computed again, put back on the disk, and counted in the draft. The agent may have a turn
        meanwhile: it stays as it is. There must be room in RAM for that timeline besides.

        Raises BLOCK_UNRECOVERABLE for a lost block of a splice, which nothing could compute again.
        """
        alone, made = part.alone, TurnDraft(draft.kind, "")
        with _naming(part.agent):
            yield from self._restorer.restore(alone, made)
        assert alone.state is not None
        self._pool.note(alone.state, alone.full_keys)
        try:
            taken = self._taken(part, alone)
        finally:
            self._pool.release(alone.state)
        draft.usage.recomputed_tokens += made.usage.recomputed_tokens
        draft.usage.bytes_written += made.usage.bytes_written
        draft.warnings += [_of_agent(part.agent, warning) for warning in made.warnings]
        return self._laid(part, taken, bytes_read=made.usage.bytes_read, computed=_computed(part, made.usage))

    def _taken(self, part: Part, agent: Agent) -> list[Taken]:
        """Its rows of what a hot agent's state holds."""
        assert agent.state is not None
        self._pool.cut_out(agent.state, part.start, part.end)  # so that nothing else is kept with it
        return splicing.take(agent.state.full, part.start, part.end)

    def _laid(
        self,
        part: Part,
        taken: Sequence[Taken],
        hot: bool = False,
        bytes_read: int = 0,
        computed: np.ndarray = NONE,
    ) -> PartState:
        """What was taken, in a state of its own."""
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
        return PartState(state, rows, shifts, self._of_rows(part, rows, sources), hot, bytes_read, computed)

    def _of_rows(self, part: Part, rows: Sequence[np.ndarray], sources: list[bytes]) -> list[bytes]:
        """The source of each segment: that of the block it is. Some blocks of a splice may have no row of the part."""
        if len(rows) == len(sources):
            return sources
        # Which they are only the rows tell; so each is said to be of all of the part's blocks.
        secret = self._store.namespace(part.agent.ref.namespace).secret
        return [keyed_digest(secret, b"agentmem.part.1", *sources)] * len(rows)

    def _read(self, part: Part) -> Generator[Any, None, tuple[list[Taken], int] | None]:
        """What of its blocks is taken from the disk, and the bytes read; None if one cannot be read."""
        agent, places = part.agent, [source.place for source in part.sources]
        yield from until_done(agent.outstanding)  # or else their blocks would be missing
        first = places[0]
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
            except BlockUnreadable:
                return None
        return incoming.taken(), read


def _computed(part: Part, usage: Usage) -> np.ndarray:
    """Which positions of a part, from 0 on, were computed again."""
    ranges = [np.arange(miss.position, miss.position + miss.tokens) for miss in usage.misses]
    positions = np.concatenate([NONE, *ranges])
    return positions[(positions >= part.start) & (positions < part.end)] - part.start


def _of_agent(agent: Agent, warning: Warning) -> Warning:
    return Warning(warning.reason, f"of agent {agent.ref.name!r}: {warning.message}")


@contextmanager
def _naming(agent: Agent) -> Iterator[None]:
    """Has an error that is about another agent than the request's say so."""
    try:
        yield
    except AgentmemError as error:
        message = f"agent {agent.ref.name!r}, of which a part is to be spliced: {error.message}"
        raise AgentmemError(error.reason, message, **{**error.metadata, "agent": agent.ref.name}) from error

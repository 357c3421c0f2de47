"""An agent in the engine's hands: its timeline, and its attention state while it is hot."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from agentmem.kv.state import AgentState
from agentmem.store.blockfile import Block
from agentmem.store.grid import Grid, SpliceRun, grid, starts
from agentmem.store.latents import latent_id
from agentmem.store.layout import RawTensor
from agentmem.store.placement import Placement
from agentmem.store.records import BlockUse, CompanionUse, TurnRecord
from agentmem.types import (
    BLOCK_TOKENS,
    AgentRef,
    Exactness,
    FinishReason,
    Timings,
    TurnKind,
    TurnMessage,
    Usage,
    Warning,
)


def _no_ids() -> np.ndarray:
    return np.zeros(0, np.int32)


@dataclass
class TurnDraft:
    """A turn on its way to being committed. `ids` are the new ones; message positions are the timeline's."""

    kind: TurnKind
    request_id: str
    ids: list[int] = field(default_factory=list)
    messages: list[TurnMessage] = field(default_factory=list)
    unclosed: bool = False
    finish_reason: FinishReason | None = None
    stop_sequence: str = ""
    seed: int = 0
    exactness: Exactness = Exactness.EXACT
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)
    warnings: list[Warning] = field(default_factory=list)
    taken: set[bytes] = field(default_factory=set)
    """Keys of blocks that were there already and were taken over whole: they need not be written."""
    ahead: dict[bytes, Future[int] | None] = field(default_factory=dict)
    """Keys of its leading full blocks that have been looked at, and what comes of writing them; None if taken over."""
    durable: bool = True
    placements: list[Placement] = field(default_factory=list)
    """Of the last of its ids, which the splice put there, a block each."""
    parts: list[tuple[int, int]] = field(default_factory=list)
    """See `TurnRecord`."""

    @property
    def writes(self) -> dict[bytes, Future[int]]:
        """The blocks that are written ahead, but for those of which it is known that they cannot be."""
        writes = ((key, write) for key, write in self.ahead.items() if write is not None)
        return {key: write for key, write in writes if not (write.done() and write.exception())}

    def begin_again(self) -> None:
        """Forgets what it has, but not what that cost: what was fed will be computed again."""
        spent = replace(self, warnings=[])
        spent.usage.recomputed_tokens += spent.usage.prefill_tokens
        self.ids, self.taken, self.usage = [], set(), Usage(exactness=spent.usage.exactness)
        self.add_cost(spent)

    def add_cost(self, other: TurnDraft) -> None:
        """Counts what another draft read, computed again and mended as this one's."""
        mine, more = self.usage, other.usage
        mine.bytes_read += more.bytes_read
        mine.bytes_written += more.bytes_written
        mine.recomputed_tokens += more.recomputed_tokens
        mine.misses += more.misses
        self.warnings += other.warnings


@dataclass
class Unsaved:
    """A turn that is in RAM only. since: by the monotonic clock.

    companions: those of its end that no turn before had; the state has moved on.
    saving: what comes of its commit, if the writer thread has it; None while the disk does not take it.
    """

    record: TurnRecord
    draft: TurnDraft
    companions: tuple[Block, ...] = ()
    since: float = field(default_factory=time.monotonic)
    saving: Future[int] | None = None

    @property
    def saved(self) -> bool:
        """Whether it is on the disk after all; the executor will take note."""
        return self.saving is not None and self.saving.done() and self.saving.exception() is None


@dataclass
class Agent:
    """Owned by the executor thread. `ids` holds the timeline's, int32 [tokens]; negative where it is latent."""

    ref: AgentRef
    id: str
    turn: int = 0
    state_id: str = ""
    tokenizer_id: str = ""
    blocks: list[BlockUse] = field(default_factory=list)
    companions: tuple[CompanionUse, ...] = ()
    ids: np.ndarray = field(default_factory=_no_ids)
    latents: dict[int, RawTensor] = field(default_factory=dict)
    """What was fed at latent positions, by the ids that stand for it; those of the running turn included."""
    unclosed: bool = False
    exactness: Exactness = Exactness.EXACT
    splices: tuple[SpliceRun, ...] = ()
    pinned: bool = False
    private: bool = False
    state: AgentState | None = None
    unsaved: list[Unsaved] = field(default_factory=list)
    """Turns that the disk does not have yet, oldest first. `turn`, `ids` and `blocks` include them."""
    committing: bool = False
    """Whether a turn is about to be handed to the writer thread, as soon as that has room."""
    rebuilt: TurnDraft | None = None
    """Set while `state` holds the timeline as recomputed under another model, not committed yet."""

    @property
    def tokens(self) -> int:
        return len(self.ids)

    def add_latent(self, embedding: RawTensor) -> int:
        """The id that stands for an embedding [width] from now on."""
        id_ = latent_id(embedding, self.latents)
        self.latents[id_] = embedding
        return id_

    @property
    def is_latent(self) -> bool:
        """Whether any position is latent."""
        return bool((self.ids < 0).any())

    @property
    def latent_bytes(self) -> int:
        """Bytes of RAM that the embeddings of latent positions take; those of records that nobody saves as well.

        Any thread may ask.
        """
        rows = list(self.latents.values())  # at once: another may be added
        held = len(rows) * rows[0].data.nbytes if rows else 0
        return held + sum(one.record.embedding_bytes for one in list(self.unsaved) if one.saving is None)

    @property
    def keys(self) -> list[bytes]:
        """Keys of the timeline's blocks."""
        return [use.key for use in self.blocks]

    @property
    def outstanding(self) -> list[Future[int]]:
        """Commits that the writer thread has, oldest first."""
        return [one.saving for one in list(self.unsaved) if one.saving is not None]

    @property
    def waiting(self) -> list[Unsaved]:
        """Turns that the disk does not have. Any thread may ask."""
        return [one for one in list(self.unsaved) if not one.saved]

    @property
    def stuck(self) -> bool:
        """Whether a turn is in RAM that the writer thread does not have: the disk did not take it."""
        return not self.committing and any(one.saving is None for one in self.unsaved)

    @property
    def has_unsaved_splice(self) -> bool:
        """Whether only RAM has what a splice put into the timeline."""
        return any(one.draft.placements for one in self.waiting)

    @property
    def last_begin(self) -> int:
        """Where the block begins that goes on behind the timeline's end, which may be there."""
        return self.grid.start_of(self.grid.place_of(self.tokens))

    @property
    def full_keys(self) -> list[bytes]:
        """Keys of the timeline's full blocks, from position 0 on, before any splice."""
        whole = self.blocks[: self.splices[0].place] if self.splices else self.blocks
        return [use.key for use in whole if use.used == BLOCK_TOKENS]

    @property
    def grid(self) -> Grid:
        """Where what follows goes on."""
        return grid([use.used for use in self.blocks], self.splices) if self.splices else Grid()

    @property
    def starts(self) -> list[int]:
        """The first position of each block, and the end."""
        return starts(use.used for use in self.blocks)

    @property
    def padding(self) -> int:
        """Rows of the segments in RAM that have no positions, but for those of the last."""
        place = self.splices[-1].end if self.splices else 0
        return sum(BLOCK_TOKENS - use.used for use in self.blocks[:place])

    def parent_of(self, place: int) -> bytes:
        """The key of the block before the one at `place`; b"" for the first."""
        return self.blocks[place - 1].key if place else b""

"""An agent's turns as its record files alone tell them, for when the catalog is lost or not to be believed.

A chain is verified from its beginning on, which is turn 1 or the last FORK turn: each record's keyed digest covers the
record before, and each must be a turn that could have been committed there. It ends before the first record that fails;
nothing behind it is believed, but for a FORK turn, which stands on its own and takes the place of all turns before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from agentmem.errors import AgentmemError
from agentmem.store import commit as rules
from agentmem.store.files import read_file
from agentmem.store.folder import StateFolder
from agentmem.store.grid import is_spliced
from agentmem.store.keys import beginning
from agentmem.store.latents import embeddings_of, key_of, kind_of
from agentmem.store.layout import RawTensor, parse_json
from agentmem.store.placement import KEPT
from agentmem.store.records import MAX_RECORD_BYTES, BlockUse, CompanionUse, RecordUnreadable, TurnRecord, decode
from agentmem.store.rows import AgentRow
from agentmem.store.sealing import Sealer
from agentmem.types import BLOCK_TOKENS, BlockKind, TurnKind

MAX_FILE_BYTES = 3 * MAX_RECORD_BYTES // 2
"""Of any record that is written, sealed in base64 or not: a planted file must not make anyone allocate more."""

_AGENT = re.compile(r"[0-9a-f]{32}")
RECORD = re.compile(r"([0-9]{8,})\.json")


@dataclass(frozen=True)
class Link:
    """A sound record and its file."""

    path: Path
    bytes: int
    record: TurnRecord


@dataclass
class Chain:
    """The sound turns of one agent from where its history begins, and the last one's timeline.

    fault: why turn `faulty`, the next, is not sound; None if there is none.
    """

    agent_id: str
    links: list[Link] = field(default_factory=list)
    timeline: list[BlockUse] = field(default_factory=list)
    fault: str | None = None
    faulty: int = 0

    @property
    def last(self) -> int:
        """The number of the last turn, 0 if there is none."""
        return self.links[-1].record.number if self.links else 0

    def follow(self, link: Link) -> None:
        """Adds the next turn; a FORK turn begins the chain anew. Raises RecordUnreadable if it cannot be that."""
        record = link.record
        begins = record.kind is TurnKind.FORK
        last = None if begins or not self.links else self.links[-1].record
        agent = AgentRow(
            id=self.agent_id,
            namespace=(last or record).namespace,
            name=(last or record).agent_name,
            created=record.created,
            last_used=record.created,
            turn=last.number if last else 0,
            tokens=last.end if last else 0,
            state_id=record.state_id,
            exactness=record.exactness,
        )
        kept = self.timeline[: record.base_blocks] if last else []
        if record.agent_id != self.agent_id or record.previous != (last.digest if last else b""):
            raise RecordUnreadable(f"the file of turn {record.number} does not continue the turn before")
        try:
            rules.check(
                replace(record, number=1) if begins else record,
                agent,
                kept,
                {use.key: use.used for use in (*record.blocks, *record.companions)},
            )
        except (AgentmemError, ValueError):
            raise RecordUnreadable(f"the file of turn {record.number} is no turn that could come there") from None
        if begins:
            self.links.clear()
        self.links.append(link)
        self.timeline = [*kept, *record.blocks]


def read_chain(folder: StateFolder, agent_id: str, secret: bytes, sealer: Sealer) -> Chain:
    """The newest chain that verifies.

    A record that is not in its place may lie among those set aside, where it counts if it continues the chain. A FORK
    record there counts only if the chain ends without it: most likely a crash kept it from taking the others' place.
    """
    chain = Chain(agent_id)
    recorded = numbers(folder.records(agent_id))
    newest = recorded[-1] if recorded else 0
    while True:
        number = chain.last + 1
        fault = _follow(chain, folder.record(agent_id, number), secret, sealer)
        if fault is None or _follow(chain, folder.record_aside(agent_id, number), secret, sealer, fork=False) is None:
            continue
        if chain.links and chain.last >= newest:
            return chain
        later = _later(folder, agent_id, chain.last)
        if any(_follow(chain, path, secret, sealer, fork=True) is None for path in later):
            continue
        if number <= newest:
            chain.fault, chain.faulty = fault, number
            # Turn 1 is not amiss where a FORK record took its place.
            first = None if chain.links else _unsound(folder.record(agent_id, recorded[0]), secret, sealer)
            if first is not None:
                chain.fault, chain.faulty = first, recorded[0]
        return chain


def _later(folder: StateFolder, agent_id: str, number: int) -> list[Path]:
    """Records behind turn `number`: those in their place first, and of each sort the newest."""
    in_place = [folder.record(agent_id, one) for one in numbers(folder.records(agent_id)) if one > number]
    aside = [folder.record_aside(agent_id, one) for one in numbers(folder.records_aside(agent_id)) if one > number]
    return [*reversed(in_place), *reversed(aside)]


def _follow(chain: Chain, path: Path, secret: bytes, sealer: Sealer, fork: bool | None = None) -> str | None:
    """Adds the record in a file; what is wrong with it if it can't. fork: whether it must be a FORK, None: either."""
    try:
        link = read_link(path, secret, sealer)
        if fork is not None and fork is not (link.record.kind is TurnKind.FORK):
            return "a record of another kind"
        chain.follow(link)
    except RecordUnreadable as error:
        return error.detail
    return None


def _unsound(path: Path, secret: bytes, sealer: Sealer) -> str | None:
    """What is wrong with a record by itself."""
    try:
        read_link(path, secret, sealer)
    except RecordUnreadable as error:
        return error.detail
    return None


def read_link(path: Path, secret: bytes, sealer: Sealer) -> Link:
    """A record by itself. Raises RecordUnreadable."""
    size, data = read_record_file(path, sealer)
    record = decode(data, secret)
    if record.number != int(path.stem):
        raise RecordUnreadable(f"the file of turn {int(path.stem)} is another turn's")
    return Link(path, size, record)


def is_fork(path: Path, sealer: Sealer) -> bool:
    """Whether a file says that it is a FORK record: it need not be one of this store."""
    try:
        return bool(parse_json(read_record_file(path, sealer)[1])["body"]["kind"] == TurnKind.FORK.value)
    except (RecordUnreadable, ValueError, TypeError, KeyError):
        return False


def read_record_file(path: Path, sealer: Sealer) -> tuple[int, bytes]:
    """The size of a record's file and the record in it, unverified. Raises RecordUnreadable."""
    try:
        size = path.lstat().st_size
        if size > MAX_FILE_BYTES:
            raise ValueError(f"{size} bytes")
        return size, sealer.open_record(path.parent.name, int(path.stem), read_file(path, size))
    except FileNotFoundError:
        raise RecordUnreadable(f"the file of turn {int(path.stem)} is missing") from None
    except (OSError, ValueError) as error:
        raise RecordUnreadable(f"the file of turn {int(path.stem)} cannot be read ({type(error).__name__})") from None


def agent_ids(folder: Path) -> list[str]:
    """Those that have a folder of records in `folder`, in order."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _AGENT.fullmatch(entry.name) and entry.is_dir())


def numbers(folder: Path) -> list[int]:
    """The numbers of the record files in a folder, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for name in os.listdir(folder) if (match := RECORD.fullmatch(name)))


@dataclass(frozen=True)
class Entry:
    """A turn as it is entered in the catalog.

    beginnings: how the turn's blocks begin, by key. longer: the longer block for each partial
    block that the turn makes needless.
    """

    link: Link
    beginnings: dict[bytes, bytes]
    longer: dict[bytes, bytes]


def entries(chain: Chain, secret: bytes) -> Iterator[Entry]:
    """Each turn with what its commit found at the time.

    A longer block's first positions are a partial block exactly if their ids lead to its key: no file is read.
    """
    timeline: list[BlockUse] = []
    companions: tuple[CompanionUse, ...] = ()
    ids = np.empty(0, np.int32)
    latents: dict[int, RawTensor] = {}
    for link in chain.links:
        record = link.record
        kept, dropped = timeline[: record.base_blocks], timeline[record.base_blocks :]
        if record.kind is TurnKind.REWIND:
            dropped, companions = [], ()  # What a turn before still uses stays as it is.
        ids = np.concatenate([ids[: record.start], record.ids])
        latents |= record.latents
        entry = Entry(link, {}, {})
        position, parent = sum(use.used for use in kept), kept[-1].key if kept else b""
        for place, use in enumerate(record.blocks, record.base_blocks):
            own = ids[position : position + use.used]
            begins = KEPT if is_spliced(place, record.splices) else beginning(secret, parent, record.state_id, own)
            entry.beginnings[use.key] = begins
            for old in dropped if begins != KEPT else ():
                own = ids[position : position + old.used]
                key = key_of(secret, parent, record.state_id, kind_of(own), own, embeddings_of(own, latents))
                if old.used < use.used and key == old.key:
                    entry.longer[old.key] = use.key
            position, parent = position + use.used, use.key
        timeline = [*kept, *record.blocks]
        places = {use.place: use for use in record.companions if use.kind is BlockKind.WINDOW}
        for before in companions:
            now = places.get(before.place)
            if before.kind is not BlockKind.WINDOW or now is None or before.used >= now.used:
                continue
            parent = timeline[now.place - 1].key if now.place else b""
            own = ids[now.place * BLOCK_TOKENS :][: before.used]
            embeddings = embeddings_of(own, latents)
            if before.key == key_of(secret, parent, record.state_id, BlockKind.WINDOW, own, embeddings):
                entry.longer[before.key] = now.key
        companions = record.companions
        yield entry

"""An agent's turns as its record files alone tell them, for when the catalog is lost or not to be believed.

A chain is verified from turn 1 on: each record's keyed digest covers the record before, and each must be a turn that
could have been committed there. It ends before the first record that fails; nothing behind it is believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agentmem.errors import AgentmemError
from agentmem.store import commit as rules
from agentmem.store.blockfile import id_bytes
from agentmem.store.files import read_file
from agentmem.store.folder import StateFolder
from agentmem.store.keys import block_key
from agentmem.store.records import BlockUse, RecordUnreadable, TurnRecord, decode
from agentmem.store.rows import AgentRow
from agentmem.types import BlockKind, Exactness

MAX_RECORD_BYTES = 1 << 28
"""Far above the record of a million tokens: a planted file must not make anyone allocate more."""

_AGENT = re.compile(r"[0-9a-f]{32}")
_RECORD = re.compile(r"([0-9]{8,})\.json")


@dataclass(frozen=True)
class Link:
    """A sound record and its file."""

    path: Path
    bytes: int
    record: TurnRecord


@dataclass
class Chain:
    """The sound turns of one agent from turn 1 on, and the last one's timeline. fault: why the next is not sound."""

    agent_id: str
    links: list[Link] = field(default_factory=list)
    timeline: list[BlockUse] = field(default_factory=list)
    fault: str | None = None

    def follow(self, link: Link) -> None:
        """Adds the next turn. Raises RecordUnreadable if it cannot be that."""
        record = link.record
        first, last = (self.links[0].record, self.links[-1].record) if self.links else (record, None)
        agent = AgentRow(
            id=self.agent_id,
            namespace=first.namespace,
            name=first.agent_name,
            created=first.created,
            last_used=record.created,
            turn=len(self.links),
            tokens=last.end if last else 0,
            state_id=record.state_id,
            exactness=Exactness.EXACT,
        )
        kept = self.timeline[: record.base_blocks]
        if record.agent_id != self.agent_id or record.previous != (last.digest if last else b""):
            raise RecordUnreadable(f"the file of turn {agent.turn + 1} does not continue the turn before")
        try:
            rules.check(record, agent, kept, {use.key: use.used for use in record.blocks})
        except (AgentmemError, ValueError):
            raise RecordUnreadable(f"the file of turn {agent.turn + 1} is no turn that could come there") from None
        self.links.append(link)
        self.timeline = [*kept, *record.blocks]


def read_chain(folder: StateFolder, agent_id: str, secret: bytes) -> Chain:
    """A record that is not in its place may lie among those set aside, where it counts if it continues the chain."""
    chain = Chain(agent_id)
    last = max(numbers(folder.records(agent_id)), default=0)
    while chain.fault is None:
        number = len(chain.links) + 1
        fault = _follow(chain, folder.record(agent_id, number), secret)
        if fault is not None and _follow(chain, folder.record_aside(agent_id, number), secret) is not None:
            if number > last:
                return chain
            chain.fault = fault
    return chain


def _follow(chain: Chain, path: Path, secret: bytes) -> str | None:
    """Adds the record in a file; what is wrong with it if it can't."""
    try:
        chain.follow(read_link(path, secret))
    except RecordUnreadable as error:
        return error.detail
    return None


def read_link(path: Path, secret: bytes) -> Link:
    """A record by itself. Raises RecordUnreadable."""
    data = read_record_file(path)
    return Link(path, len(data), decode(data, secret))


def read_record_file(path: Path) -> bytes:
    """The bytes of a record file, unverified. Raises RecordUnreadable."""
    try:
        size = path.lstat().st_size
        if size > MAX_RECORD_BYTES:
            raise ValueError(f"{size} bytes")
        return read_file(path, size)
    except FileNotFoundError:
        raise RecordUnreadable(f"the file of turn {int(path.stem)} is missing") from None
    except (OSError, ValueError) as error:
        raise RecordUnreadable(f"the file of turn {int(path.stem)} cannot be read ({type(error).__name__})") from None


def agent_ids(folder: Path) -> list[str]:
    """Those that have a folder of records in `folder`, in order."""
    return sorted(path.name for path in folder.iterdir() if _AGENT.fullmatch(path.name) and path.is_dir())


def numbers(folder: Path) -> list[int]:
    """The numbers of the record files in a folder, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _RECORD.fullmatch(path.name)))


def superseding(chain: Chain, secret: bytes) -> Iterator[tuple[Link, dict[bytes, bytes]]]:
    """Each turn, and the longer block for each partial block that it makes needless: what `commit` found at the time.

    A longer block's first positions are the partial block exactly if their ids lead to its key: no file is read.
    """
    timeline: list[BlockUse] = []
    ids = np.empty(0, np.int32)
    for link in chain.links:
        record = link.record
        kept, dropped = timeline[: record.base_blocks], timeline[record.base_blocks :]
        ids = np.concatenate([ids[: record.start], record.ids])
        longer: dict[bytes, bytes] = {}
        position, parent = sum(use.used for use in kept), kept[-1].key if kept else b""
        for use in record.blocks:
            for old in dropped:
                prefix = id_bytes(ids[position : position + old.used])
                key = block_key(secret, parent, record.state_id, BlockKind.TEXT, prefix)
                if old.used < use.used and key == old.key:
                    longer[old.key] = use.key
            position, parent = position + use.used, use.key
        timeline = [*kept, *record.blocks]
        yield link, longer

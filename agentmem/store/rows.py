"""What the catalog answers: plain rows."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from enum import Enum

from agentmem.store.records import TurnRecord
from agentmem.types import AgentRef, Exactness, Share

CREATE, UPDATE, EVICT, DELETE = "CREATE", "UPDATE", "EVICT", "DELETE"
DELETE_NAMESPACE = "DELETE_NAMESPACE"
"""Operations under which request ids are remembered; of a turn it is its kind, of pruning see `PrunedKind`."""


class Unchanged(Enum):
    """The type of UNCHANGED: leave it as it is, where None is a value of its own."""

    UNCHANGED = "UNCHANGED"


UNCHANGED = Unchanged.UNCHANGED


@dataclass(frozen=True)
class AgentRow:
    """An agent and its last turn. created, last_used, expires (None: never): Unix seconds. tokens: of the timeline."""

    id: str
    namespace: str
    name: str
    created: float
    last_used: float
    turn: int
    tokens: int
    state_id: str
    exactness: Exactness
    share: Share = Share.NAMESPACE
    pinned: bool = False
    expires: float | None = None

    @classmethod
    def new(cls, namespace: str, name: str) -> AgentRow:
        """An agent that is made now, and has no turn."""
        now = time.time()
        return cls(secrets.token_hex(16), namespace, name, now, now, 0, 0, "", Exactness.EXACT)


@dataclass(frozen=True)
class BlockRow:
    """A block file: its bytes, the positions in it, how it begins (`keys.beginning`), and its seal (`sealing`)."""

    size: int
    tokens: int
    beginning: bytes
    seal: bytes = b""


@dataclass(frozen=True)
class TurnRow:
    """What a turn's record must be. tokens: at its end. previous: the digest of the turn before, or b""."""

    tokens: int
    record_bytes: int
    digest: bytes
    previous: bytes


@dataclass(frozen=True)
class NewTurn:
    """A turn whose files are written. blocks: those written for it, by key."""

    record: TurnRecord
    record_bytes: int
    digest: bytes
    blocks: dict[bytes, BlockRow]


@dataclass(frozen=True)
class RequestRow:
    """What a request id did, to which agent ("" for several), and what that agent's last turn was then.

    agent_name: for DELETE a keyed digest of it, for DELETE_NAMESPACE one of that name: the names are forgotten.
    freed: pairs of a turn and of bytes, as the operation's result has them; without names.
    """

    operation: str
    agent_name: str
    turn: int = 0
    freed: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Deleted:
    """An agent that was forgotten. keys: of the blocks nobody else uses. freed_bytes: of these and its records."""

    agent: AgentRow
    keys: tuple[bytes, ...]
    freed_bytes: int


@dataclass(frozen=True)
class DeletedNamespace:
    """agents: how many went with it. freed_bytes: of their records, and of their blocks."""

    agents: int
    freed_bytes: int


class EventKind(str, Enum):
    """What the daemon did on its own, or refused."""

    STARTED = "STARTED"
    STOPPED = "STOPPED"
    RAM_EVICTED = "RAM_EVICTED"
    RAM_REFUSED = "RAM_REFUSED"
    DISK_EVICTED = "DISK_EVICTED"
    DISK_REFUSED = "DISK_REFUSED"
    BLOCK_QUARANTINED = "BLOCK_QUARANTINED"
    BLOCK_RECOMPUTED = "BLOCK_RECOMPUTED"
    NOT_DURABLE = "NOT_DURABLE"
    SAVED = "SAVED"
    STUCK = "STUCK"
    UNSTUCK = "UNSTUCK"


@dataclass(frozen=True)
class NewEvent:
    """Something to note. It names an agent by its id (None: no agent there is) and holds nothing that was said.

    nbytes: that came free, or were asked for. Positions [start, end), 0 and 0 if there are none. created: Unix seconds.
    """

    number: int
    created: float
    kind: EventKind
    agent_id: str | None
    reason: str
    nbytes: int
    start: int
    end: int


@dataclass(frozen=True)
class Event:
    """As noted. number: they count up. kind: an EventKind, or a later version's. agent: None if it names none."""

    number: int
    created: float
    kind: str
    agent: AgentRef | None
    reason: str
    nbytes: int
    start: int
    end: int


@dataclass(frozen=True)
class GivenUp:
    """An agent whose state on disk went. freed_bytes: of blocks that no agent uses which stays, once it and all before
    it in the list are given up."""

    agent: AgentRef
    agent_id: str
    freed_bytes: int


class PrunedKind(str, Enum):
    AGENT = "AGENT"
    TURN = "TURN"
    ORPHAN = "ORPHAN"

    @property
    def operation(self) -> str:
        """Under which the request id of a call that prunes such is remembered."""
        return f"PRUNE_{self.value}"


@dataclass(frozen=True)
class Pruned:
    """What pruning drops: an agent whose last turn is `turn`, that one turn of it, or files of nobody's.

    agent: None for orphans, and for agents in the answer to a repeat: their names are forgotten.

    freed_bytes: of its records, and of the blocks that are in use no more once it and all before it in the list go.
    """

    kind: PrunedKind
    agent: AgentRef | None
    turn: int
    freed_bytes: int


@dataclass(frozen=True)
class Standing:
    """Bytes of an agent's blocks, shared ones included, and records; whether its timeline lacks a block's file."""

    disk_bytes: int
    lacks_blocks: bool


@dataclass(frozen=True)
class AgentUsage:
    """Bytes of an agent: of blocks that it alone uses, that it shares with others, and of its turn records."""

    agent: str
    exclusive_bytes: int
    shared_bytes: int
    record_bytes: int


@dataclass(frozen=True)
class NamespaceUsage:
    """A namespace's agents, by name. shared_bytes: of blocks that several of them use, each counted once."""

    namespace: str
    agents: tuple[AgentUsage, ...]
    shared_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.shared_bytes + sum(agent.exclusive_bytes + agent.record_bytes for agent in self.agents)


@dataclass(frozen=True)
class DiskUsage:
    """Bytes of all files that may grow. budget: what blocks and records may take; None if nobody has said so.

    orphaned: of those that nobody refers to, removed at the next open.

    quarantined: of unsound blocks and unproven records set aside.
    catalog: of the database, its log, and old ones.
    """

    namespaces: tuple[NamespaceUsage, ...]
    orphaned_bytes: int
    quarantined_bytes: int
    catalog_bytes: int
    budget_bytes: int | None = None

    @property
    def total_bytes(self) -> int:
        kept = sum(namespace.total_bytes for namespace in self.namespaces)
        return kept + self.orphaned_bytes + self.quarantined_bytes + self.catalog_bytes

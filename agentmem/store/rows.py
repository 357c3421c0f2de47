"""What the catalog answers: plain rows."""

from __future__ import annotations

from dataclasses import dataclass

from agentmem.types import Exactness

DELETE = "DELETE"
"""The operation under which a deletion's request id is remembered; a turn's is its kind."""


@dataclass(frozen=True)
class AgentRow:
    """An agent and its last turn. created, last_used: Unix seconds. tokens: positions of the timeline."""

    id: str
    namespace: str
    name: str
    created: float
    last_used: float
    turn: int
    tokens: int
    state_id: str
    exactness: Exactness


@dataclass(frozen=True)
class BlockRow:
    """A block file: its size, and the positions in it."""

    bytes: int
    tokens: int


@dataclass(frozen=True)
class TurnRow:
    """What a turn's record must be. previous: the digest of the turn before, b"" for the first."""

    tokens: int
    record_bytes: int
    digest: bytes
    previous: bytes


@dataclass(frozen=True)
class RequestRow:
    """What a request id did. operation: the kind of the turn it made, or DELETE."""

    operation: str
    agent_name: str
    turn: int
    freed_bytes: int = 0


@dataclass(frozen=True)
class Deleted:
    """What a deletion left without a user. freed_bytes: of these blocks and the agent's records."""

    keys: tuple[bytes, ...]
    freed_bytes: int

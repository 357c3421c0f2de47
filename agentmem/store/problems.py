"""What is found damaged, in words for people: whose it is and why, never what it says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ProblemKind(StrEnum):
    """CATALOG: it contradicts the records. ORPHAN: a file that nothing refers to."""

    NAMESPACE = "NAMESPACE"
    RECORD = "RECORD"
    BLOCK = "BLOCK"
    CATALOG = "CATALOG"
    ORPHAN = "ORPHAN"


@dataclass(frozen=True)
class Problem:
    """namespace, agent: names, "" where nobody can tell. turn: the first that is affected, 0 if none is."""

    kind: ProblemKind
    reason: str
    namespace: str = ""
    agent: str = ""
    turn: int = 0

"""What a SPLICE block is: rows that were computed elsewhere, as they were stored there, and where they are put.

Its key is made of this description, which says all that its rows depend on; so it is never found by its ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agentmem.store.keys import KEY_BYTES, keyed_digest
from agentmem.store.latents import payload_of
from agentmem.store.layout import RawTensor
from agentmem.types import BLOCK_TOKENS

UNUSED = -1
"""In place of the position of a row that is not used, and not stored."""

KEPT = b"SPLICE"
"""In place of how a block begins: it is nobody's beginning. Nor is it given up: ids do not tell how to compute it."""

MOST_SHIFT = 1 << 31

FIELDS = {"shift", "operation", "params", "source", "splice"}


@dataclass(frozen=True, eq=False)
class Placement:
    """rows: int32 [256], the position of each row of the segment, or UNUSED. The block holds the others, in order.

    shift: from the positions that its keys are rotated for to those. operation: REPOSITION or BLEND. params: of that,
    as JSON. source: the key of the block that the rows are from; b"" if they were computed for the splice.
    splice: a keyed digest of the whole operation, all parts, in order, and its parameters; b"" if the rows do not
    depend on it.
    """

    rows: np.ndarray
    shift: int
    operation: str
    params: str
    source: bytes
    splice: bytes

    @property
    def used(self) -> np.ndarray:
        """Which rows of the segment the block holds, in order."""
        return np.nonzero(self.rows != UNUSED)[0]

    @property
    def positions(self) -> np.ndarray:
        """Those of the rows that the block holds."""
        return self.rows[self.used]

    @property
    def metadata(self) -> dict[str, str]:
        """All but the rows, as a block file says it."""
        return {
            "shift": str(self.shift),
            "operation": self.operation,
            "params": self.params,
            "source": self.source.hex(),
            "splice": self.splice.hex(),
        }

    def payload(self, ids: np.ndarray, embeddings: RawTensor | None = None) -> bytes:
        """What of the key is this block's. ids, embeddings: of its positions, in order."""
        said = json.dumps(self.metadata, sort_keys=True, separators=(",", ":")).encode()
        own = payload_of(ids, embeddings)
        return np.ascontiguousarray(self.rows, "<i4").tobytes() + len(own).to_bytes(8, "little") + own + said

    def under(self, secret: bytes) -> Placement:
        """The same for a copy that leaves its namespace: nothing there tells which blocks it was made of."""

        def hidden(digest: bytes) -> bytes:
            return keyed_digest(secret, b"agentmem.source.1", digest) if digest else b""

        return replace(self, source=hidden(self.source), splice=hidden(self.splice))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Placement):
            return NotImplemented
        return np.array_equal(self.rows, other.rows) and self.metadata == other.metadata

    __hash__ = None  # type: ignore[assignment]


def parsed(rows: np.ndarray, metadata: Mapping[str, str]) -> Placement:
    """The reverse of `rows` and `metadata`. Raises ValueError for what none has."""
    used = rows[rows != UNUSED]
    if rows.shape != (BLOCK_TOKENS,) or (used < 0).any() or len(np.unique(used)) != len(used):
        raise ValueError("the rows of a splice are not positions")
    source, splice = (bytes.fromhex(metadata[name]) for name in ("source", "splice"))
    if not {len(splice), len(source)} <= {0, KEY_BYTES}:
        raise ValueError("a splice names no keys")
    shift = int(metadata["shift"])
    if abs(shift) > MOST_SHIFT:
        raise ValueError("a splice moves further than there are positions")
    placement = Placement(rows, shift, metadata["operation"], metadata["params"], source, splice)
    if placement.metadata != {name: metadata[name] for name in FIELDS}:
        raise ValueError("a splice is not spelled as it must be")
    return placement


def params(**values: Any) -> str:
    """Those of an operation, in their one spelling."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)

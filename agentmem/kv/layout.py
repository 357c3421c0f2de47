"""What one position of attention state looks like in this model: the shape of everything kv and store hold.

Layers are of three kinds. Full attention keeps every position; its state is what blocks hold. A windowed layer sees the
last positions only, and a recurrent one keeps a state of fixed size: what these need to go on from a position is held
and stored beside the blocks, as window parts and snapshots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import mlx.core as mx

from agentmem.types import BLOCK_TOKENS

BITS = 4
PARTS = ("weight", "scales", "biases")


class LayerKind(str, Enum):
    """Its value is how the names of its tensors begin."""

    FULL = "attn"
    WINDOW = "window"
    RECURRENT = "recurrent"


@dataclass(frozen=True)
class AttentionLayout:
    """Equal attention layers: their number, heads, and how their keys and values are quantised."""

    layers: int
    kv_heads: int
    head_dim: int
    group_size: int
    dtype: mx.Dtype
    bits: int = BITS

    kind = LayerKind.FULL

    @staticmethod
    def group_size_for(head_dim: int) -> int | None:
        """The largest quantisation group that divides the head, or None if there is none (96 allows 32; 80 none)."""
        return next((g for g in (64, 32) if head_dim % g == 0), None)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of a block's tensors, each [layers, kv_heads, tokens, width]."""
        return tuple(f"{self.kind.value}.{side}.{part}" for side in ("k", "v") for part in PARTS)

    @property
    def widths(self) -> dict[str, int]:
        """Last dimension of each part."""
        groups = self.head_dim // self.group_size
        return {"weight": self.head_dim * self.bits // 32, "scales": groups, "biases": groups}

    def part_dtype(self, part: str) -> mx.Dtype:
        return mx.uint32 if part == "weight" else self.dtype

    def dtype_of(self, name: str) -> mx.Dtype:
        """Of tensor `name`."""
        return self.part_dtype(name.rsplit(".", 1)[1])

    @property
    def bytes_per_token(self) -> int:
        per_head = sum(width * self.part_dtype(part).size for part, width in self.widths.items())
        return 2 * self.layers * self.kv_heads * per_head

    def shape(self, name: str, tokens: int = BLOCK_TOKENS) -> tuple[int, ...]:
        """Shape of tensor `name` in a block of `tokens` positions."""
        return (self.layers, self.kv_heads, tokens, self.widths[name.rsplit(".", 1)[1]])


@dataclass(frozen=True)
class WindowLayout(AttentionLayout):
    """Equal windowed layers. window: positions that a query sees, its own included."""

    window: int = 0

    kind = LayerKind.WINDOW

    def reach(self, position: int) -> int:
        """The first block border whose segment a query at `position` or behind may see.

        Counted from the border at or before the position, so that what is kept for one position of a block is enough
        for all positions of that block.
        """
        first = position // BLOCK_TOKENS * BLOCK_TOKENS - self.window + 1
        return max(0, first) // BLOCK_TOKENS * BLOCK_TOKENS


@dataclass(frozen=True)
class RecurrentLayout:
    """Equal recurrent layers. shapes: of each array of one layer's state, without the batch axis."""

    layers: int
    shapes: tuple[tuple[int, ...], ...]
    dtype: mx.Dtype

    kind = LayerKind.RECURRENT
    group_size = bits = 0  # a state is as small whole

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of a snapshot's tensors, each [layers, *shape]."""
        return tuple(f"{self.kind.value}.{slot}" for slot in range(len(self.shapes)))

    def dtype_of(self, name: str) -> mx.Dtype:
        return self.dtype

    def shape(self, name: str, tokens: int = 0) -> tuple[int, ...]:
        """The same for any number of positions."""
        return (self.layers, *self.shapes[int(name.rsplit(".", 1)[1])])

    @property
    def nbytes(self) -> int:
        return self.layers * sum(math.prod(shape) for shape in self.shapes) * self.dtype.size


@dataclass(frozen=True)
class StateLayout:
    """All layers of a model. kinds: of each, in the model's order. Every model covered has full attention somewhere."""

    kinds: tuple[LayerKind, ...]
    full: AttentionLayout
    window: WindowLayout | None = None
    recurrent: RecurrentLayout | None = None

    @property
    def has_companions(self) -> bool:
        """Whether going on from a position needs more than the blocks before it."""
        return self.window is not None or self.recurrent is not None

    @classmethod
    def of_full(cls, full: AttentionLayout) -> StateLayout:
        return cls((LayerKind.FULL,) * full.layers, full)

    @property
    def policy(self) -> str:
        """What of this goes into the state id."""
        return repr(self) if self.has_companions else repr(self.full)

    def most_bytes(self, positions: int, full_positions: int) -> int:
        """Bytes that so many positions take at the most. full_positions: what the full layers' arrays have room for."""
        held = full_positions * self.full.bytes_per_token
        if self.window is not None:
            # Those that the turn's beginning sees, those that its end sees, and the segments that are being filled.
            most = 2 * self.window.window + 6 * BLOCK_TOKENS
            held += min(-(-positions // BLOCK_TOKENS) * BLOCK_TOKENS, most) * self.window.bytes_per_token
        if self.recurrent is not None:
            held += 2 * self.recurrent.nbytes
        return held

"""What one position of attention state looks like in this model: the shape of everything kv and store hold."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from agentmem.types import BLOCK_TOKENS

BITS = 4
PARTS = ("weight", "scales", "biases")
TENSORS = tuple(f"attn.{side}.{part}" for side in ("k", "v") for part in PARTS)
"""Names of a block's tensors, each [layers, kv_heads, tokens, width]."""


@dataclass(frozen=True)
class AttentionLayout:
    """Equal full-attention layers: their number, heads, and how their keys and values are quantised."""

    layers: int
    kv_heads: int
    head_dim: int
    group_size: int
    dtype: mx.Dtype
    bits: int = BITS

    @staticmethod
    def group_size_for(head_dim: int) -> int | None:
        """The largest quantisation group that divides the head, or None if there is none (96 allows 32; 80 none)."""
        return next((g for g in (64, 32) if head_dim % g == 0), None)

    @property
    def widths(self) -> dict[str, int]:
        """Last dimension of each part."""
        groups = self.head_dim // self.group_size
        return {"weight": self.head_dim * self.bits // 32, "scales": groups, "biases": groups}

    def dtype_of(self, part: str) -> mx.Dtype:
        return mx.uint32 if part == "weight" else self.dtype

    @property
    def bytes_per_token(self) -> int:
        per_head = sum(width * self.dtype_of(part).size for part, width in self.widths.items())
        return 2 * self.layers * self.kv_heads * per_head

    def shape(self, name: str, tokens: int = BLOCK_TOKENS) -> tuple[int, int, int, int]:
        """Shape of tensor `name` in a block of `tokens` positions."""
        return (self.layers, self.kv_heads, tokens, self.widths[name.rsplit(".", 1)[1]])

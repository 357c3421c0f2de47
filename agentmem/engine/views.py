"""What callers see of the model, of turns, and of what was done to memory. Sizes are bytes, times Unix seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from agentmem.kv.layout import LayerKind, StateLayout, WindowLayout
from agentmem.model import numerics
from agentmem.model.loader import LoadedModel
from agentmem.model.prefill import LOGIT_TOLERANCE
from agentmem.types import Exactness, FinishReason, TurnKind, TurnMessage


@dataclass(frozen=True)
class LayerInfo:
    """What a run of equal layers got. kv_heads to group_size: 0 for recurrent layers; window: 0 for full attention."""

    first: int
    last: int
    kind: str
    kv_heads: int = 0
    head_dim: int = 0
    bits: int = 0
    group_size: int = 0
    window: int = 0


def _layers(layout: StateLayout) -> Iterator[LayerInfo]:
    """Runs of layers of one kind, first to last."""
    for kind, places in groupby(range(len(layout.kinds)), lambda place: layout.kinds[place]):
        first, *others = places
        last = others[-1] if others else first
        attention = layout.window if kind is LayerKind.WINDOW else layout.full
        if kind is LayerKind.RECURRENT or attention is None:
            yield LayerInfo(first, last, "recurrent")
            continue
        yield LayerInfo(
            first,
            last,
            "sliding_attention" if kind is LayerKind.WINDOW else "full_attention",
            attention.kv_heads,
            attention.head_dim,
            attention.bits,
            attention.group_size,
            attention.window if isinstance(attention, WindowLayout) else 0,
        )


@dataclass(frozen=True)
class ModelInfo:
    name: str
    architecture: str
    state_id: str
    tokenizer_id: str
    context_limit: int
    numerics: str
    prefill_path: str
    logit_tolerance: float
    device: str
    compute_dtype: str
    layers: tuple[LayerInfo, ...]
    bytes: int
    bytes_per_token: int

    @classmethod
    def of(cls, model: LoadedModel) -> ModelInfo:
        layout = model.layout
        return cls(
            name=model.name,
            architecture=model.architecture,
            state_id=model.state_id,
            tokenizer_id=model.tokenizer_id,
            context_limit=model.context_limit,
            numerics=model.numerics,
            prefill_path=model.prefill.value,
            logit_tolerance=0.0 if model.numerics == numerics.REFERENCE else LOGIT_TOLERANCE,
            device=numerics.device(),
            compute_dtype=str(layout.full.dtype).rsplit(".", 1)[-1],
            layers=tuple(_layers(layout)),
            bytes=model.bytes,
            bytes_per_token=layout.full.bytes_per_token,
        )


@dataclass(frozen=True)
class TurnView:
    """A committed turn. created: Unix seconds; positions [start, end)."""

    number: int
    kind: TurnKind
    start: int
    end: int
    created: float
    finish_reason: FinishReason | None
    exactness: Exactness
    request_id: str
    messages: tuple[TurnMessage, ...]


@dataclass(frozen=True)
class Diff:
    """Where two timelines part.

    position: the first at which they differ, or the length of the shorter one if the longer one only goes on.
    a_turn, b_turn: the turns that hold it; 0 for a timeline that ends there.
    a_tokens, b_tokens: the lengths. All three numbers are equal if the timelines are.
    """

    position: int
    a_turn: int
    b_turn: int
    a_tokens: int
    b_tokens: int


@dataclass(frozen=True)
class Evicted:
    """What an eviction frees. disk_bytes: 0 unless it goes to COLD."""

    ram_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class Prefetched:
    """Positions that were in RAM already, were restored, or had to be computed again; bytes read from disk."""

    hot_tokens: int
    warm_tokens: int
    recomputed_tokens: int
    bytes_read: int


@dataclass(frozen=True)
class NamespaceView:
    """agents: how many it has."""

    name: str
    created: float
    agents: int

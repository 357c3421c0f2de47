"""Between attention state in RAM and blocks on disk: cutting, checking, handing back."""

from __future__ import annotations

from collections.abc import Mapping

import mlx.core as mx
import numpy as np

from agentmem.kv import splicing
from agentmem.kv.layers import Tensors
from agentmem.kv.layout import AttentionLayout, RecurrentLayout
from agentmem.kv.splicing import Segment
from agentmem.kv.state import AgentState
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import Block, BlockUnreadable, RawTensor
from agentmem.store.latents import Latents, embeddings_of, kind_of
from agentmem.store.placement import UNUSED, Placement
from agentmem.store.rows import BlockRow
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS, BlockKind

DTYPES = {mx.uint32: "U32", mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16"}


def cut(
    state: AgentState,
    ids: np.ndarray,
    latents: Latents,
    start: int,
    key: bytes,
    parent: bytes,
    model: LoadedModel,
    companion: BlockKind | None = None,
) -> Block:
    """The block at `start`, on a block border, as the state holds it; or its companion of a kind.

    ids, latents: the timeline's.
    """
    payload = np.ascontiguousarray(ids[start : start + BLOCK_TOKENS], np.int32)
    layout = _layout(model, companion)
    arrays = state.group(layout.kind).read(start, start + len(payload))
    return Block(
        key=key,
        parent=parent,
        state_id=model.state_id,
        kind=companion or kind_of(payload),
        start=start,
        ids=payload,
        tensors={n: RawTensor(DTYPES[layout.dtype_of(n)], a.shape, a) for n, a in arrays.items()},
        numerics=model.numerics,
        group_size=layout.group_size,
        bits=layout.bits,
        embeddings=embeddings_of(payload, latents),
    )


def cut_placed(
    state: AgentState,
    ids: np.ndarray,
    latents: Latents,
    start: int,
    key: bytes,
    parent: bytes,
    model: LoadedModel,
    segment: Segment,
    placement: Placement,
) -> Block:
    """A block of a splice, as the state holds it in a segment. ids, latents: the timeline's."""
    if not np.array_equal(np.where(segment.rows == splicing.UNUSED, UNUSED, segment.rows), placement.rows):
        raise ValueError("the state holds other rows than the splice has put there")
    own, layout = np.ascontiguousarray(ids[placement.positions], np.int32), model.layout.full
    arrays = {name: np.ascontiguousarray(rows) for name, rows in splicing.read(state.full, segment).items()}
    return Block(
        key=key,
        parent=parent,
        state_id=model.state_id,
        kind=BlockKind.SPLICE,
        start=start,
        ids=own,
        tensors={n: RawTensor(DTYPES[layout.dtype_of(n)], a.shape, a) for n, a in arrays.items()},
        numerics=model.numerics,
        group_size=layout.group_size,
        bits=layout.bits,
        embeddings=embeddings_of(own, latents),
        placement=placement,
    )


def checked(
    block: Block, parent: bytes, start: int, ids: np.ndarray, model: LoadedModel, companion: BlockKind | None = None
) -> Tensors:
    """The block's arrays for its first len(ids) positions, once it is what the timeline says it is. Any thread.

    Raises BlockUnreadable: FOREIGN if it is another block, CORRUPT if its tensors are not this model's.
    """
    same = (block.companion, block.parent, block.start, block.state_id) == (companion, parent, start, model.state_id)
    if not same or block.placement or len(block.ids) < len(ids) or not np.array_equal(block.ids[: len(ids)], ids):
        raise BlockUnreadable("FOREIGN", "the block belongs to another timeline")
    return _arrays(block, len(ids), model, companion)


def _arrays(block: Block, count: int, model: LoadedModel, companion: BlockKind | None = None) -> Tensors:
    """Those of its first `count` positions. Raises BlockUnreadable, CORRUPT, if they are not this model's."""
    tokens, layout = len(block.ids), _layout(model, companion)
    for name in layout.tensors:
        tensor = block.tensors.get(name)
        if tensor is None or tensor.shape != layout.shape(name, tokens):
            raise BlockUnreadable("CORRUPT", f"{name} has another shape than this model's")
        if tensor.dtype != DTYPES[layout.dtype_of(name)]:
            raise BlockUnreadable("CORRUPT", f"{name} has another dtype than this model's")
    return rows(block, count, model)


def read(
    store: Store,
    namespace: str,
    key: bytes,
    known: Mapping[bytes, BlockRow],
    parent: bytes,
    start: int,
    ids: np.ndarray,
    model: LoadedModel,
    companion: BlockKind | None = None,
) -> tuple[Tensors, int]:
    """The `checked` arrays of a block in the store, and the bytes read. known: as the store gave it. Any thread."""
    block, size = store.blocks.read(namespace, key, known)
    return checked(block, parent, start, ids, model, companion), size


def read_placed(
    store: Store,
    namespace: str,
    key: bytes,
    known: Mapping[bytes, BlockRow],
    parent: bytes,
    start: int,
    timeline: np.ndarray,
    model: LoadedModel,
) -> tuple[Tensors, Placement, int]:
    """The arrays of a splice's block in the store, where its rows stand, and the bytes read. Any thread.

    timeline: the ids of the timeline. Raises BlockUnreadable, as `checked` does.
    """
    block, size = store.blocks.read(namespace, key, known)
    placed = block.placement
    if placed is None or (block.parent, block.start, block.state_id) != (parent, start, model.state_id):
        raise BlockUnreadable("FOREIGN", "the block belongs to another timeline")
    if placed.positions.max() >= len(timeline) or not np.array_equal(timeline[placed.positions], block.ids):
        raise BlockUnreadable("FOREIGN", "the block belongs to another timeline")
    return _arrays(block, block.tokens, model), placed, size


def rows(block: Block, count: int, model: LoadedModel) -> Tensors:
    """The arrays of a checked block's first `count` positions; a snapshot's are all of them."""
    names = _layout(model, block.companion).tensors
    if block.kind is BlockKind.SNAPSHOT:
        return {name: block.tensors[name].data for name in names}
    return {name: block.tensors[name].data[:, :, :count] for name in names}


def _layout(model: LoadedModel, companion: BlockKind | None) -> AttentionLayout | RecurrentLayout:
    """Of the layers whose state a block, or such a companion, holds."""
    layouts = {BlockKind.WINDOW: model.layout.window, BlockKind.SNAPSHOT: model.layout.recurrent}
    layout = model.layout.full if companion is None else layouts[companion]
    if layout is None:
        raise BlockUnreadable("FOREIGN", "the model has no such layers")
    return layout

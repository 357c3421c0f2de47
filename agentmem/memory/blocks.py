"""Between attention state in RAM and blocks on disk: cutting, checking, handing back."""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from agentmem.kv.layout import TENSORS, AttentionLayout
from agentmem.kv.state import AgentState
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import Block, BlockUnreadable, RawTensor, id_bytes
from agentmem.store.keys import block_key
from agentmem.types import BLOCK_TOKENS, BlockKind

_DTYPES = {mx.uint32: "U32", mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16"}


def keys_of(ids: np.ndarray, first: int, parent: bytes, secret: bytes, state_id: str) -> Iterator[bytes]:
    """The keys of the blocks of positions [first, len(ids)), `first` on a block border. ids: int32."""
    for start in range(first, len(ids), BLOCK_TOKENS):
        payload = id_bytes(ids[start : start + BLOCK_TOKENS])
        parent = block_key(secret, parent, state_id, BlockKind.TEXT, payload)
        yield parent


def cut(state: AgentState, ids: np.ndarray, start: int, key: bytes, parent: bytes, model: LoadedModel) -> Block:
    """The block at `start`, on a block border, as the state holds it. ids: the whole timeline, int32."""
    payload = np.ascontiguousarray(ids[start : start + BLOCK_TOKENS], np.int32)
    arrays = state.read(start, start + len(payload))
    return Block(
        key=key,
        parent=parent,
        state_id=model.state_id,
        kind=BlockKind.TEXT,
        start=start,
        ids=payload,
        tensors={n: RawTensor(_dtype(model.layout, n), a.shape, a) for n, a in arrays.items()},
        numerics=model.numerics,
        group_size=model.layout.group_size,
        bits=model.layout.bits,
    )


def checked(block: Block, parent: bytes, start: int, ids: np.ndarray, model: LoadedModel) -> dict[str, np.ndarray]:
    """The block's arrays for its first len(ids) positions, once it is what the timeline says it is.

    Raises BlockUnreadable: FOREIGN if it is another block, CORRUPT if its tensors are not this model's.
    """
    same = block.parent == parent and block.start == start and block.state_id == model.state_id
    if not same or len(block.ids) < len(ids) or not np.array_equal(block.ids[: len(ids)], ids):
        raise BlockUnreadable("FOREIGN", "the block belongs to another timeline")
    tokens = len(block.ids)
    for name in TENSORS:
        tensor = block.tensors.get(name)
        if tensor is None or tensor.shape != model.layout.shape(name, tokens):
            raise BlockUnreadable("CORRUPT", f"{name} has another shape than this model's")
        if tensor.dtype != _dtype(model.layout, name):
            raise BlockUnreadable("CORRUPT", f"{name} has another dtype than this model's")
    return {name: block.tensors[name].data[:, :, : len(ids)] for name in TENSORS}


def _dtype(layout: AttentionLayout, name: str) -> str:
    return _DTYPES[layout.dtype_of(name.rsplit(".", 1)[1])]

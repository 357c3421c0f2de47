"""Latent positions: there an embedding was fed, and no token.

Among a timeline's ids a negative one stands for an embedding. It comes of a hash of that, so that who compares ids
tells thoughts apart; that two are the same is for the keys of blocks to say, which cover the embeddings themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np

from agentmem.store.keys import block_key
from agentmem.store.layout import RawTensor
from agentmem.types import BlockKind

Latents = Mapping[int, RawTensor]
"""A timeline's embeddings, each [width], by the negative ids that stand for them."""

_LEAST = -(1 << 31)


def id_bytes(ids: np.ndarray) -> bytes:
    """Ids as little-endian int32."""
    return np.ascontiguousarray(ids, dtype="<i4").tobytes()


def latent_id(row: RawTensor, latents: Latents) -> int:
    """The id that is to stand for an embedding among those of a timeline."""
    digest = blake2b(row.data.tobytes(), digest_size=4).digest()
    id_ = -1 - (int.from_bytes(digest, "little") >> 1)
    while latents.get(id_, row) != row:
        id_ = id_ - 1 if id_ > _LEAST else -1
    return id_


def embeddings_of(ids: np.ndarray, latents: Latents) -> RawTensor | None:
    """Those of the latent positions among some, in order: [latent positions, width]; None if there are none."""
    rows = [latents[id_] for id_ in ids[ids < 0].tolist()]
    if not rows:
        return None
    data = np.stack([row.data for row in rows])
    return RawTensor(rows[0].dtype, data.shape, data)


def by_id(ids: np.ndarray, embeddings: RawTensor | None) -> dict[int, RawTensor]:
    """The reverse of `embeddings_of`. Raises ValueError if there are more or fewer of them than latent positions."""
    latent = ids[ids < 0].tolist()
    if embeddings is None:
        if latent:
            raise ValueError("latent positions without embeddings")
        return {}
    if not latent or len(embeddings.shape) != 2 or embeddings.shape[0] != len(latent):
        raise ValueError("embeddings that are not those of the latent positions")
    dtype, shape = embeddings.dtype, embeddings.shape[1:]
    return {id_: RawTensor(dtype, shape, row) for id_, row in zip(latent, embeddings.data, strict=True)}


def owned(ids: np.ndarray, latents: Latents) -> dict[int, RawTensor]:
    """Copies of those of the latent positions among some, each alone, so that nothing else is kept with it."""
    rows = {id_: latents[id_] for id_ in ids[ids < 0].tolist()}
    return {id_: RawTensor(row.dtype, row.shape, row.data.copy()) for id_, row in rows.items()}


def kind_of(ids: np.ndarray) -> BlockKind:
    """Of a block of some positions of a timeline."""
    return BlockKind.LATENT if (ids < 0).any() else BlockKind.TEXT


def key_of(
    secret: bytes, parent: bytes, state_id: str, kind: BlockKind, ids: np.ndarray, embeddings: RawTensor | None
) -> bytes:
    """The key of a block of these positions, or of its companion."""
    return block_key(secret, parent, state_id, kind, payload_of(ids, embeddings))


def payload_of(ids: np.ndarray, embeddings: RawTensor | None) -> bytes:
    """What was fed at some positions, as keys cover it."""
    payload = id_bytes(ids)
    if embeddings is not None:
        size = len(payload).to_bytes(8, "little")
        payload = size + payload + embeddings.dtype.encode() + embeddings.data.tobytes()
    return payload

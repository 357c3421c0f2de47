"""Keyed hashes: what makes two blocks the same block, and what chains a turn to the one before."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from agentmem.types import BlockKind

KEY_BYTES = 32
SECRET_BYTES = 32
BEGINNING = 16
"""Ids by which blocks are found that agree in part: computing fewer positions is quicker than reading a block."""


def keyed_digest(secret: bytes, tag: bytes, *fields: bytes) -> bytes:
    """32 bytes over the tag and the fields. Each is preceded by its length, so no two lists of fields collide."""
    digest = blake2b(key=secret, digest_size=KEY_BYTES)
    for field in (tag, *fields):
        digest.update(len(field).to_bytes(8, "little"))
        digest.update(field)
    return digest.digest()


def block_key(secret: bytes, parent: bytes, state_id: str, kind: BlockKind, payload: bytes) -> bytes:
    """The key of a block: equal keys mean equal inputs, within one namespace.

    secret: the namespace's, 32 bytes. parent: the key of the block before, b"" for the first.
    payload: for TEXT the ids as little-endian int32; where positions are latent, see `latents.key_of`.
    """
    return keyed_digest(secret, b"agentmem.block.1", parent, state_id.encode(), kind.value.encode(), payload)


def beginning(secret: bytes, parent: bytes, state_id: str, ids: np.ndarray) -> bytes:
    """What blocks have in common that follow the same parent under the same model and begin with the same ids.

    So blocks that agree with some ids for a while are found without reading any. b"" for fewer than BEGINNING ids.
    """
    if len(ids) < BEGINNING:
        return b""
    first = np.ascontiguousarray(ids[:BEGINNING], "<i4").tobytes()
    return keyed_digest(secret, b"agentmem.beginning.1", parent, state_id.encode(), first)


def record_digest(secret: bytes, previous: bytes, body: bytes) -> bytes:
    """The digest of a turn record; previous is the digest of the agent's turn before, b"" where a chain begins."""
    return keyed_digest(secret, b"agentmem.turn.1", previous, body)

"""Keyed hashes: what makes two blocks the same block, and what chains a turn to the one before."""

from __future__ import annotations

from hashlib import blake2b

from agentmem.types import BlockKind

KEY_BYTES = 32
SECRET_BYTES = 32


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
    payload: for TEXT the ids as little-endian int32.
    """
    return keyed_digest(secret, b"agentmem.block.1", parent, state_id.encode(), kind.value.encode(), payload)


def catalog_parent(secret: bytes, parent: bytes, state_id: str) -> bytes:
    """What the catalog calls a block's parent: its key, or for the first block a digest of the namespace and state id.

    So what may follow can be looked up, and two namespaces or models never meet, not even at position 0.
    """
    return parent or keyed_digest(secret, b"agentmem.root.1", state_id.encode())


def record_digest(secret: bytes, previous: bytes, body: bytes) -> bytes:
    """The digest of a turn record; previous is the digest of the agent's turn before, b"" where a chain begins."""
    return keyed_digest(secret, b"agentmem.turn.1", previous, body)

"""Block files: one block of attention state as a safetensors file that vouches for itself.

The checksum covers every byte of the file but itself, header included: edited metadata and swapped dtypes show.
The key, recomputed from parent, state id, kind and payload with the namespace's secret, tells whose block it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import xxhash

from agentmem.store.keys import block_key
from agentmem.store.latents import by_id, key_of, kind_of
from agentmem.store.layout import RawTensor, header_end, pack, unpack
from agentmem.store.placement import FIELDS, Placement, parsed
from agentmem.types import BLOCK_TOKENS, COMPANIONS, BlockKind

FORMAT, EXTENDED = "1", "2"
"""EXTENDED: with embeddings, or of a splice, which versions that know only FORMAT must not serve."""
PAYLOAD = "payload.ids"
EMBEDDINGS = "embeddings"
ROWS = "payload.rows"

_FIELDS = {
    "format", "key", "parent", "state_id", "kind", "start", "tokens", "group_size", "bits", "numerics", "checksum",
}  # fmt: skip
_CHECKSUM = re.compile(rb'"checksum":"([0-9a-f]{32})"')
_BLANK = b"0" * 32
_NATURAL = re.compile(r"0|[1-9][0-9]{0,9}")


class Unreadable(StrEnum):
    """EVICTED: given up on purpose. MISSING: no file. CORRUPT: not what was written. FOREIGN: another block."""

    EVICTED = "EVICTED"
    MISSING = "MISSING"
    CORRUPT = "CORRUPT"
    FOREIGN = "FOREIGN"


class BlockUnreadable(Exception):
    """A block that must not be served. detail: what is wrong with it, free of ids and state."""

    def __init__(self, reason: Unreadable | str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = Unreadable(reason)
        self.detail = detail


@dataclass(frozen=True, eq=False)
class Block:
    """An immutable run of up to 256 positions, starting at `start`.

    key, parent: 32 bytes (parent b"" for the first block). ids: int32 [tokens], negative where positions are latent.
    tensors: by name, for instance `attn.k.weight` [layers, kv_heads, tokens, packed]; the store knows of them only that
    axis 2 is the positions.
    numerics: the path that computed it. group_size, bits: of the quantisation.
    embeddings: of the latent positions, in order, [latent positions, width]; None if there are none.
    placement: of a SPLICE block, which has no first positions that could be used by themselves: where its rows stand.
    """

    key: bytes
    parent: bytes
    state_id: str
    kind: BlockKind
    start: int
    ids: np.ndarray
    tensors: dict[str, RawTensor]
    numerics: str
    group_size: int
    bits: int
    embeddings: RawTensor | None = None
    placement: Placement | None = None

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def positions(self) -> np.ndarray:
        """Those of its ids in the timeline."""
        if self.placement is not None:
            return self.placement.positions
        return np.arange(self.start, self.start + self.tokens)

    @property
    def companion(self) -> BlockKind | None:
        """Its kind, if it is the companion of a block, and none itself."""
        return self.kind if self.kind in COMPANIONS else None

    @property
    def latents(self) -> dict[int, RawTensor]:
        """Its embeddings by the ids that stand for them."""
        return by_id(self.ids, self.embeddings)

    def kind_of_prefix(self, tokens: int) -> BlockKind:
        """What a block, or companion, of the first `tokens` positions is."""
        latent = self.kind is BlockKind.LATENT and tokens < self.tokens
        return kind_of(self.ids[:tokens]) if latent else self.kind

    def embeddings_of_prefix(self, tokens: int) -> RawTensor | None:
        count = int((self.ids[:tokens] < 0).sum())
        if self.embeddings is None or not count:
            return None
        return RawTensor(self.embeddings.dtype, (count, *self.embeddings.shape[1:]), self.embeddings.data[:count])

    def key_of_prefix(self, secret: bytes, tokens: int) -> bytes:
        """The key of the block that holds this one's first `tokens` positions (its own key if that is all)."""
        if self.placement is not None:
            if tokens < self.tokens:
                return b""
            payload = self.placement.payload(self.ids, self.embeddings)
            return block_key(secret, self.parent, self.state_id, self.kind, payload)
        kind, embeddings = self.kind_of_prefix(tokens), self.embeddings_of_prefix(tokens)
        return key_of(secret, self.parent, self.state_id, kind, self.ids[:tokens], embeddings)

    def prefix(self, secret: bytes, tokens: int) -> Block:
        """The block of this one's first `tokens` positions: the state does not depend on what came later."""
        return replace(
            self,
            key=self.key_of_prefix(secret, tokens),
            kind=self.kind_of_prefix(tokens),
            ids=self.ids[:tokens],
            embeddings=self.embeddings_of_prefix(tokens),
            tensors={name: tensor.prefix(tokens) for name, tensor in self.tensors.items()},
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Block):
            return NotImplemented
        return self._comparable() == other._comparable()

    def __hash__(self) -> int:
        return hash(self.key)

    def _comparable(self) -> tuple[object, ...]:
        return (
            self.key, self.parent, self.state_id, self.kind, self.start, self.ids.tolist(), self.tensors,
            self.numerics, self.group_size, self.bits, self.embeddings, self.placement,
        )  # fmt: skip


def encode(block: Block) -> bytes:
    """The block's file. Equal blocks give equal bytes. Raises ValueError if the block contradicts itself."""
    if not 1 <= block.tokens <= BLOCK_TOKENS or block.ids.ndim != 1:
        raise ValueError(f"a block of {block.tokens} positions")
    ids = np.ascontiguousarray(block.ids, dtype="<i4")
    by_id(block.ids, block.embeddings)
    kind = BlockKind.SPLICE if block.placement is not None else block.companion or kind_of(block.ids)
    if block.kind is not kind:
        raise ValueError("the kind is not that of the positions")
    embeddings = {} if block.embeddings is None else {EMBEDDINGS: block.embeddings}
    metadata = {
        "format": FORMAT if block.embeddings is None and block.placement is None else EXTENDED,
        "key": block.key.hex(),
        "parent": block.parent.hex(),
        "state_id": block.state_id,
        "kind": block.kind.value,
        "start": str(block.start),
        "tokens": str(block.tokens),
        "group_size": str(block.group_size),
        "bits": str(block.bits),
        "numerics": block.numerics,
        "checksum": _BLANK.decode(),
    }
    payload = {PAYLOAD: RawTensor("I32", ids.shape, ids), **embeddings}
    if block.placement is not None:
        rows = np.ascontiguousarray(block.placement.rows, dtype="<i4")
        payload[ROWS], metadata = RawTensor("I32", rows.shape, rows), metadata | block.placement.metadata
    header, pieces = pack({**payload, **block.tensors}, metadata)
    return b"".join([_seal(header, pieces), *pieces])


def _seal(header: bytes, pieces: list[memoryview]) -> bytes:
    """The header with its checksum filled in."""
    begin, end = _checksum_span(header)
    checksum = _checksum(header, begin, pieces)
    return header[:begin] + checksum + header[end:]


def decode(data: bytes, *, key: bytes, secret: bytes) -> Block:
    """The block in `data`, if it is whole and is the block called `key`. Its arrays are read-only views of `data`.

    Raises BlockUnreadable: CORRUPT or FOREIGN.
    """
    try:
        block = _parse(data)
    except ValueError as error:
        # The messages of json and unicode errors may quote the file; only ours are free of its contents.
        detail = str(error) if type(error) is ValueError else type(error).__name__
        raise BlockUnreadable(Unreadable.CORRUPT, detail) from None
    if block.key != key:
        raise BlockUnreadable(Unreadable.FOREIGN, "the file holds another block")
    if block.key_of_prefix(secret, block.tokens) != key:
        raise BlockUnreadable(Unreadable.FOREIGN, "the key is not this namespace's key of the contents")
    return block


def _parse(data: bytes) -> Block:
    end = header_end(data)
    header = data[:end]
    begin, _ = span = _checksum_span(header)
    if _checksum(header, begin, [memoryview(data)[end:]]) != header[slice(*span)]:
        raise ValueError("the checksum is not that of the contents")
    tensors, metadata = unpack(data)
    if metadata.keys() != (_FIELDS | FIELDS if ROWS in tensors else _FIELDS):
        raise ValueError("metadata has other fields than it must")
    if metadata["format"] not in ((FORMAT, EXTENDED) if {EMBEDDINGS, ROWS} & tensors.keys() else (FORMAT,)):
        raise ValueError(f"unknown block format {metadata['format'][:20]}")
    payload = tensors.pop(PAYLOAD, None)
    tokens = _natural(metadata["tokens"])
    if payload is None or payload.dtype != "I32" or payload.shape != (tokens,) or not 1 <= tokens <= BLOCK_TOKENS:
        raise ValueError("the payload is not the ids of 1 to 256 positions")
    block = Block(
        key=_hex(metadata["key"]),
        parent=_hex(metadata["parent"]),
        state_id=metadata["state_id"],
        kind=BlockKind(metadata["kind"]),
        start=_natural(metadata["start"]),
        ids=payload.data,
        tensors=tensors,
        numerics=metadata["numerics"],
        group_size=_natural(metadata["group_size"]),
        bits=_natural(metadata["bits"]),
        embeddings=tensors.pop(EMBEDDINGS, None),
        placement=parsed(tensors.pop(ROWS).data, metadata) if ROWS in tensors else None,
    )
    placed = block.placement
    if (block.kind is BlockKind.SPLICE) != (placed is not None) or (placed and len(placed.used) != tokens):
        raise ValueError("a splice without the rows of its positions")
    by_id(block.ids, block.embeddings)  # raises unless they are those of the latent positions
    return block


def _checksum_span(header: bytes) -> tuple[int, int]:
    """Where the checksum's digits stand. No JSON string can imitate the pattern: its quotes would be escaped."""
    found = list(_CHECKSUM.finditer(header))
    if len(found) != 1:
        raise ValueError("no checksum, or several")
    return found[0].span(1)


def _checksum(header: bytes, begin: int, pieces: list[memoryview]) -> bytes:
    """xxh3-128 over the file with the checksum's own 32 digits read as zeros."""
    digest = xxhash.xxh3_128(header[:begin] + _BLANK + header[begin + len(_BLANK) :])
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest().encode()


def _natural(text: str) -> int:
    if not _NATURAL.fullmatch(text):
        raise ValueError("a number in the metadata is none")
    return int(text)


def _hex(text: str) -> bytes:
    value = bytes.fromhex(text)
    if value.hex() != text:
        raise ValueError("a key in the metadata is not plain hexadecimal")
    return value

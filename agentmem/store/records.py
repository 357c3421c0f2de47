"""Turn records: what a turn added, in a small file of its own that vouches for itself and for the turn before.

A record is canonical JSON: {"body": {...}, "digest": hex}. The digest is keyed with the namespace's secret and covers
the body and, through its `previous`, every turn before. Records and blocks together suffice to rebuild the catalog:
Timeline(N) = Timeline(N-1)[:base_blocks] + blocks, and a partial block that is gone is the prefix of the longer block
whose key its ids lead to.

A FORK record begins a history: it stands on its own (start 0, base_blocks 0, all ids, all live messages) and its
`previous` is b"". It is a new agent's first turn, or what `prune_history` leaves of an agent's turns: the turn after
the last one, with the same timeline. Whatever has a lower number than an agent's last FORK record is a leftover.
A REWIND record keeps the positions [0, start) of the turn before and says what stands in [start, end).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.store.grid import SpliceRun
from agentmem.store.keys import KEY_BYTES, record_digest
from agentmem.store.latents import by_id, id_bytes
from agentmem.store.layout import RawTensor, parse_json, view
from agentmem.types import (
    BlockKind,
    Exactness,
    FinishReason,
    Message,
    PrefixMiss,
    Timings,
    ToolCall,
    TurnKind,
    TurnMessage,
    Usage,
    Warning,
)

FORMAT, EXTENDED = 1, 2
"""EXTENDED: of a record with embeddings or splices, which versions that know only FORMAT would leave out."""
MAX_EMBEDDING_BYTES = 1 << 28
"""Of all latent positions of a timeline, so that a record of the whole can be written, and read again."""
MAX_RECORD_BYTES = (1 << 28) + 2 * MAX_EMBEDDING_BYTES
"""What is not embeddings, which are in base64, is far less than its share with a million tokens."""
_BEGIN, _MIDDLE, _END = b'{"body":', b',"digest":"', b'"}'


class RecordUnreadable(Exception):
    """A turn record that must not be believed. detail: what is wrong with it, free of what was said."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True)
class BlockUse:
    """A block of a timeline and how many of its positions are used."""

    key: bytes
    used: int


@dataclass(frozen=True)
class CompanionUse(BlockUse):
    """What going on from a turn's end needs beside the blocks.

    kind: WINDOW or SNAPSHOT. place: of the block it belongs to, in the timeline. used: how many of the block's
    positions: of a window part the first rows, of a snapshot all before the end.
    """

    kind: BlockKind
    place: int


@dataclass(frozen=True, eq=False)
class TurnRecord:
    """One committed change of a timeline.

    base_blocks: how many leading blocks of the previous turn's timeline stay (0 for REBUILD and FORK).
    ids: int32, the tokens of positions [start, end), negative where these are latent. embeddings: of those, in order,
    [latent positions, width]; None if there are none. So state is lost only with its record.
    open: the last message, an assistant's, lacks its closing text.
    companions: all that the end needs, in order of place.
    splices: all that the timeline has at the end, in order of place.
    parts: of a SPLICE turn, as they follow one another: which of those asked for it is, and its first position.
    created: Unix seconds. previous, digest: filled in by `encode` and `decode`.
    """

    agent_id: str
    namespace: str
    agent_name: str
    number: int
    kind: TurnKind
    start: int
    end: int
    state_id: str
    tokenizer_id: str
    base_blocks: int
    blocks: tuple[BlockUse, ...]
    ids: np.ndarray
    messages: tuple[TurnMessage, ...]
    open: bool
    finish_reason: FinishReason | None
    stop_sequence: str
    exactness: Exactness
    request_id: str
    created: float
    usage: Usage
    timings: Timings
    seed: int
    warnings: tuple[Warning, ...]
    companions: tuple[CompanionUse, ...] = ()
    embeddings: RawTensor | None = None
    splices: tuple[SpliceRun, ...] = ()
    parts: tuple[tuple[int, int], ...] = ()
    previous: bytes = field(default=b"", repr=False)
    digest: bytes = field(default=b"", repr=False)

    @property
    def is_extended(self) -> bool:
        """Whether it says what versions that know only `FORMAT` do not understand."""
        return self.embeddings is not None or bool(self.splices or self.parts)

    @property
    def embedding_bytes(self) -> int:
        """Bytes of RAM that its embeddings take."""
        return 0 if self.embeddings is None else self.embeddings.data.nbytes

    @property
    def latents(self) -> dict[int, RawTensor]:
        """Its embeddings by the ids that stand for them."""
        return by_id(self.ids, self.embeddings)

    def __eq__(self, other: object) -> bool:
        """Equal in what the turn says; the digests are left out."""
        if not isinstance(other, TurnRecord):
            return NotImplemented
        return _body(self) == _body(other)

    def __hash__(self) -> int:
        return hash((self.agent_id, self.number))


_SOMETIMES = ("companions", "embeddings", "splices", "parts")
"""Left out where there are none."""
_SAID = [item.name for item in fields(TurnRecord) if item.name not in (*_SOMETIMES, "previous", "digest")]
"""What every record says."""


def encode(record: TurnRecord, previous: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """The record's file and its digest. previous: the digest of the agent's turn before, b"" if it is the first.

    Raises CONTEXT_OVERFLOW if it is larger than readers accept.
    """
    body = _canonical(_body(record) | {"previous": previous.hex()})
    digest = record_digest(secret, previous, body)
    data = _file(body, digest)
    if len(data) > MAX_RECORD_BYTES:
        message = f"the turn's record takes {len(data)} bytes of at most {MAX_RECORD_BYTES}: begin a new agent"
        raise AgentmemError(Reason.CONTEXT_OVERFLOW, message, limit=MAX_RECORD_BYTES)
    return data, digest


def decode(data: bytes, secret: bytes) -> TurnRecord:
    """The record in a file. Raises RecordUnreadable unless it is, byte for byte, what `encode` wrote."""
    body = data[len(_BEGIN) : -len(_MIDDLE) - 2 * KEY_BYTES - len(_END)]
    try:
        values = parse_json(body)
        previous = bytes.fromhex(values["previous"])
        digest = record_digest(secret, previous, body)
        record = _record(values, previous, digest)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise RecordUnreadable(f"not a turn record ({type(error).__name__})") from None
    if _file(body, digest) != data:
        raise RecordUnreadable("the digest or the form is not that of a record of this namespace")
    return record


def _file(body: bytes, digest: bytes) -> bytes:
    return _BEGIN + body + _MIDDLE + digest.hex().encode() + _END


def _canonical(value: Mapping[str, Any]) -> bytes:
    """One spelling for each value; ASCII, so that even a lone surrogate survives the trip."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _body(record: TurnRecord) -> dict[str, Any]:
    body = {name: getattr(record, name) for name in _SAID}
    return (
        body
        | {
            "format": EXTENDED if record.is_extended else FORMAT,
            "ids": base64.b64encode(id_bytes(record.ids)).decode(),
            "blocks": [[use.key.hex(), use.used] for use in record.blocks],
            "messages": [asdict(message) for message in record.messages],
            "usage": asdict(record.usage),
            "timings": asdict(record.timings),
            "warnings": [asdict(warning) for warning in record.warnings],
        }
        | ({"companions": [_companion(use) for use in record.companions]} if record.companions else {})
        | ({"embeddings": _tensor(record.embeddings)} if record.embeddings is not None else {})
        | ({"splices": [list(run) for run in record.splices]} if record.splices else {})
        | ({"parts": [list(part) for part in record.parts]} if record.parts else {})
    )


def _tensor(tensor: RawTensor) -> dict[str, Any]:
    data = base64.b64encode(tensor.data.tobytes()).decode()
    return {"dtype": tensor.dtype, "shape": list(tensor.shape), "data": data}


def _as_tensor(item: dict[str, Any]) -> RawTensor:
    data = base64.b64decode(item["data"], validate=True)
    return view(data, 0, len(data), item)


def _companion(use: CompanionUse) -> list[str | int]:
    return [use.key.hex(), use.used, use.kind.value, use.place]


def _record(body: dict[str, Any], previous: bytes, digest: bytes) -> TurnRecord:
    """The reverse of `_body`. Lax about types: the digest vouches for what was written."""
    if body["format"] not in (FORMAT, EXTENDED):
        raise ValueError("unknown record format")
    values = {name: body[name] for name in _SAID}
    record = TurnRecord(
        **values
        | {
            "kind": TurnKind(body["kind"]),
            "exactness": Exactness(body["exactness"]),
            "finish_reason": None if body["finish_reason"] is None else FinishReason(body["finish_reason"]),
            "ids": np.frombuffer(base64.b64decode(body["ids"], validate=True), dtype="<i4"),
            "blocks": tuple(BlockUse(bytes.fromhex(key), used) for key, used in body["blocks"]),
            "messages": tuple(_message(item) for item in body["messages"]),
            "usage": _usage(body["usage"]),
            "timings": Timings(**body["timings"]),
            "warnings": tuple(Warning(**item) for item in body["warnings"]),
            "embeddings": _as_tensor(body["embeddings"]) if "embeddings" in body else None,
            "companions": tuple(
                CompanionUse(bytes.fromhex(key), used, BlockKind(kind), place)
                for key, used, kind, place in body.get("companions", ())
            ),
            "splices": tuple(SpliceRun(*run) for run in body.get("splices", ())),
            "parts": tuple((number, start) for number, start in body.get("parts", ())),
            "previous": previous,
            "digest": digest,
        }
    )
    by_id(record.ids, record.embeddings)  # raises unless they are those of the latent positions
    return record


def _message(item: dict[str, Any]) -> TurnMessage:
    message = item["message"]
    calls = tuple(ToolCall(**call) for call in message["tool_calls"])
    return TurnMessage(
        Message(**message | {"parts": tuple(message["parts"]), "tool_calls": calls}), item["start"], item["end"]
    )


def _usage(item: dict[str, Any]) -> Usage:
    misses = [PrefixMiss(**miss) for miss in item["misses"]]
    return Usage(**item | {"exactness": Exactness(item["exactness"]), "misses": misses})

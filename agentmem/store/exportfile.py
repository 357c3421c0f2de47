"""Export files: an agent in one file that vouches for itself.

The file is a tar archive: `agentmem.json` (format and a secret drawn for this file), `record.json` (a turn record that
stands on its own), `splices.json` if the timeline has splices (what their blocks are, since ids do not tell), then the
timeline's blocks in order, and its companions; behind the archive stands a checksum of all of it. Record and blocks are
keyed with the file's secret exactly as they are with a namespace's, so the same code verifies them, and nothing tells
which namespace they came from.
"""

from __future__ import annotations

import base64
import io
import json
import secrets
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, TypeAlias, cast

import numpy as np
import xxhash

from agentmem.errors import AgentmemError, Reason
from agentmem.store import records
from agentmem.store.blockfile import Block, BlockUnreadable, decode, encode
from agentmem.store.grid import is_spliced, splices_fit, starts
from agentmem.store.keys import SECRET_BYTES, block_key
from agentmem.store.latents import embeddings_of, key_of, kind_of
from agentmem.store.layout import parse_json
from agentmem.store.placement import FIELDS, Placement, parsed
from agentmem.store.records import MAX_RECORD_BYTES, BlockUse, RecordUnreadable, TurnRecord
from agentmem.store.sealing import Spool
from agentmem.store.timelinekeys import TimelineKeys
from agentmem.types import BLOCK_TOKENS, COMPANIONS, MAX_NAME_BYTES, BlockKind, Exactness, TurnKind

FORMAT, EXTENDED = 1, 2
"""EXTENDED: with embeddings or splices."""
DIGEST_BYTES = 16
HEADER, RECORD, SPLICES = "agentmem.json", "record.json", "splices.json"
MAX_HEADER_BYTES, MAX_BLOCK_BYTES = 1 << 10, 1 << 30


Placements: TypeAlias = dict[int, Placement]
"""What the blocks of a timeline's splices are, by place."""


def block_name(place: int) -> str:
    return f"blocks/{place:06d}.safetensors"


def write(
    record: TurnRecord, blocks: Iterable[Block], spliced: Iterable[tuple[int, Placement]] = ()
) -> Iterator[bytes]:
    """The file of an agent. record: one that begins a timeline. blocks: its blocks and companions, in order.

    spliced: what those of splices are, by place.
    """
    digest = xxhash.xxh3_128()
    for piece in _archive(record, blocks, dict(spliced)):
        digest.update(piece)
        yield piece
    yield digest.digest()


def _archive(record: TurnRecord, blocks: Iterable[Block], spliced: Placements) -> Iterator[bytes]:
    secret = secrets.token_bytes(SECRET_BYTES)
    spliced = under(spliced, secret)
    record = replace(rekeyed(record, secret, record.state_id, spliced), request_id="")
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.USTAR_FORMAT) as tar:

        def add(name: str, data: bytes) -> bytes:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
            out = sink.getvalue()
            sink.seek(0)
            sink.truncate()
            return out

        yield add(
            HEADER, json.dumps({"format": EXTENDED if record.is_extended else FORMAT, "secret": secret.hex()}).encode()
        )
        yield add(RECORD, records.encode(record, b"", secret)[0])
        if record.splices:
            yield add(SPLICES, json.dumps({str(place): _said(one) for place, one in spliced.items()}).encode())
        for member, block in zip(_members(record), blocks, strict=True):
            placement = spliced[member.place] if block.placement is not None else None
            yield add(member.name, encode(replace(block, key=member.key, parent=member.parent, placement=placement)))
    yield sink.getvalue()


def under(spliced: Placements, secret: bytes) -> Placements:
    """What blocks of splices are where another secret is: nothing there tells which blocks they were made of."""
    return {place: placement.under(secret) for place, placement in spliced.items()}


def _said(placement: Placement) -> dict[str, str]:
    rows = np.ascontiguousarray(placement.rows, "<i4").tobytes()
    return {"rows": base64.b64encode(rows).decode(), **placement.metadata}


def _placement(said: dict[str, str]) -> Placement:
    """The reverse. Raises ValueError, TypeError, KeyError."""
    if said.keys() != {"rows", *FIELDS}:
        raise ValueError("a splice is not spelled as it must be")
    return parsed(np.frombuffer(base64.b64decode(said["rows"], validate=True), "<i4"), said)


def as_text(record: TurnRecord) -> TurnRecord:
    """The record of an agent that was fed the same without splices; its blocks have no keys yet."""
    if not record.splices:
        return record
    used = (min(BLOCK_TOKENS, record.end - start) for start in range(0, record.end, BLOCK_TOKENS))
    exactness = Exactness.LATENT if record.latents else Exactness.EXACT
    return replace(record, splices=(), blocks=tuple(BlockUse(b"", count) for count in used), exactness=exactness)


def rekeyed(record: TurnRecord, secret: bytes, state_id: str, spliced: Placements) -> TurnRecord:
    """The record with the keys that its blocks and companions have under a secret and a model.

    spliced: what the blocks of its splices are, by place.
    """
    latents, parent, keys = record.latents, b"", []
    begins = starts(use.used for use in record.blocks)
    for place, use in enumerate(record.blocks):
        placement = spliced.get(place)
        if placement is None:
            own = record.ids[begins[place] : begins[place] + use.used]
            parent = key_of(secret, parent, state_id, kind_of(own), own, embeddings_of(own, latents))
        else:
            own = record.ids[placement.positions]
            payload = placement.payload(own, embeddings_of(own, latents))
            parent = block_key(secret, parent, state_id, BlockKind.SPLICE, payload)
        keys.append(parent)
    timeline = TimelineKeys(secret, state_id, record.ids, keys, begins, latents)
    blocks = tuple(BlockUse(key, use.used) for key, use in zip(keys, record.blocks, strict=True))
    companions = tuple(replace(use, key=timeline.key(use.kind, use.place, use.used)) for use in record.companions)
    return replace(record, state_id=state_id, blocks=blocks, companions=companions)


@dataclass(frozen=True)
class _Member:
    """A block or companion in the archive, and the key of the block before it."""

    name: str
    kind: BlockKind
    place: int
    key: bytes
    used: int
    parent: bytes
    start: int


def _members(record: TurnRecord) -> Iterator[_Member]:
    begins = starts(use.used for use in record.blocks)
    parents = [b"", *(use.key for use in record.blocks)]
    for place, use in enumerate(record.blocks):
        spliced = is_spliced(place, record.splices)
        kind = BlockKind.SPLICE if spliced else kind_of(record.ids[begins[place] :][: use.used])
        yield _Member(block_name(place), kind, place, use.key, use.used, parents[place], begins[place])
    for number, one in enumerate(record.companions):
        name = f"companions/{number:06d}.safetensors"
        yield _Member(name, one.kind, one.place, one.key, one.used, parents[one.place], begins[one.place])


@contextmanager
def spooled(chunks: Iterable[bytes], spool: Spool) -> Iterator[ExportFile]:
    """The file in the chunks, in a temporary one: nobody waits for the store while a slow sender sends."""
    try:
        with spool:
            _write_whole(chunks, spool)
            spool.seek(0)
            with tarfile.open(fileobj=cast(IO[bytes], spool), mode="r|") as tar:
                yield ExportFile.read(tar)
    except tarfile.TarError:
        raise _invalid("it is cut short, or no export") from None


def _write_whole(chunks: Iterable[bytes], spool: Spool) -> None:
    """Writes what stands before the checksum. Raises IMPORT_INVALID if that is another one's."""
    digest, held = xxhash.xxh3_128(), b""
    for chunk in chunks:
        held += chunk
        piece, held = held[:-DIGEST_BYTES], held[-DIGEST_BYTES:]
        digest.update(piece)
        spool.write(piece)
    if held != digest.digest():
        raise _invalid("it is cut short, changed, or no export")


@dataclass(frozen=True)
class ExportFile:
    """An export being read. record: verified. spliced: what the blocks of its splices are, by place."""

    tar: tarfile.TarFile
    secret: bytes
    record: TurnRecord
    spliced: Placements

    @classmethod
    def read(cls, tar: tarfile.TarFile) -> ExportFile:
        """Raises IMPORT_INVALID."""
        try:
            header = parse_json(_member(tar, HEADER, MAX_HEADER_BYTES))
            if header["format"] not in (FORMAT, EXTENDED):
                raise _invalid(f"its format is {str(header['format'])[:20]}; this version of agentmem knows {EXTENDED}")
            secret = bytes.fromhex(header["secret"])
            if len(secret) != SECRET_BYTES:
                raise ValueError("no secret")
            record = records.decode(_member(tar, RECORD, MAX_RECORD_BYTES), secret)
            said = parse_json(_member(tar, SPLICES, MAX_RECORD_BYTES)) if record.splices else {}
            spliced = {int(place): _placement(one) for place, one in said.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecordUnreadable):
            raise _invalid("its record is not what was written") from None
        _check(record)
        _check_splices(record, spliced)
        sealed = rekeyed(record, secret, record.state_id, spliced)
        if (sealed.blocks, sealed.companions) != (record.blocks, record.companions):
            raise _invalid("its record names other blocks than its ids make")
        return cls(tar, secret, record, spliced)

    def blocks(self, secret: bytes) -> Iterator[Block]:
        """Blocks, then companions, each verified, under the keys of another secret. Raises IMPORT_INVALID."""
        spliced = under(self.spliced, secret)
        new = rekeyed(self.record, secret, self.record.state_id, spliced)
        for was, now in zip(_members(self.record), _members(new), strict=True):
            data = _member(self.tar, was.name, MAX_BLOCK_BYTES)
            try:
                block = decode(data, key=was.key, secret=self.secret)
            except BlockUnreadable:
                raise _invalid(f"{was.name} is not what was written") from None
            held = (block.kind, block.parent, block.start, block.tokens)
            placed = was.kind is BlockKind.SPLICE
            if held != (was.kind, was.parent, was.start, was.used) or (
                placed and block.placement != self.spliced[was.place]
            ):
                raise _invalid(f"{was.name} is not where it belongs")
            yield replace(block, key=now.key, parent=now.parent, placement=spliced[was.place] if placed else None)
        if self.tar.next() is not None:
            raise _invalid("it holds more than an agent")


def _check(record: TurnRecord) -> None:
    """Whether the record is what an export has: who sealed the file may have written anything."""
    words = (record.agent_name, record.state_id, record.tokenizer_id)
    used, blocks = [use.used for use in record.blocks], len(record.blocks)
    ends = {blocks, *(run.place for run in record.splices)}
    if (
        record.kind is not TurnKind.FORK
        or (record.start, record.base_blocks, record.end) != (0, 0, len(record.ids))
        or not splices_fit(record.splices, blocks)
        or (record.splices and record.companions)
        or sum(used) != len(record.ids)
        or not all(0 < count <= BLOCK_TOKENS for count in used)
        or not all(
            count == BLOCK_TOKENS or place + 1 in ends or is_spliced(place, record.splices)
            for place, count in enumerate(used)
        )
        or not all(isinstance(word, str) for word in words)
        or not 1 <= len(record.agent_name.encode(errors="replace")) <= MAX_NAME_BYTES
        or any(unicodedata.category(character) == "Cc" for character in record.agent_name)
        or not all(use.kind in COMPANIONS and use.place in range(blocks) for use in record.companions)
        or not all(0 < use.used <= used[use.place] for use in record.companions)
        or not all(0 <= message.start <= message.end <= record.end for message in record.messages)
    ):
        raise _invalid("its record does not begin a timeline")


def _check_splices(record: TurnRecord, spliced: Placements) -> None:
    """Whether the blocks of each splice have its positions, each once."""
    begins = starts(use.used for use in record.blocks)
    if spliced.keys() != {place for run in record.splices for place in range(run.place, run.end)}:
        raise _invalid("its splices are not those of its record")
    for run in record.splices:
        own = [spliced[place].positions for place in range(run.place, run.end)]
        whole = np.arange(begins[run.place], begins[run.end])
        counts = [use.used for use in record.blocks[run.place : run.end]]
        if [len(one) for one in own] != counts or not np.array_equal(np.sort(np.concatenate(own)), whole):
            raise _invalid("its splices do not have the positions that they should")


def _member(tar: tarfile.TarFile, name: str, most: int) -> bytes:
    entry = tar.next()
    if entry is None or not entry.isreg() or entry.name != name or entry.size > most:
        raise _invalid(f"{name} is missing")
    file = tar.extractfile(entry)
    data = file.read() if file else b""
    if len(data) != entry.size:
        raise _invalid(f"{name} is cut short")
    return data


def _invalid(why: str) -> AgentmemError:
    return AgentmemError(Reason.IMPORT_INVALID, f"The file cannot be imported: {why}.")

"""Export files: an agent in one file that vouches for itself.

The file is a tar archive: `agentmem.json` (format and a secret drawn for this file), `record.json` (a turn record that
stands on its own), then the timeline's blocks in order, and its companions; behind the archive stands a checksum of all
of it. Record and blocks are keyed with the file's secret exactly as they are with a namespace's, so the same code
verifies them, and nothing tells which namespace they came from.
"""

from __future__ import annotations

import io
import json
import secrets
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, cast

import xxhash

from agentmem.errors import AgentmemError, Reason
from agentmem.store import records
from agentmem.store.blockfile import Block, BlockUnreadable, decode, encode
from agentmem.store.keys import SECRET_BYTES
from agentmem.store.latents import kind_of
from agentmem.store.layout import parse_json
from agentmem.store.records import BlockUse, RecordUnreadable, TurnRecord
from agentmem.store.sealing import Spool
from agentmem.store.timelinekeys import TimelineKeys, block_keys
from agentmem.types import BLOCK_TOKENS, COMPANIONS, MAX_NAME_BYTES, BlockKind, TurnKind

FORMAT = 1
DIGEST_BYTES = 16
HEADER, RECORD = "agentmem.json", "record.json"
MAX_HEADER_BYTES, MAX_RECORD_BYTES, MAX_BLOCK_BYTES = 1 << 10, 1 << 30, 1 << 30


def block_name(place: int) -> str:
    return f"blocks/{place:06d}.safetensors"


def write(record: TurnRecord, blocks: Iterable[Block]) -> Iterator[bytes]:
    """The file of an agent. record: one that begins a timeline. blocks: its blocks and companions, in order."""
    digest = xxhash.xxh3_128()
    for piece in _archive(record, blocks):
        digest.update(piece)
        yield piece
    yield digest.digest()


def _archive(record: TurnRecord, blocks: Iterable[Block]) -> Iterator[bytes]:
    secret = secrets.token_bytes(SECRET_BYTES)
    record = replace(rekeyed(record, secret, record.state_id), request_id="")
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

        yield add(HEADER, json.dumps({"format": FORMAT, "secret": secret.hex()}).encode())
        yield add(RECORD, records.encode(record, b"", secret)[0])
        for member, block in zip(_members(record), blocks, strict=True):
            yield add(member.name, encode(replace(block, key=member.key, parent=member.parent)))
    yield sink.getvalue()


def rekeyed(record: TurnRecord, secret: bytes, state_id: str) -> TurnRecord:
    """The record with the keys that its blocks and companions have under a secret and a model."""
    latents = record.latents
    keys = list(block_keys(record.ids, 0, b"", secret, state_id, latents))
    timeline = TimelineKeys(secret, state_id, record.ids, keys, range(0, len(record.ids), BLOCK_TOKENS), latents)
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


def _members(record: TurnRecord) -> Iterator[_Member]:
    parents = [b"", *(use.key for use in record.blocks)]
    for place, use in enumerate(record.blocks):
        kind = kind_of(record.ids[place * BLOCK_TOKENS :][: use.used])
        yield _Member(block_name(place), kind, place, use.key, use.used, parents[place])
    for number, one in enumerate(record.companions):
        name = f"companions/{number:06d}.safetensors"
        yield _Member(name, one.kind, one.place, one.key, one.used, parents[one.place])


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
    """An export being read. record: verified."""

    tar: tarfile.TarFile
    secret: bytes
    record: TurnRecord

    @classmethod
    def read(cls, tar: tarfile.TarFile) -> ExportFile:
        """Raises IMPORT_INVALID."""
        try:
            header = parse_json(_member(tar, HEADER, MAX_HEADER_BYTES))
            if header["format"] != FORMAT:
                raise _invalid(f"its format is {str(header['format'])[:20]}; this version of agentmem knows {FORMAT}")
            secret = bytes.fromhex(header["secret"])
            if len(secret) != SECRET_BYTES:
                raise ValueError("no secret")
            record = records.decode(_member(tar, RECORD, MAX_RECORD_BYTES), secret)
        except (ValueError, TypeError, KeyError, RecordUnreadable):
            raise _invalid("its record is not what was written") from None
        _check(record)
        sealed = rekeyed(record, secret, record.state_id)
        if (sealed.blocks, sealed.companions) != (record.blocks, record.companions):
            raise _invalid("its record names other blocks than its ids make")
        return cls(tar, secret, record)

    def blocks(self, secret: bytes) -> Iterator[Block]:
        """Blocks, then companions, each verified, under the keys of another secret. Raises IMPORT_INVALID."""
        new = rekeyed(self.record, secret, self.record.state_id)
        for was, now in zip(_members(self.record), _members(new), strict=True):
            data = _member(self.tar, was.name, MAX_BLOCK_BYTES)
            try:
                block = decode(data, key=was.key, secret=self.secret)
            except BlockUnreadable:
                raise _invalid(f"{was.name} is not what was written") from None
            held = (block.kind, block.parent, block.start, block.tokens)
            if held != (was.kind, was.parent, was.place * BLOCK_TOKENS, was.used):
                raise _invalid(f"{was.name} is not where it belongs")
            yield replace(block, key=now.key, parent=now.parent)
        if self.tar.next() is not None:
            raise _invalid("it holds more than an agent")


def _check(record: TurnRecord) -> None:
    """Whether the record is what an export has: who sealed the file may have written anything."""
    words = (record.agent_name, record.state_id, record.tokenizer_id)
    blocks = -(-len(record.ids) // BLOCK_TOKENS)
    used = [min(BLOCK_TOKENS, len(record.ids) - place * BLOCK_TOKENS) for place in range(blocks)]
    if (
        record.kind is not TurnKind.FORK
        or (record.start, record.base_blocks, record.end) != (0, 0, len(record.ids))
        or [use.used for use in record.blocks] != used
        or not all(isinstance(word, str) for word in words)
        or not 1 <= len(record.agent_name.encode(errors="replace")) <= MAX_NAME_BYTES
        or any(unicodedata.category(character) == "Cc" for character in record.agent_name)
        or not all(use.kind in COMPANIONS and use.place in range(blocks) for use in record.companions)
        or not all(0 < use.used <= used[use.place] for use in record.companions)
        or not all(0 <= message.start <= message.end <= record.end for message in record.messages)
    ):
        raise _invalid("its record does not begin a timeline")


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

"""Latent positions on disk: what stands for an embedding among ids, in keys, in block files and in records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agentmem.store import blockfile, records
from agentmem.store.blockfile import Block, BlockUnreadable, Unreadable, decode, encode
from agentmem.store.grid import SpliceRun
from agentmem.store.latents import by_id, embeddings_of, key_of, kind_of, latent_id
from agentmem.store.layout import RawTensor
from agentmem.store.records import RecordUnreadable
from agentmem.store.rows import AgentRow
from agentmem.types import BlockKind, Exactness
from tests.store.samples import SECRET, STATE_ID, SameHash, make_block, make_record

WIDTH = 8
AGENT = AgentRow("ab" * 16, "default", "a", 1.0, 2.0, 4, 10, STATE_ID, Exactness.EXACT)
RECORD = make_record(AGENT, [1, 2, 3], [])


def embedding(seed: int, dtype: str = "F32") -> RawTensor:
    row = np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32)
    data = row if dtype == "F32" else (row.view(np.uint32) >> 16).astype(np.uint16)
    return RawTensor(dtype, (WIDTH,), data)


def timeline(text: int, *seeds: int, dtype: str = "F32") -> tuple[np.ndarray, dict[int, RawTensor]]:
    """So many tokens, then thoughts."""
    ids, latents = list(range(text)), {}
    for seed in seeds:
        row = embedding(seed, dtype)
        ids.append(latent_id(row, latents))
        latents[ids[-1]] = row
    return np.array(ids, np.int32), latents


def block(text: int, *seeds: int, dtype: str = "F32") -> Block:
    ids, latents = timeline(text, *seeds, dtype=dtype)
    embeddings = embeddings_of(ids, latents)
    key = key_of(SECRET, b"", STATE_ID, kind_of(ids), ids, embeddings)
    return replace(make_block(ids.tolist()), key=key, kind=kind_of(ids), embeddings=embeddings)


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_a_block_file_keeps_what_was_fed(dtype: str) -> None:
    one = block(5, 1, 2, 1, dtype=dtype)
    assert (one.kind, one.embeddings and one.embeddings.shape) == (BlockKind.LATENT, (3, WIDTH))
    assert decode(encode(one), key=one.key, secret=SECRET) == one
    assert one.latents == timeline(5, 1, 2, dtype=dtype)[1]


def test_what_comes_before_a_thought_is_a_block_of_text() -> None:
    one = block(5, 1, 2)
    first = one.prefix(SECRET, 5)
    assert (first.kind, first.embeddings, first.key) == (BlockKind.TEXT, None, make_block(list(range(5))).key)
    middle = one.prefix(SECRET, 6)
    assert (middle.kind, middle.key) == (BlockKind.LATENT, block(5, 1).key)
    assert decode(encode(middle), key=middle.key, secret=SECRET) == middle


def test_the_key_covers_the_embeddings_and_their_dtype() -> None:
    ids = np.array([3, -1], np.int32)

    def key(row: RawTensor) -> bytes:
        return key_of(SECRET, b"", STATE_ID, BlockKind.LATENT, ids, embeddings_of(ids, {-1: row}))

    other = replace(embedding(1), dtype="U32", data=embedding(1).data.view(np.uint32))
    assert len({key(embedding(1)), key(embedding(2)), key(other)}) == 3


def test_ids_tell_embeddings_apart_even_if_their_hashes_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmem.store.latents.blake2b", SameHash)
    ids, latents = timeline(0, 1, 2, 1, 3)
    assert ids.tolist() == [-(2**31), -1, -(2**31), -2]
    assert latents == {-(2**31): embedding(1), -1: embedding(2), -2: embedding(3)}
    assert by_id(ids, embeddings_of(ids, latents)) == latents


def test_a_file_with_another_thought_is_foreign() -> None:
    one = block(5, 1)
    for changed in (replace(one, embeddings=block(5, 2).embeddings), replace(one, ids=block(5, 2).ids)):
        with pytest.raises(BlockUnreadable) as caught:
            decode(encode(changed), key=one.key, secret=SECRET)
        assert caught.value.reason is Unreadable.FOREIGN


@pytest.mark.parametrize(
    "wrong",
    [
        {"embeddings": None},
        {"kind": BlockKind.TEXT},
        {"embeddings": block(0, 1, 2).embeddings},
        {"ids": np.arange(6, dtype=np.int32)},
    ],
)
def test_a_block_that_contradicts_itself_is_not_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"latent|embeddings|kind"):
        encode(replace(block(5, 1), **wrong))


def test_a_file_without_its_embeddings_is_corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    one = block(5, 1)
    monkeypatch.setattr("agentmem.store.blockfile.by_id", lambda ids, embeddings: {})
    data = encode(replace(one, embeddings=None))
    monkeypatch.undo()
    with pytest.raises(BlockUnreadable) as caught:
        decode(data, key=one.key, secret=SECRET)
    assert caught.value.reason is Unreadable.CORRUPT


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_a_record_keeps_what_was_fed(dtype: str) -> None:
    ids, latents = timeline(5, 1, 2, dtype=dtype)
    record = replace(RECORD, ids=ids, embeddings=embeddings_of(ids, latents))
    data, _ = records.encode(record, b"", SECRET)
    read = records.decode(data, SECRET)
    assert read == record
    assert read.latents == latents
    assert b"embeddings" not in records.encode(RECORD, b"", SECRET)[0]


def test_a_record_without_its_embeddings_is_not_believed() -> None:
    ids, latents = timeline(5, 1, 2)
    for lacking in (None, embeddings_of(ids[:6], latents)):
        data, _ = records.encode(replace(RECORD, ids=ids, embeddings=lacking), b"", SECRET)
        with pytest.raises(RecordUnreadable):
            records.decode(data, SECRET)


def test_older_versions_are_told_that_they_do_not_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they know stays as it was, and what was written before it was told apart is read."""
    ids, latents = timeline(3, 1)
    thought = replace(RECORD, ids=ids, end=RECORD.start + 4, embeddings=embeddings_of(ids, latents))
    spliced = replace(RECORD, splices=(SpliceRun(0, 1),))
    for record, format_ in ((RECORD, 1), (thought, 2), (spliced, 2)):
        data, _ = records.encode(record, b"", SECRET)
        assert f'"format":{format_},'.encode() in data
        assert records.decode(data, SECRET) == record
    for one, format_ in ((block(5), 1), (block(5, 1), 2)):
        assert f'"format":"{format_}"'.encode() in encode(one)
    with monkeypatch.context() as before:
        before.setattr(records, "EXTENDED", 1)
        before.setattr(blockfile, "EXTENDED", "1")
        old, file = records.encode(thought, b"", SECRET)[0], encode(block(5, 1))
    assert records.decode(old, SECRET) == thought
    assert decode(file, key=block(5, 1).key, secret=SECRET) == block(5, 1)
    new, extended = records.encode(thought, b"", SECRET)[0], encode(block(5, 1))
    with monkeypatch.context() as before:
        before.setattr(records, "EXTENDED", 1)
        before.setattr(blockfile, "EXTENDED", "1")
        with pytest.raises(RecordUnreadable):
            records.decode(new, SECRET)
        with pytest.raises(BlockUnreadable):
            decode(extended, key=block(5, 1).key, secret=SECRET)

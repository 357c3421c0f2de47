"""What a sealer writes: nothing readable, nothing that can be changed, moved or put back unseen."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from agentmem.store import aes, blockfile
from agentmem.store.aes import Aes
from agentmem.store.sealing import Plain, SealBroken, Sealer
from agentmem.store.spool import PIECE_BYTES, SealedSpool
from tests.store.samples import MASTER_KEY, make_block

AES = Aes(MASTER_KEY)
BLOCK = make_block([1, 2, 3])
PLAIN = blockfile.encode(BLOCK)
AGENT, OTHER = "a" * 32, "b" * 32

SORTS: dict[str, tuple[Callable[[Sealer, bytes], bytes], Callable[[Sealer, bytes], bytes]]] = {
    "block": (lambda one, data: one.block(BLOCK.key, data), lambda one, data: one.open_block(BLOCK.key, data)),
    "record": (lambda one, data: one.record(AGENT, 7, data), lambda one, data: one.open_record(AGENT, 7, data)),
    "secret": (lambda one, data: one.secret("folder", data), lambda one, data: one.open_secret("folder", data)),
}
each_sort = pytest.mark.parametrize(("seal", "unseal"), SORTS.values(), ids=SORTS)


@each_sort
def test_what_is_sealed_comes_back(seal: Callable, unseal: Callable) -> None:
    for data in (PLAIN, b"x" * 32):
        sealed = seal(AES, data)
        assert unseal(AES, sealed) == data
        assert unseal(Plain(), seal(Plain(), data)) == data == seal(Plain(), data)


@each_sort
def test_any_flipped_bit_is_refused(seal: Callable, unseal: Callable) -> None:
    sealed = seal(AES, b"x" * 32)
    for place in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[place] ^= 1 << bit
            with pytest.raises(SealBroken):
                unseal(AES, bytes(changed))


@each_sort
def test_any_truncation_is_refused(seal: Callable, unseal: Callable) -> None:
    sealed = seal(AES, b"x" * 32)
    for size in range(len(sealed)):
        with pytest.raises(SealBroken):
            unseal(AES, sealed[:size])
    with pytest.raises(SealBroken):
        unseal(AES, sealed + b"\0")


@each_sort
def test_another_key_opens_nothing(seal: Callable, unseal: Callable) -> None:
    with pytest.raises(SealBroken):
        unseal(Aes(bytes(32)), seal(AES, PLAIN))


@each_sort
def test_plain_files_are_refused(seal: Callable, unseal: Callable) -> None:
    with pytest.raises(SealBroken):
        unseal(AES, PLAIN)


def test_files_open_in_their_own_place_only() -> None:
    block, record, secret = AES.block(BLOCK.key, PLAIN), AES.record(AGENT, 7, b"{}"), AES.secret("one", bytes(32))
    for moved in (
        lambda: AES.open_block(make_block([1, 2]).key, block),
        lambda: AES.open_record(OTHER, 7, record),
        lambda: AES.open_record(AGENT, 8, record),
        lambda: AES.open_secret("two", secret),
    ):
        with pytest.raises(SealBroken):
            moved()


def test_a_sealed_block_that_claims_another_name() -> None:
    """Its header is authenticated, too."""
    other = make_block([1, 2]).key
    claimed = AES.block(BLOCK.key, PLAIN).replace(BLOCK.key.hex().encode(), other.hex().encode())
    for key in (BLOCK.key, other):
        with pytest.raises(SealBroken):
            AES.open_block(key, claimed)


def test_any_reader_opens_a_sealed_block() -> None:
    sealed = AES.block(BLOCK.key, PLAIN)
    tensors = safetensors.numpy.load(sealed)
    assert [(name, one.dtype, one.shape) for name, one in tensors.items()] == [("sealed", np.uint8, (len(PLAIN) + 16,))]
    header = json.loads(sealed[8 : 8 + int.from_bytes(sealed[:8], "little")])
    assert header["__metadata__"].keys() == {"format", "key", "nonce"}


def test_a_record_has_one_spelling() -> None:
    sealed = AES.record(AGENT, 7, b"x")  # a byte and a tag: base64 ends in spare bits
    text = json.loads(sealed)["sealed"]
    assert text.endswith("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = text.rstrip("=")[-1]
    other = text.replace(last + "=", alphabet[alphabet.index(last) + 1] + "=")
    assert base64.b64decode(other) == base64.b64decode(text)
    with pytest.raises(SealBroken):
        AES.open_record(AGENT, 7, sealed.replace(text.encode(), other.encode()))


def test_no_two_files_of_a_block_are_alike() -> None:
    files = [AES.block(BLOCK.key, PLAIN) for _ in range(500)]
    assert len({file[: 8 + int.from_bytes(file[:8], "little")] for file in files}) == 500, "a nonce was repeated"
    assert len({file[-AES.seal_bytes :] for file in files}) == 500
    assert len({AES.record(AGENT, 1, b"{}")[:36] for _ in range(500)}) == 500
    assert len({AES.secret("one", bytes(32))[:12] for _ in range(500)}) == 500


def test_every_file_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same nonce and key, equal contents would be sealed alike."""
    monkeypatch.setattr(aes, "_nonce", lambda: bytes(12))
    data = bytes(64)
    sealed = [AES.block(key, data)[-80:-16] for key in (BLOCK.key, make_block([1, 2]).key)]
    sealed += [AES.secret(folder, data)[12:-16] for folder in ("one", "two")]
    sealed += [
        base64.b64decode(json.loads(AES.record(agent, number, data))["sealed"])[:64]
        for agent, number in ((AGENT, 1), (AGENT, 2), (OTHER, 1))
    ]
    assert AES.block(BLOCK.key, data)[-80:-16] == sealed[0]
    assert len(set(sealed)) == 7


def test_the_key_check_gives_nothing_away() -> None:
    one, two = AES.key_check(), AES.key_check()
    assert one != two
    assert MASTER_KEY.hex() not in json.dumps(one.entry())
    with pytest.raises(ValueError, match="31 bytes"):
        Aes(MASTER_KEY[:-1])


@pytest.mark.parametrize("size", [0, 1, 100, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7])
def test_a_spool_gives_back_what_it_took(tmp_path: Path, size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    with SealedSpool(tmp_path) as spool:
        for at in range(0, size, 700_001):
            spool.write(data[at : at + 700_001])
        spool.seek(0)
        read = b"".join(iter(lambda: spool.read(300_007), b""))
    assert read == data


def test_a_spool_is_sealed(tmp_path: Path) -> None:
    data = b"what was said" * 200_000
    with SealedSpool(tmp_path) as spool:
        spool.write(data)
        spool.seek(0)
        raw = spool._file.read()
        assert len(raw) > len(data)
        assert b"said" not in raw
        spool._file.seek(PIECE_BYTES + 100)
        spool._file.write(b"\0")
        spool.seek(0)
        assert spool.read(PIECE_BYTES) == data[:PIECE_BYTES]
        with pytest.raises(OSError, match="not what was written"):
            spool.read(1)

"""Block files: round trips, and everything that must be refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.store.blockfile import BlockUnreadable, Unreadable, decode, encode
from agentmem.store.keys import block_key
from agentmem.store.layout import RawTensor
from agentmem.types import BlockKind
from tests.store.samples import SECRET, make_block, reseal

BLOCK = make_block([5, 6, 7], parent=b"\x01" * 32, start=256)
DATA = encode(BLOCK)
HEADER = DATA[8 : 8 + int.from_bytes(DATA[:8], "little")]


def refuse(data: bytes, reason: Unreadable = Unreadable.CORRUPT, key: bytes = BLOCK.key) -> BlockUnreadable:
    with pytest.raises(BlockUnreadable) as caught:
        decode(data, key=key, secret=SECRET)
    assert caught.value.reason is reason
    return caught.value


def test_round_trip_is_exact_and_deterministic() -> None:
    again = decode(DATA, key=BLOCK.key, secret=SECRET)
    assert again == BLOCK
    assert encode(again) == DATA
    assert not again.tensors["attn.k.weight"].data.flags.owndata, "the arrays must be views of the file's bytes"
    assert make_block([5, 6, 8]) != BLOCK


def test_any_safetensors_reader_opens_it(tmp_path: Path) -> None:
    plain = replace(BLOCK, tensors={name: t for name, t in BLOCK.tensors.items() if t.dtype != "BF16"})
    path = tmp_path / "block.safetensors"
    path.write_bytes(encode(plain))
    loaded = safetensors.numpy.load_file(path)
    assert loaded.keys() == {"payload.ids", *plain.tensors}
    for name, tensor in plain.tensors.items():
        np.testing.assert_array_equal(loaded[name], tensor.data)
        assert loaded[name].dtype == tensor.data.dtype
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata()["key"] == BLOCK.key.hex()
    assert {name for name, _ in safetensors.deserialize(DATA)} == {"payload.ids", *BLOCK.tensors}


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(DATA) * 8 - 1))
def test_any_flipped_bit_is_refused(bit: int) -> None:
    changed = bytearray(DATA)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BlockUnreadable):
        decode(bytes(changed), key=BLOCK.key, secret=SECRET)


def test_every_flipped_bit_of_the_header_is_refused() -> None:
    for bit in range((8 + len(HEADER)) * 8):
        changed = bytearray(DATA)
        changed[bit // 8] ^= 1 << bit % 8
        refuse(bytes(changed))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(DATA) - 1))
def test_any_truncation_is_refused(size: int) -> None:
    refuse(DATA[:size])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    refuse(data)
    refuse(len(data).to_bytes(8, "little") + data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_headers_with_a_right_checksum_are_refused(text: bytes) -> None:
    refuse(reseal(DATA, text + b'"checksum":"' + b"0" * 32 + b'"'))


def test_a_longer_file_is_refused() -> None:
    refuse(DATA + b"\0")


def test_a_swapped_dtype_is_refused() -> None:
    assert b'"dtype":"U32"' in HEADER
    refuse(DATA.replace(b'"dtype":"U32"', b'"dtype":"F32"'))


def test_another_block_in_its_place_is_foreign() -> None:
    other = make_block([5, 6, 8], parent=b"\x01" * 32, start=256)
    refuse(encode(other), Unreadable.FOREIGN)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (BLOCK.parent.hex(), "02" * 32),
        ('"state_id":"state-1"', '"state_id":"state-2"'),
        ('"kind":"TEXT"', '"kind":"LATENT"'),
    ],
)
def test_edited_inputs_are_foreign_even_with_a_right_checksum(old: str, new: str) -> None:
    refuse(reseal(DATA, HEADER.replace(old.encode(), new.encode())), Unreadable.FOREIGN)


def test_another_namespace_is_foreign() -> None:
    with pytest.raises(BlockUnreadable) as caught:
        decode(DATA, key=BLOCK.key, secret=b"\xff" * 32)
    assert caught.value.reason is Unreadable.FOREIGN


@pytest.mark.parametrize("length", [0, 1, 2**20 + 1, len(DATA), 2**63, 2**64 - 1])
def test_a_header_length_that_lies_is_refused(length: int) -> None:
    refuse(length.to_bytes(8, "little") + DATA[8:])


def edited(change: dict) -> bytes:
    """The sample's file with changed entries in its header, and a right checksum."""
    header = json.loads(HEADER)
    for name, value in change.items():
        if value is None:
            del header[name]
        elif name == "__metadata__":
            header[name] = header[name] | value
        else:
            header[name] = (header.get(name) or {}) | value if isinstance(value, dict) else value
    return reseal(DATA, json.dumps(header, separators=(",", ":")).encode())


BEGIN, END = json.loads(HEADER)["attn.k.scales"]["data_offsets"]
PREVIOUS = json.loads(HEADER)["attn.k.biases"]["data_offsets"]


@pytest.mark.parametrize(
    "change",
    [
        {"attn.k.scales": {"data_offsets": PREVIOUS}},
        {"attn.k.scales": {"data_offsets": [BEGIN, END + 2]}},
        {"attn.k.scales": {"data_offsets": [END, BEGIN]}},
        {"attn.k.scales": {"data_offsets": [float(BEGIN), END]}},
        {"attn.k.scales": {"data_offsets": [BEGIN, True]}},
        {"attn.k.scales": {"data_offsets": [-1, END]}},
        {"attn.k.scales": {"shape": [2**62, 2**62]}},
        {"attn.k.scales": {"shape": [1] * 60 + [6]}},
        {"attn.k.scales": {"shape": [0]}},
        {"attn.k.scales": {"shape": "6"}},
        {"attn.k.scales": {"dtype": "F8"}},
        {"attn.k.scales": {"dtype": ["F16"]}},
        {"attn.k.scales": {"more": 1}},
        {"attn.k.scales": None},
        {"attn.k.scales": 7},
        {"empty": {"dtype": "U8", "shape": [0], "data_offsets": [END, END]}},
        {"payload.ids": {"shape": [1, 3]}},
        {"payload.ids": {"dtype": "U32"}},
        {"__metadata__": {"format": "2"}},
        {"__metadata__": {"tokens": "4"}},
        {"__metadata__": {"tokens": "-3"}},
        {"__metadata__": {"start": "1e3"}},
        {"__metadata__": {"bits": "04"}},
        {"__metadata__": {"bits": "9" * 5000}},
        {"__metadata__": {"bits": 4}},
        {"__metadata__": {"key": BLOCK.key.hex().upper()}},
        {"__metadata__": {"parent": "x"}},
        {"__metadata__": {"kind": "text"}},
        {"__metadata__": {"more": ""}},
    ],
    ids=lambda change: json.dumps(change)[:60],
)
def test_hostile_headers_are_refused_even_with_a_right_checksum(change: dict) -> None:
    refuse(edited(change))


def test_the_edits_above_are_refused_for_their_own_sake() -> None:
    assert decode(edited({}), key=BLOCK.key, secret=SECRET) == BLOCK


@pytest.mark.parametrize(
    "header",
    [
        HEADER.rstrip()[:-1] + b',"attn.k.scales":{}}',
        HEADER.replace(b'"bits":"4"', b'"bits":"4","bits":"4"'),
        HEADER.replace(b'"payload.ids"', b'"attn.k.weight"'),
        HEADER.replace(b'"format":"1"', b'"format":NaN'),
        HEADER.replace(b'"state-1"', b'"\xff\xfe"'),
        HEADER + b"[" * 200_000,
        b"[" * 100_000 + HEADER + b"]" * 100_000,
        b"[" + HEADER + b"]",
        HEADER + HEADER,
        b"{}",
        b"",
    ],
    ids=[
        "duplicate tensor",
        "duplicate field",
        "same name",
        "nan",
        "not utf-8",
        "deep",
        "deeper",
        "list",
        "twice",
        "{}",
        "",
    ],
)
def test_hostile_json_is_refused_even_with_a_right_checksum(header: bytes) -> None:
    refuse(reseal(DATA, header))


def test_blocks_that_contradict_themselves_are_not_written() -> None:
    tensor = BLOCK.tensors["attn.k.weight"]
    for wrong in (
        replace(BLOCK, ids=np.empty(0, np.int32)),
        replace(BLOCK, ids=np.zeros(257, np.int32)),
        replace(BLOCK, tensors={"a": replace(tensor, dtype="F32")}),
        replace(BLOCK, tensors={"a": replace(tensor, shape=(1,))}),
        replace(BLOCK, tensors={"a": RawTensor("U32", (0,), np.empty(0, np.uint32))}),
    ):
        with pytest.raises(ValueError, match=r"tensor|positions"):
            encode(wrong)


def test_keys_tell_every_field_apart() -> None:
    keys = {
        block_key(secret, parent, state, kind, payload)
        for secret in (SECRET, b"\xff" * 32)
        for parent, state, payload in [(b"", "ab", b"c"), (b"", "a", b"bc"), (b"a", "b", b"c"), (b"ab", "", b"c")]
        for kind in BlockKind
    }
    assert len(keys) == 2 * 4 * len(BlockKind)
    assert {len(key) for key in keys} == {32}


def test_the_reason_reads_as_a_word() -> None:
    fault = BlockUnreadable("CORRUPT", "torn")
    assert fault.reason is Unreadable.CORRUPT
    assert f"BLOCK_{fault.reason} {fault}" == "BLOCK_CORRUPT CORRUPT: torn"

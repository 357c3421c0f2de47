"""The safetensors layout, written and parsed strictly.

A file is an 8-byte little-endian header length, a JSON header padded with spaces to a multiple of 8, then the tensors'
bytes without gaps. The parser trusts nothing: it never allocates more than the file it was given, and it refuses what
other readers let pass (duplicate names, unknown fields, floats for sizes).
Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

MAX_HEADER_BYTES = 1 << 20
MAX_DIMENSIONS = 8

# numpy has no bfloat16: its bits travel as uint16.
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
}


@dataclass(frozen=True, eq=False)
class RawTensor:
    """A tensor as stored. dtype: its safetensors name. data: C-contiguous, of that shape; BF16 as uint16."""

    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray

    def prefix(self, tokens: int) -> RawTensor:
        """The first `tokens` entries along axis 2."""
        data = np.ascontiguousarray(self.data[:, :, :tokens])
        return RawTensor(self.dtype, data.shape, data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RawTensor):
            return NotImplemented
        return (self.dtype, self.shape) == (other.dtype, other.shape) and self.data.tobytes() == other.data.tobytes()

    __hash__ = None  # type: ignore[assignment]


def pack(tensors: dict[str, RawTensor], metadata: dict[str, str]) -> tuple[bytes, list[memoryview]]:
    """The length and header as bytes, and the data to follow it, piece by piece and uncopied.

    Wide dtypes come first, so that every tensor is aligned. Raises ValueError if a tensor is not what it says.
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    pieces: list[memoryview] = []
    offset = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-DTYPES[item[1].dtype].itemsize, item[0])):
        if tensor.data.dtype != DTYPES[tensor.dtype] or tensor.data.shape != tensor.shape or not tensor.data.size:
            raise ValueError(f"tensor {name}: {tensor.data.dtype} {tensor.data.shape} said to be {tensor.dtype}")
        piece = np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8).data
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(piece)],
        }
        offset += len(piece)
        pieces.append(piece)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, pieces


def header_end(data: bytes) -> int:
    """Where the tensors' bytes begin. Raises ValueError if the file is too short for what it says, or says too much."""
    if len(data) < 8:
        raise ValueError("shorter than a header")
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES or 8 + length > len(data):
        raise ValueError(f"header of {length} bytes in a file of {len(data)}")
    return 8 + length


def unpack(data: bytes) -> tuple[dict[str, RawTensor], dict[str, str]]:
    """Tensors (read-only views of `data`, nothing copied) and metadata. Raises ValueError for any irregularity."""
    end = header_end(data)
    header = parse_json(data[8:end])
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("metadata is not an object of strings")
    tensors: dict[str, RawTensor] = {}
    position = 0
    for (begin, stop), name in sorted((_offsets(entry), name) for name, entry in header.items()):
        if begin != position:
            raise ValueError("tensors overlap or leave a hole")
        tensors[name] = view(data, end + begin, stop - begin, header[name])
        position = stop
    if end + position != len(data):
        raise ValueError("the data is longer or shorter than its tensors")
    return tensors, metadata


def parse_json(text: bytes) -> Any:
    """JSON without duplicate names and non-finite numbers, however hostile. Raises ValueError."""
    try:
        return json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("duplicate name in JSON")
    return names


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} in JSON")


def _naturals(value: object) -> list[int]:
    """A list of integers >= 0, or ValueError; bool and float are not integers here."""
    if not isinstance(value, list) or not all(type(item) is int and item >= 0 for item in value):
        raise ValueError("sizes are not natural numbers")
    return value


def _offsets(entry: object) -> tuple[int, int]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError("a tensor's entry has other fields than it must")
    offsets = _naturals(entry["data_offsets"])
    if len(offsets) != 2 or offsets[0] >= offsets[1]:
        raise ValueError("a tensor's offsets are no range")
    return offsets[0], offsets[1]


def view(data: bytes, begin: int, size: int, entry: dict[str, Any]) -> RawTensor:
    """The tensor of entry["dtype"] and entry["shape"] in a part of `data`, uncopied. Raises ValueError."""
    shape = tuple(_naturals(entry["shape"]))
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise ValueError("unknown dtype")
    if len(shape) > MAX_DIMENSIONS or math.prod(shape) * dtype.itemsize != size or begin + size > len(data):
        raise ValueError("a tensor's shape and size disagree")
    array = np.frombuffer(data, dtype, count=size // dtype.itemsize, offset=begin).reshape(shape)
    return RawTensor(entry["dtype"], shape, array)

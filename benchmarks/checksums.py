"""Which checksum keeps up with reading files: `python -m benchmarks.checksums --json`.

Throughput over pieces of the size of a block file (0.6 MiB), beside reading a file of that size from the page cache.
blake3 and crc32c are measured if they are installed (packages blake3, google-crc32c): the product does not need them.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import xxhash

from benchmarks import machine

PIECE = 600 * 1024
PIECES = 100


def candidates() -> dict[str, Callable[[bytes], object]]:
    found: dict[str, Callable[[bytes], object]] = {
        "xxh3_128": lambda data: xxhash.xxh3_128(data).digest(),
        "blake2b": lambda data: hashlib.blake2b(data, digest_size=16).digest(),
        "sha256": lambda data: hashlib.sha256(data).digest(),
        "crc32 (zlib)": zlib.crc32,
    }
    for name, module, function in (("blake3", "blake3", "blake3"), ("crc32c", "google_crc32c", "value")):
        try:
            call = getattr(importlib.import_module(module), function)
        except ImportError:
            continue
        found[name] = (lambda data, call=call: call(data).digest()) if name == "blake3" else call
    return found


def gigabytes_per_second(work: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return PIECE * PIECES / statistics.median(seconds) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object (it always is)")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    pieces = [os.urandom(PIECE) for _ in range(PIECES)]
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / str(number) for number in range(PIECES)]
        for file, piece in zip(files, pieces, strict=True):
            file.write_bytes(piece)
        rates = {"read": gigabytes_per_second(lambda: [file.read_bytes() for file in files], args.repeats)}
    for label, checksum in candidates().items():
        rates[label] = gigabytes_per_second(lambda call=checksum: [call(piece) for piece in pieces], args.repeats)
    print(json.dumps({"benchmark": "checksums", "gb_per_s": rates, "machine": machine.describe()}))


if __name__ == "__main__":
    main()

"""Seeded damage: what bad drives, stray tools and clumsy hands do to block files, turn records and the catalog."""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.store.samples import reseal

FileMutation = Callable[[random.Random, Path, list[Path]], None]
"""Changes a file. The last argument: the other files of its sort, of all agents and namespaces."""


def flip(rng: random.Random, file: Path, _: list[Path]) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def truncate(rng: random.Random, file: Path, _: list[Path]) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: rng.choice((0, len(data) - 1, rng.randrange(len(data))))])


def extend(rng: random.Random, file: Path, _: list[Path]) -> None:
    file.write_bytes(file.read_bytes() + rng.randbytes(rng.choice((1, 8, 5000))))


def swap(rng: random.Random, file: Path, others: list[Path]) -> None:
    shutil.copy(rng.choice(others), file)


def splice(rng: random.Random, file: Path, others: list[Path]) -> None:
    """The first part of one file and the rest of another."""
    data, other = file.read_bytes(), rng.choice(others).read_bytes()
    place = rng.randrange(1, len(data))
    file.write_bytes(data[:place] + other[place:])


def blank(rng: random.Random, file: Path, _: list[Path]) -> None:
    """A run of zeros, as of a sector that was never written."""
    data = bytearray(file.read_bytes())
    place = rng.randrange(len(data))
    size = min(rng.choice((16, 512, 4096)), len(data) - place)
    file.write_bytes(bytes(data[:place]) + bytes(size) + bytes(data[place + size :]))


def delete(_: random.Random, file: Path, __: list[Path]) -> None:
    file.unlink()


def edit_number(rng: random.Random, file: Path, _: list[Path]) -> None:
    """Some number in the JSON becomes another one."""
    data = file.read_bytes()
    found = rng.choice(list(re.finditer(rb"\d+", data)))
    file.write_bytes(data[: found.start()] + str(int(found[0]) + 1).encode() + data[found.end() :])


def duplicate_key(rng: random.Random, file: Path, _: list[Path]) -> None:
    data = file.read_bytes()
    found = rng.choice(list(re.finditer(rb'"\w+":(\d+|"[\w.-]*")', data)))
    _write(file, data, data[: found.end()] + b"," + found[0] + data[found.end() :])


def huge_shape(rng: random.Random, file: Path, _: list[Path]) -> None:
    data = file.read_bytes()
    found = rng.choice(list(re.finditer(rb"\[\d+", data)) or list(re.finditer(rb"\d", data)))
    _write(file, data, data[: found.end()] + b"0" * rng.choice((3, 9, 200)) + data[found.end() :])


def rename_block(rng: random.Random, file: Path, others: list[Path]) -> None:
    """Another block's file that says, checksum and all, that it is this one."""
    other = rng.choice(others)
    data = other.read_bytes()
    _write(file, data, data.replace(other.stem.encode(), file.stem.encode()))


def _write(file: Path, data: bytes, changed: bytes) -> None:
    """Writes a changed file, of a block with a header length and a checksum to match."""
    if file.suffix == ".safetensors":
        end = 8 + int.from_bytes(data[:8], "little")
        changed = reseal(data, changed[8 : len(changed) - (len(data) - end)])
    file.write_bytes(changed)


OF_BLOCKS: list[FileMutation] = [
    flip, truncate, extend, swap, splice, blank, delete, duplicate_key, huge_shape, rename_block,
]  # fmt: skip
OF_RECORDS: list[FileMutation] = [
    flip, truncate, extend, swap, splice, blank, delete, edit_number, duplicate_key, huge_shape,
]  # fmt: skip


CatalogMutation = Callable[[random.Random, Path], None]
"""Changes the catalog of the store in a folder."""


def flip_catalog(rng: random.Random, folder: Path) -> None:
    flip(rng, folder / "catalog.sqlite", [])


def flip_a_cell(rng: random.Random, folder: Path) -> None:
    """A flipped bit where there is something: most of a small catalog is empty."""
    data = bytearray((folder / "catalog.sqlite").read_bytes())
    places = [place for place, byte in enumerate(data) if byte]
    data[rng.choice(places)] ^= 1 << rng.randrange(8)
    (folder / "catalog.sqlite").write_bytes(data)


def flip_log(rng: random.Random, folder: Path) -> None:
    """As a daemon that was killed leaves it: with its latest transactions in the log alone."""
    log = folder / "catalog.sqlite-wal"
    flip(rng, log if log.exists() else folder / "catalog.sqlite", [])


def cut_log(rng: random.Random, folder: Path) -> None:
    log = folder / "catalog.sqlite-wal"
    truncate(rng, log if log.exists() else folder / "catalog.sqlite", [])


def lose_log(_: random.Random, folder: Path) -> None:
    (folder / "catalog.sqlite-wal").unlink(missing_ok=True)


def cut_catalog(rng: random.Random, folder: Path) -> None:
    truncate(rng, folder / "catalog.sqlite", [])


def blank_catalog(rng: random.Random, folder: Path) -> None:
    blank(rng, folder / "catalog.sqlite", [])


def swap_pages(rng: random.Random, folder: Path) -> None:
    data = (folder / "catalog.sqlite").read_bytes()
    pages = [data[place : place + 4096] for place in range(0, len(data), 4096)]
    one, two = rng.sample(range(len(pages)), 2)
    pages[one], pages[two] = pages[two], pages[one]
    (folder / "catalog.sqlite").write_bytes(b"".join(pages))


def delete_catalog(rng: random.Random, folder: Path) -> None:
    for path in sorted(folder.glob("catalog.sqlite*"))[: rng.choice((1, 3))]:
        path.unlink()


def edit_row(rng: random.Random, folder: Path) -> None:
    """A value changes to another row's, or to one of another kind."""
    db = sqlite3.connect(folder / "catalog.sqlite")
    table = rng.choice(("agents", "turns", "blocks", "timeline", "namespaces"))
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    rows, column = db.execute(f"SELECT * FROM {table}").fetchall(), rng.choice(columns)
    row, other = rng.choice(rows), rng.choice(rows)[columns.index(column)]
    value = rng.choice((other, other, other, 0, 1, -1, 1 << 62, 1.5, "", "x", b"", b"\xff"))
    where = " AND ".join(f"{name} IS ?" for name in columns)
    with suppress(sqlite3.IntegrityError):
        db.execute(f"UPDATE OR IGNORE {table} SET {column}=? WHERE {where}", (value, *row))
    db.commit()
    db.close()


def delete_row(rng: random.Random, folder: Path) -> None:
    db = sqlite3.connect(folder / "catalog.sqlite")
    table = rng.choice(("agents", "turns", "blocks", "timeline", "namespaces"))
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    row = rng.choice(db.execute(f"SELECT * FROM {table}").fetchall())
    db.execute(f"DELETE FROM {table} WHERE " + " AND ".join(f"{name} IS ?" for name in columns), row)
    db.commit()
    db.close()


OF_CATALOG: list[CatalogMutation] = [
    flip_catalog, flip_a_cell, flip_a_cell, flip_a_cell, flip_log, cut_log, lose_log, cut_catalog, blank_catalog,
    swap_pages, delete_catalog, edit_row, edit_row, edit_row, delete_row,
]  # fmt: skip

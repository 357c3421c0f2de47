"""Blocks of splices as files: their keys cover all that they are, and nothing else is taken for one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agentmem.store.blockfile import Block, BlockUnreadable, decode, encode
from agentmem.store.grid import Grid, SpliceRun, grid, is_spliced, splices_fit, starts
from agentmem.store.layout import RawTensor
from agentmem.store.placement import UNUSED, Placement, params
from agentmem.types import BlockKind
from tests.store.samples import reseal

SECRET, STATE = bytes(range(32)), "state"


def placement(**changes: object) -> Placement:
    rows = np.full(256, UNUSED, np.int32)
    rows[[3, 4, 200]] = [70, 71, 60]
    given = Placement(rows, -30, "BLEND", params(ratio=0.15, check_layer=1), bytes(32), bytes(range(1, 33)))
    return replace(given, **changes)  # type: ignore[arg-type]


def spliced(placed: Placement, ids: tuple[int, ...] = (5, 6, 7), parent: bytes = bytes(32)) -> Block:
    rows = np.arange(2 * 1 * 3 * 4, dtype=np.float32).reshape(2, 1, 3, 4)
    tensors = {"attn.k.scales": RawTensor("F32", rows.shape, rows)}
    own = np.array(ids, np.int32)
    block = Block(b"", parent, STATE, BlockKind.SPLICE, 58, own, tensors, "reference", 64, 4, placement=placed)
    return replace(block, key=block.key_of_prefix(SECRET, 3))


def test_what_is_written_is_read() -> None:
    block = spliced(placement())
    read = decode(encode(block), key=block.key, secret=SECRET)
    assert read == block
    assert read.positions.tolist() == [70, 71, 60]
    assert block.key_of_prefix(SECRET, 2) == b""


def test_a_key_covers_all_that_a_splice_is() -> None:
    rows = placement().rows.copy()
    rows[[3, 4]] = rows[[4, 3]]
    others = [
        placement(rows=rows),
        placement(shift=30),
        placement(operation="REPOSITION"),
        placement(params=params(ratio=0.2, check_layer=1)),
        placement(source=b""),
        placement(splice=b""),
    ]
    blocks = [spliced(placement()), *map(spliced, others), spliced(placement(), (5, 6, 8))]
    blocks.append(spliced(placement(), parent=b""))
    text = replace(blocks[0], kind=BlockKind.TEXT, placement=None)
    keys = {block.key for block in blocks} | {text.key_of_prefix(SECRET, 3)}
    assert len(keys) == len(blocks) + 1


def test_a_copy_elsewhere_does_not_tell_its_sources() -> None:
    given = placement()
    away = given.under(SECRET)
    assert away.source not in (b"", given.source)
    assert away.splice not in (b"", given.splice)
    assert placement(source=b"").under(SECRET).source == b""
    assert replace(away, source=given.source, splice=given.splice) == given


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (b'"shift":"-30"', b'"shift":"-31"'),
        (b'"shift":"-30"', b'"shift":"030"'),
        (b'"shift":"-30"', b'"shift":"1e9"'),
        (b'"operation":"BLEND"', b'"operation":"blend"'),
        (b'"kind":"SPLICE"', b'"kind":"LATENT"'),
        (b'"source":"00', b'"source":"0g'),
    ],
)
def test_a_file_that_says_something_else_is_refused(was: bytes, now: bytes) -> None:
    block = spliced(placement())
    data = encode(block)
    header = data[8 : 8 + int.from_bytes(data[:8], "little")]
    assert header.count(was) == 1
    with pytest.raises(BlockUnreadable):
        decode(reseal(data, header.replace(was, now)), key=block.key, secret=SECRET)


@pytest.mark.parametrize("row", [-2, 71])
def test_rows_are_positions_each_once(row: int) -> None:
    rows = placement().rows.copy()
    rows[200] = row
    block = spliced(placement(rows=rows), (5, 6, 7))
    with pytest.raises(BlockUnreadable):
        decode(encode(block), key=block.key, secret=SECRET)


def test_where_blocks_begin() -> None:
    used, runs = [256, 37, 100, 3, 256, 9], (SpliceRun(2, 2),)
    assert starts(used) == [0, 256, 293, 393, 396, 652, 661]
    assert grid(used, runs) == Grid(4, 396)
    assert grid(used, ()) == Grid()
    assert (Grid(4, 396).place_of(651), Grid(4, 396).place_of(652), Grid(4, 396).start_of(5)) == (4, 5, 652)
    assert [is_spliced(place, runs) for place in range(6)] == [False, False, True, True, False, False]
    assert splices_fit(runs, 4)
    assert not splices_fit(runs, 3)
    assert not splices_fit((*runs, SpliceRun(3, 1)), 9)
    assert not splices_fit((SpliceRun(2, 0),), 9)

"""Blocks that are whole, and yet not what timeline and model need: never served, and computed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agentmem.engine.engine import Engine
from agentmem.store.blockfile import Block
from agentmem.store.catalog import blocks as block_rows
from agentmem.store.layout import RawTensor
from tests.engine.runs import PROMPT, A, cold, feed, finished, request, run, said

NAME = "attn.k.scales"


def _other_dtype(block: Block) -> Block:
    tensor = block.tensors[NAME]
    return replace(block, tensors={**block.tensors, NAME: RawTensor("U32", tensor.shape, tensor.data.view(np.uint32))})


def _other_shape(block: Block) -> Block:
    tensor = block.tensors["attn.k.weight"]
    half = np.ascontiguousarray(tensor.data[..., : tensor.shape[-1] // 2])
    return replace(block, tensors={**block.tensors, "attn.k.weight": RawTensor(tensor.dtype, half.shape, half)})


def _fewer_tensors(block: Block) -> Block:
    return replace(block, tensors={name: one for name, one in block.tensors.items() if name != NAME})


def _other_place(block: Block) -> Block:
    return replace(block, start=block.start + 256)


@pytest.mark.reference
@pytest.mark.parametrize(
    "change",
    [
        _other_dtype,
        _other_shape,
        pytest.param(_fewer_tensors, marks=pytest.mark.slow),
        pytest.param(_other_place, marks=pytest.mark.slow),
    ],
)
def test_a_block_that_fits_not_is_computed_again_and_put_back(
    engine: Engine, tmp_path: Path, change: Callable[[Block], Block]
) -> None:
    feed(engine, A, *PROMPT[:300], tokens=None)
    key = bytes.fromhex(engine.get_agent(A).blocks[0].key)
    engine.evict_agent(A)
    store = engine._context.store
    row = store._core.blocks.write(change(store.blocks.read("default", key)[0]), store.namespace("default").secret)
    store._core.catalog.write(block_rows.replace, key, row)
    events = run(engine, request(11, tokens=6))
    usage = finished(events).usage
    assert (usage.recomputed_tokens, usage.reused_warm_tokens, usage.prefill_tokens) == (256, 44, 1)
    (warning,) = finished(events).warnings
    assert warning.reason in ("BLOCK_CORRUPT", "BLOCK_FOREIGN")
    assert engine.stats().quarantined_blocks_total == 1
    aside = tmp_path / "state" / "quarantine"
    assert sorted(path.name for path in aside.iterdir()) == [f"{key.hex()}.reason.json", f"{key.hex()}.safetensors"]
    engine.evict_agent(A)
    assert feed(engine, A, 12)[1].recomputed_tokens == 0, "it was put back"
    assert engine.verify().problems == ()
    assert said(events) == cold(engine, PROMPT[:300], (11,))

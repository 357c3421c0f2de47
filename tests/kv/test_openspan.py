"""A span that other threads fill: what they wrote is what MLX reads, and nothing that they did not write."""

from __future__ import annotations

from dataclasses import replace
from threading import Thread

import mlx.core as mx
import numpy as np
import pytest

from agentmem.kv import openspan
from agentmem.kv.layers import Tensors, to_numpy
from agentmem.kv.layout import AttentionLayout
from agentmem.kv.openspan import OpenSpan
from agentmem.kv.span import Span

LAYOUT = AttentionLayout(layers=3, kv_heads=2, head_dim=64, group_size=64, dtype=mx.float32)
BF16 = replace(LAYOUT, dtype=mx.bfloat16)


def block(layout: AttentionLayout, seed: int) -> Tensors:
    rng = np.random.default_rng(seed)
    kinds = {name: np.uint32 if layout.dtype_of(name) == mx.uint32 else np.uint16 for name in layout.tensors}
    if layout.dtype == mx.float32:
        kinds = {name: np.float32 if kind == np.uint16 else kind for name, kind in kinds.items()}
    return {name: rng.integers(1, 1000, layout.shape(name)).astype(kind) for name, kind in kinds.items()}


def filled(layout: AttentionLayout, segments: int, put: list[int]) -> OpenSpan:
    span = OpenSpan(layout, segments)
    for _ in span.allocate():
        pass
    threads = [Thread(target=span.put, args=(segment, block(layout, segment))) for segment in reversed(put)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return span


def holds(span: Span, layout: AttentionLayout, segments: int) -> bool:
    """Whether it holds the blocks 0, 1, ..."""
    assert (len(span.layers), span.segments) == (layout.layers, segments)
    return all(
        np.array_equal(to_numpy(array[segment]), block(layout, segment)[name][layer])
        for segment in range(segments)
        for layer, piece in enumerate(span.layers)
        for name, array in zip(layout.tensors, piece.arrays, strict=True)
    )


@pytest.mark.parametrize("step_bytes", [1, 1 << 30])  # a run of each layer, or one of all
@pytest.mark.parametrize("layout", [LAYOUT, BF16], ids=["fp32", "bf16"])
def test_what_threads_put_is_what_the_span_holds(
    layout: AttentionLayout, step_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openspan, "STEP_BYTES", step_bytes)
    span = filled(layout, 4, [0, 1, 2, 3]).close(4)
    assert all(a.dtype == layout.dtype_of(n) for n, a in zip(layout.tensors, span.layers[0].arrays, strict=True))
    assert holds(span, layout, 4)
    assert span.nbytes == 4 * 256 * layout.bytes_per_token


def test_the_head_can_be_read_while_the_rest_is_filled() -> None:
    span = filled(LAYOUT, 4, [0, 1, 3])
    head = span.head(2)
    span.put(2, block(LAYOUT, 2))
    assert holds(head, LAYOUT, 2)
    assert holds(span.close(4), LAYOUT, 4)


def test_what_is_not_filled_is_never_served() -> None:
    span = filled(LAYOUT, 4, [0, 1, 3])
    for read in (span.head, span.close):
        with pytest.raises(ValueError, match="not filled"):
            read(3)
    short = {name: rows[:, :, :1] for name, rows in block(LAYOUT, 2).items()}
    with pytest.raises(ValueError, match="full blocks"):  # numpy would repeat the one row
        span.put(2, short)
    closed = span.close(2)
    span.put(2, block(LAYOUT, 2))  # of a thread that was late
    assert holds(closed, LAYOUT, 2)

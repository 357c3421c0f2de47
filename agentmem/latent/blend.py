"""Blend (CacheBlend): a splice of which the positions that miss their context most are computed anew, in context.

Which these are is judged by the keys of an early layer: that far, all positions are computed in context.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from agentmem.errors import AgentmemError, Reason
from agentmem.kv import splicing
from agentmem.kv.inorder import InOrder
from agentmem.kv.placed import UNUSED
from agentmem.kv.plan import Plan
from agentmem.kv.recompute import ContextKeys, RowsCache, blank
from agentmem.kv.rotation import Frequencies
from agentmem.kv.splicing import Taken
from agentmem.kv.state import AgentState
from agentmem.latent.splice import Part, splice
from agentmem.model.forward import CHUNK, caches
from agentmem.model.loader import LoadedModel
from agentmem.types import BLOCK_TOKENS, CHECK_LAYER, RATIO, PrefillPath

ROWS = BLOCK_TOKENS
"""Positions that are computed anew in a pass. All attend to whatever is before the last of them: with fewer, less of
it is behind the others; with more, it is dequantised less often."""


class Blended(NamedTuple):
    """As `Spliced`. recomputed: the positions that were computed in context, in ascending order."""

    state: AgentState
    starts: tuple[int, ...]
    recomputed: np.ndarray


def blending(
    model: LoadedModel,
    frequencies: Sequence[Frequencies],
    prefix: AgentState | None,
    parts: Sequence[Part],
    contents: Sequence[mx.array],
    ratio: float = RATIO,
    check_layer: int = CHECK_LAYER,
) -> Generator[int, None, Blended]:
    """A splice, of whose positions behind the prefix the share `ratio`, rounded up, is computed anew.

    contents: of each part the input embeddings of its positions, [positions, width]. Nothing that is given changes.
    Yields how many positions it is about to compute, so that others come between any two.

    With ratio 0 it is the splice; with 1 it is what a prefill behind the prefix would be, but for
    the order of sums.

    Raises AgentmemError: INPUT_INVALID, MODEL_MISMATCH.
    """
    if not 0 <= ratio <= 1:
        raise AgentmemError(Reason.INPUT_INVALID, "The ratio of positions to compute anew lies between 0 and 1.")
    if not 0 <= check_layer < model.layout.full.layers:
        last = model.layout.full.layers - 1
        raise AgentmemError(Reason.INPUT_INVALID, f"The check layer is one of this model's, 0 to {last}.")
    if [len(part) for part in parts] != [content.shape[0] for content in contents]:
        raise AgentmemError(Reason.INPUT_INVALID, "Every position of a part needs its input embedding.")
    spliced = splice(model, frequencies, prefix, parts)
    state, begin = spliced.state, 0 if prefix is None else prefix.offset
    count = math.ceil(ratio * (state.offset - begin))
    if not count:
        return Blended(*spliced, np.zeros(0, np.int64))
    embeddings = mx.concatenate(list(contents))
    if count < state.offset - begin:
        away = yield from _deviations(model, prefix, state, embeddings, check_layer)
        chosen = np.sort(np.argsort(-away, kind="stable")[:count])
    else:
        chosen = np.arange(count)
    blended = yield from _recomputed(model, frequencies, prefix, state, chosen + begin, embeddings[mx.array(chosen)])
    return Blended(blended, spliced.starts, chosen + begin)


def _deviations(
    model: LoadedModel,
    prefix: AgentState | None,
    spliced: AgentState,
    embeddings: mx.array,
    check_layer: int,
) -> Generator[int, None, np.ndarray]:
    """How far each position's key in the check layer is from what it is in context: squared, over all heads."""
    whole = AgentState(model.layout) if prefix is None else prefix
    begin, layers = whole.offset, model.network.layers[: check_layer + 1]
    joint = whole.fork(max(1, check_layer))  # there is no state without a layer
    checked = spliced.full.layers[check_layer]
    here = InOrder(checked.pieces(), checked.layout, begin, spliced.offset).keys(slice(None)).astype(mx.float32)
    away: list[np.ndarray] = []
    for at in range(0, len(embeddings), CHUNK):
        hidden, last = embeddings[None, at : at + CHUNK], ContextKeys(begin + at)
        yield -(-hidden.shape[1] * len(layers) // len(model.network.layers))
        for layer, cache in zip(layers, [*caches(model, [joint])[:check_layer], last], strict=True):
            hidden = layer(hidden, None, cache)
        missed = last.keys.astype(mx.float32) - here[:, :, at : at + CHUNK]
        away.append(np.array(mx.square(missed).sum(axis=(0, 1, 3))))
        joint.evaluate()
    return np.concatenate(away)


def _recomputed(
    model: LoadedModel,
    frequencies: Sequence[Frequencies],
    prefix: AgentState | None,
    spliced: AgentState,
    positions: np.ndarray,
    embeddings: mx.array,
) -> Generator[int, None, AgentState]:
    """The splice with rows of its own at `positions`, ascending. embeddings: theirs, [positions, width]."""
    state = AgentState(model.layout) if prefix is None else prefix.fork()
    splicing.close(state.full)
    span = blank(model.layout.full, len(positions))
    rows = np.full(span.segments * BLOCK_TOKENS, UNUSED)
    rows[: len(positions)] = positions
    kept = [
        Taken(span, np.where(np.isin(rows, positions), UNUSED, rows), shift)
        for span, rows, shift in splicing.take(spliced.full, state.offset, spliced.offset)
    ]
    splicing.place(state.full, [*kept, Taken(span, rows, 0)], frequencies)
    fused = model.prefill is PrefillPath.FUSED
    for at in range(0, len(positions), ROWS):
        own = positions[at : at + ROWS]
        yield len(own)
        plans: list[Plan] = []
        of_rows = [
            RowsCache(layer, target, own, at, plans, fused)
            for layer, target in zip(state.full.layers, span.layers, strict=True)
        ]
        model.network.model(None, cache=of_rows, input_embeddings=embeddings[at : at + ROWS, None])
        mx.eval([piece.arrays for piece in span.layers])
    return state

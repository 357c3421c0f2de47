"""How far Q4 state that was taken from elsewhere is from what would have been computed and quantised where it stands.

All against one another on the same tokens, relative, as norms: a document's keys that were quantised at position 0 and
are met by turned queries (`moved`), the same keys quantised at the shift (`there`), and the keys before quantisation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from statistics import fmean

import mlx.core as mx
import numpy as np

from agentmem.latent.blend import blending
from agentmem.latent.frequencies import frequencies
from agentmem.model.forward import embed
from agentmem.model.loader import LoadedModel
from tests.latent.reference import Rows, block_diagonal, causal, error, forward
from tests.latent.states import logits, part, prefilled, result

SHIFTS = (1, 256, 4096)
Figures = dict[str, float]


def errors(model: LoadedModel, documents: Sequence[list[int]], text: list[int]) -> dict[str, Figures]:
    """text: tokens behind, whose logits are compared."""
    by_shift = {f"shift_{shift}": figures for shift, figures in shifts(model, documents[0], text)}
    return {**by_shift, "blend": blends(model, documents, text)}


def shifts(model: LoadedModel, document: Sequence[int], text: Sequence[int]) -> Iterator[tuple[int, Figures]]:
    """By how far the document was moved: errors of its keys, a mean over layers, and of the logits behind it."""
    tokens, turns = [*document, *text], frequencies(model)
    kept, mask = np.arange(len(tokens)) < len(document), causal(len(tokens))
    _, first = forward(model, tokens, mask)
    for shift in SHIFTS:
        want, exact = forward(model, tokens, mask, shift)
        moved = [(turn.turn(k, shift), v) for turn, (k, v) in zip(turns, _quantised(model, first), strict=True)]
        there = _quantised(model, exact)
        behind = {
            name: forward(model, tokens, mask, shift, rows, kept)[0][len(document) :]
            for name, rows in (("moved", moved), ("there", there))
        }
        yield (
            shift,
            {
                "keys_moved_over_there": _keys(moved, there),
                "keys_moved_over_exact": _keys(moved, exact),
                "keys_there_over_exact": _keys(there, exact),
                "logits_moved_over_there": error(behind["moved"], behind["there"]),
                "logits_moved_over_exact": error(behind["moved"], want[len(document) :]),
                "logits_there_over_exact": error(behind["there"], want[len(document) :]),
            },
        )


def blends(model: LoadedModel, documents: Sequence[list[int]], text: list[int]) -> Figures:
    """Of the logits behind documents: with none computed anew, over a prefill in which none sees another; with all,
    over a full prefill; both as they would be without quantisation (`exact`), and over a full prefill as it is kept.
    """
    tokens = [*chain(*documents), *text]
    apart, _ = forward(model, tokens, block_diagonal([len(one) for one in documents], len(text)))
    joint, _ = forward(model, tokens, causal(len(tokens)))
    parts = [part(model, prefilled(model, one)) for one in documents]
    contents = [embed(model, one) for one in documents]
    of_ratio = (result(blending(model, frequencies(model), None, parts, contents, r)).state for r in (0.0, 1.0))
    none, whole = (logits(model, state, text) for state in of_ratio)
    full = logits(model, prefilled(model, list(chain(*documents))), text)
    return {
        "none_over_apart_exact": error(none, apart[-len(text) :]),
        "all_over_full_exact": error(whole, joint[-len(text) :]),
        "full_over_full_exact": error(full, joint[-len(text) :]),
        "all_over_full": error(whole, full),
    }


def _quantised(model: LoadedModel, rows: Rows) -> Rows:
    """And back."""
    how = {"group_size": model.layout.full.group_size, "bits": model.layout.full.bits}
    return [
        (mx.dequantize(*mx.quantize(k, **how), **how), mx.dequantize(*mx.quantize(v, **how), **how)) for k, v in rows
    ]


def _keys(got: Rows, want: Rows) -> float:
    return fmean(error(a, b) for (a, _), (b, _) in zip(got, want, strict=True))

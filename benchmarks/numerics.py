"""How far two ways of computing the same positions are apart: logits, and quantisation levels of the state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agentmem.kv.layout import LayerKind
from agentmem.kv.state import AgentState
from agentmem.model import forward
from agentmem.model.loader import LoadedModel
from agentmem.types import BLOCK_TOKENS


@dataclass(frozen=True)
class Trace:
    """What came of a prompt and the tokens that were fed behind it.

    logits: behind each of these, fp32 [tokens, vocab]. words: packed 4-bit keys and values of all positions held.
    """

    logits: np.ndarray
    words: np.ndarray


@dataclass(frozen=True)
class Distance:
    """logits: the largest difference, in standard deviations of the first's logits at the position. choices: positions
    where another token has the largest logit. flips: 4-bit levels that differ, of so many.
    """

    logits: float
    choices: int
    flips: int
    levels: int


def trace(model: LoadedModel, prompt: Sequence[int], forced: Sequence[int]) -> Trace:
    """Prefills the prompt by the model's own path, then feeds the forced tokens one by one."""
    return goes_on(model, prefilled(model, prompt), forced)


def prefilled(model: LoadedModel, prompt: Sequence[int]) -> AgentState:
    state = AgentState(model.layout)
    for _ in forward.prefill(model, state, prompt):
        pass
    return state


def goes_on(model: LoadedModel, state: AgentState, forced: Sequence[int]) -> Trace:
    logits = np.stack([np.array(forward.last_logits(model, state, [token])) for token in forced])
    return Trace(logits, _words(state))


def distance(reference: Trace, other: Trace) -> Distance:
    off = np.abs(reference.logits - other.logits).max(axis=1) / reference.logits.std(axis=1)
    choices = np.count_nonzero(reference.logits.argmax(axis=1) != other.logits.argmax(axis=1))
    differ = reference.words ^ other.words
    flips = sum(np.count_nonzero(differ >> shift & 15) for shift in range(0, 32, 4))
    return Distance(float(off.max()), int(choices), int(flips), 8 * differ.size)


def _words(state: AgentState) -> np.ndarray:
    """One after the other, layer by layer."""
    found = []
    for kind in (kind for kind in (LayerKind.FULL, LayerKind.WINDOW) if kind in state.layout.kinds):
        for layer in state.group(kind).layers:
            for first, piece in layer.pieces():
                rows = state.offset - first * BLOCK_TOKENS
                for words, *_ in (piece.keys, piece.values):
                    found.append(np.array(words.swapaxes(0, 1).flatten(1, 2)[:, :rows]).ravel())
    return np.concatenate(found)

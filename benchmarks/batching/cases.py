"""What is measured on: model, lengths, repeats. Agents' states are random numbers: prefill takes long on a CPU."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from tokenizers import Tokenizer

from agentmem.kv.layout import PARTS, AttentionLayout
from agentmem.kv.span import Piece, Quantised, Span
from agentmem.kv.state import AgentState
from agentmem.model import loader
from agentmem.types import BLOCK_TOKENS
from benchmarks.ttft import LARGER
from tests.helpers.checkpoints import VOCAB, Spec, write


@dataclass(frozen=True)
class Cases:
    """Lengths in positions. long, short: the contexts of a ragged batch; equal: that of a batch of equals."""

    spec: Spec = LARGER
    cold: tuple[int, ...] = (1024, 4096)
    long: int = 4096
    short: int = 256
    equal: int = 1024
    agents: int = 8
    steps: int = 16
    reply: int = 256
    forced: int = 64
    repeats: int = 5


QUICK = Cases(
    Spec(layers=2, context=2048), (256,), long=768, short=128, equal=256, agents=4, steps=8, reply=48,
    forced=8, repeats=1,
)  # fmt: skip
"""Shows that everything runs; its figures mean nothing."""


def checkpoint(folder: Path, cases: Cases) -> Path:
    return _endless(write(folder / "random", cases.spec))


def embedded(folder: Path) -> Path:
    return _endless(Path(shutil.copytree(loader.embedded_path(), folder / "embedded")))


def _endless(folder: Path) -> Path:
    """Gives a checkpoint an end token behind its vocabulary, so that replies have the length that was asked for."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|never|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    for file, changes in (
        ("config.json", {"eos_token_id": [tokenizer.token_to_id("<|never|>")]}),
        ("tokenizer_config.json", {"eos_token": "<|never|>"}),
    ):
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def random_ids(count: int, seed: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(5, VOCAB, count)]


def random_span(layout: AttentionLayout, segments: int, seed: int) -> Span:
    rng = np.random.default_rng(seed)
    return Span([_piece(layout, segments, rng) for _ in range(layout.layers)])


def random_state(model: loader.LoadedModel, tokens: int, seed: int) -> AgentState:
    """A state as a prefill of so many tokens leaves it, but for its values: all of it in the tail."""
    state, rng = AgentState(model.layout), np.random.default_rng(seed)
    for layer in state.full.layers:
        layer.tail = _piece(model.layout.full, -(-tokens // BLOCK_TOKENS), rng)
        layer.offset = tokens
    state.evaluate()
    return state


def _piece(layout: AttentionLayout, segments: int, rng: np.random.Generator) -> Piece:
    def side() -> Quantised:
        arrays = []
        for part in PARTS:
            shape = (segments, layout.kv_heads, BLOCK_TOKENS, layout.widths[part])
            if part == "weight":
                arrays.append(mx.array(rng.integers(0, 2**32, shape, dtype=np.uint32)))
            else:
                arrays.append(mx.array(rng.standard_normal(shape, dtype=np.float32) / 50).astype(layout.dtype))
        return arrays[0], arrays[1], arrays[2]

    piece = Piece(side(), side())
    mx.eval(piece.arrays)
    return piece

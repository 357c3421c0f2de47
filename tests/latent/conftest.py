"""Tiny random models, and a state that keeps keys and values as they are, for what must hold without quantisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import pytest

from agentmem.kv import attention, batch, inorder, recompute
from agentmem.kv.layout import AttentionLayout, StateLayout
from agentmem.model import loader
from agentmem.model.loader import LoadedModel
from tests.helpers.checkpoints import Spec, write

SPECS = (
    Spec("llama", 64, tied=True),
    Spec("qwen3", 64, tied=False),
    Spec("llama", 64, tied=False),
    Spec("qwen3", 64, tied=True),
)
"""The gate runs the first two; `make test-all` all."""


def _name(spec: Spec) -> str:
    return spec.name


Load = Callable[[Spec], LoadedModel]


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Loads the model of a spec, once."""
    loaded: dict[Spec, LoadedModel] = {}

    def once(spec: Spec) -> LoadedModel:
        if spec not in loaded:
            loaded[spec] = loader.load(str(write(tmp_path_factory.mktemp("ck"), spec)))
        return loaded[spec]

    return once


@pytest.fixture(params=[*SPECS[:2], *(pytest.param(spec, marks=pytest.mark.slow) for spec in SPECS[2:])], ids=_name)
def model(request: pytest.FixtureRequest, load: Load) -> LoadedModel:
    return load(request.param)


@pytest.fixture
def one(load: Load) -> LoadedModel:
    return load(SPECS[1])


@dataclass(frozen=True)
class FullPrecision(AttentionLayout):
    """A row's packed weights are the row itself; scales and biases say nothing."""

    @property
    def widths(self) -> dict[str, int]:
        return {"weight": self.head_dim, "scales": 1, "biases": 1}

    def part_dtype(self, part: str) -> mx.Dtype:
        return self.dtype


class _Unquantised:
    """mlx.core, but that nothing is quantised."""

    def __getattr__(self, name: str) -> Any:
        return getattr(mx, name)

    @staticmethod
    def quantize(rows: mx.array, *_: int) -> tuple[mx.array, mx.array, mx.array]:
        nothing = mx.zeros((*rows.shape[:-1], 1), rows.dtype)
        return rows, nothing, nothing

    @staticmethod
    def dequantize(rows: mx.array, *_: mx.array, **__: int) -> mx.array:
        return rows


def _product(x: mx.array, packed: tuple[mx.array, ...], cache: object, transpose: bool) -> mx.array:
    return (x @ (packed[0].swapaxes(-1, -2) if transpose else packed[0])).astype(mx.float32)


@pytest.fixture
def unquantised(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadedModel]:
    """The model with fp states; all else is the code that serves."""
    for module in (batch, recompute, inorder):
        monkeypatch.setattr(module, "mx", _Unquantised())
    monkeypatch.setattr(attention, "_product", _product)
    return replace(model, layout=StateLayout.of_full(FullPrecision(**vars(model.layout.full))))

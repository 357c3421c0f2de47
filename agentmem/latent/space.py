"""A model's embedding space: what its last hidden states are turned into before they are fed as inputs."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from agentmem.latent.pieces import Pieces
from agentmem.model.loader import LoadedModel
from agentmem.types import Projection

ROWS = 8192
"""Rows of an embedding table that are in fp32 at once."""

DAMPING = 1e-5
"""What ridge adds to the normal equation's diagonal."""


class EmbeddingSpace:
    """Of one model; make it once, for the ridge takes V * D * D operations. Used on the executor thread.

    Go through `making` before the first `project`, or that makes what it needs at once.
    """

    def __init__(self, model: LoadedModel) -> None:
        network = model.network
        self._inputs: nn.Module = network.model.embed_tokens
        self._outputs: nn.Module = getattr(network, "lm_head", self._inputs)
        self._dtype = model.layout.full.dtype
        self._mean_norm = Pieces(lambda: _mean_norm(self._inputs))
        self._ridge = Pieces(lambda: ridge(self._inputs, self._outputs))

    @property
    def is_tied(self) -> bool:
        """Whether the output embeddings are the input embeddings."""
        return self._outputs is self._inputs

    def making(self, projection: Projection) -> Generator[None, None, None]:
        """Makes what a projection needs, unless it is there. Yields before each piece, so that others come between."""
        yield from self._mean_norm.making()
        if projection is Projection.RIDGE and not self.is_tied:
            yield from self._ridge.making()

    @property
    def mean_norm(self) -> float:
        """Of the input embeddings."""
        return self._mean_norm.whole

    @property
    def ridge(self) -> mx.array | None:
        """W of `z = h W`, fp32 [width, width]; None, the identity, where the embeddings are tied."""
        return None if self.is_tied else self._ridge.whole

    def project(self, hidden: mx.array, projection: Projection) -> mx.array:
        """Last hidden states [agents, width] as input embeddings of the mean norm, in the model's dtype."""
        h = hidden.astype(mx.float32)
        if projection is Projection.RIDGE and self.ridge is not None:
            h = h @ self.ridge
        elif projection is Projection.SOFTMAX:
            h = self._expected(hidden)
        norm = mx.maximum(mx.linalg.norm(h, axis=-1, keepdims=True), 1e-12)
        return (h * (self.mean_norm / norm)).astype(self._dtype)

    def _expected(self, hidden: mx.array) -> mx.array:
        logits = self._inputs.as_linear(hidden) if self.is_tied else self._outputs(hidden)
        weights = mx.softmax(logits.astype(mx.float32), axis=-1)
        parts, at = [], 0
        for rows in _rows(self._inputs):
            parts.append(weights[:, at : at + rows.shape[0]] @ rows)
            at += rows.shape[0]
        return mx.stack(parts).sum(axis=0)


def _mean_norm(module: nn.Module) -> Generator[None, None, float]:
    norms = []
    for rows in _rows(module):
        norms.append(np.array(mx.linalg.norm(rows, axis=1)))
        yield
    return float(np.concatenate(norms).mean(dtype=np.float64))


def ridge(inputs: nn.Module, outputs: nn.Module) -> Generator[None, None, mx.array]:
    """solve(Wo'Wo + DAMPING I, Wo'Wi) in fp32; Wi, Wo: the modules' tables [V, D], quantised or not.

    Yields behind each piece: some rows of the tables, and at last the solution.
    """
    width = _width(inputs)
    gram, target = mx.zeros((width, width)), mx.zeros((width, width))
    for wi, wo in zip(_rows(inputs), _rows(outputs), strict=True):
        gram, target = gram + wo.T @ wo, target + wo.T @ wi
        mx.eval(gram, target)
        yield
    solution = mx.linalg.solve(gram + DAMPING * mx.eye(width), target, stream=mx.cpu)
    mx.eval(solution)
    return solution


def _width(module: nn.Module) -> int:
    return int(next(_rows(module)).shape[1])


def _rows(module: nn.Module) -> Iterator[mx.array]:
    """The table's rows in fp32, some at a time: [rows, width]."""
    names = [name for name in ("weight", "scales", "biases") if module.get(name) is not None]
    for at in range(0, module.weight.shape[0], ROWS):
        parts = [module[name][at : at + ROWS] for name in names]
        if len(parts) > 1:
            how = {"group_size": module.group_size, "bits": module.bits, "mode": getattr(module, "mode", "affine")}
            parts = [mx.dequantize(*parts, **how)]
        yield parts[0].astype(mx.float32)

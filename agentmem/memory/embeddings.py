"""Latent positions between MLX and the store: what was fed there, as it is kept, and as it is fed again."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from agentmem.kv.layers import to_mlx, to_numpy
from agentmem.memory.blocks import DTYPES
from agentmem.model.forward import embed
from agentmem.model.loader import LoadedModel
from agentmem.store.latents import Latents
from agentmem.store.layout import RawTensor


def kept(embedding: mx.array) -> RawTensor:
    """An embedding [width] as records and blocks hold it."""
    data = to_numpy(embedding)
    return RawTensor(DTYPES[embedding.dtype], data.shape, data)


def inputs(model: LoadedModel, ids: np.ndarray, latents: Latents) -> mx.array:
    """What is fed at some positions of a timeline: [positions, width], of tokens and of latent positions."""
    tokens = embed(model, np.maximum(ids, 0))
    latent = np.flatnonzero(ids < 0)
    if not len(latent):
        return tokens
    rows = [latents[int(id_)].data for id_ in ids[latent]]
    fed = np.zeros((len(ids), *rows[0].shape), rows[0].dtype)
    fed[latent] = rows
    return mx.where(mx.array(ids < 0)[:, None], to_mlx(fed, tokens.dtype), tokens)


def embedding_bytes(model: LoadedModel) -> int:
    """Of one embedding."""
    return int(model.network.args.hidden_size * model.layout.full.dtype.size)


def is_own(embeddings: RawTensor | None, model: LoadedModel) -> bool:
    """Whether embeddings [positions, width], if there are any, are such as this model takes."""
    if embeddings is None:
        return True
    width = model.network.args.hidden_size
    return embeddings.dtype == DTYPES[model.layout.full.dtype] and embeddings.shape[1:] == (width,)

"""Latent steps: an agent goes on from its last hidden state, without a word (LatentMAS)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx

from agentmem.kv.state import AgentState
from agentmem.latent.space import EmbeddingSpace, Projection
from agentmem.model.forward import feed_embeddings
from agentmem.model.loader import LoadedModel


class Thought(NamedTuple):
    """embeddings: those that were fed, [agents, steps, width]; feeding them again has the same state, bit for bit in
    reference numerics. hidden: the last hidden states behind them, [agents, width], from which thinking may go on.
    """

    embeddings: mx.array
    hidden: mx.array


def think(
    model: LoadedModel,
    space: EmbeddingSpace,
    states: Sequence[AgentState],
    hidden: mx.array,
    steps: int,
    projection: Projection = Projection.RIDGE,
) -> Thought:
    """Appends `steps` latent positions to each state, all agents in one batch.

    hidden: the agents' last hidden states after the final norm, [agents, width], as `feed_embeddings` returns them.
    """
    if steps < 0:
        raise ValueError("steps cannot be negative")
    fed = []
    for _ in range(steps):
        fed.append(space.project(hidden, projection))
        hidden = feed_embeddings(model, states, fed[-1][:, None])
    width = hidden.shape[-1]
    return Thought(mx.stack(fed, axis=1) if fed else mx.zeros((len(states), 0, width), hidden.dtype), hidden)

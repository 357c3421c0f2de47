"""A latent step: agents go on from their last hidden states, without a word (LatentMAS)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx

from agentmem.kv.state import AgentState
from agentmem.latent.space import EmbeddingSpace
from agentmem.model.forward import feed_embeddings
from agentmem.model.loader import LoadedModel
from agentmem.types import Projection


class Step(NamedTuple):
    """fed: the embeddings that the states hold now, [agents, width]; to feed them again has the same states, bit for
    bit in reference numerics. hidden: the last hidden states behind them, [agents, width], to think on from.
    """

    fed: mx.array
    hidden: mx.array


def step(
    model: LoadedModel,
    space: EmbeddingSpace,
    states: Sequence[AgentState],
    hidden: mx.array,
    projections: Sequence[Projection],
) -> Step:
    """Appends a latent position to each state, all in one batch.

    hidden: the last hidden states after the final norm, [agents, width], as `feed_embeddings` returns them.
    projections: of each agent.
    """
    fed = [hidden] * len(states)
    for projection in set(projections):
        places = [place for place, one in enumerate(projections) if one is projection]
        for place, row in zip(places, space.project(hidden[mx.array(places)], projection), strict=True):
            fed[place] = row
    rows = mx.stack(fed)
    return Step(rows, feed_embeddings(model, states, rows[:, None]))

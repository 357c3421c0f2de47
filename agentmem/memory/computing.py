"""Computing what follows a state's end, a chunk at a time, each when its time has come."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from agentmem.kv.state import AgentState
from agentmem.memory.embeddings import inputs
from agentmem.memory.needs import Chunk
from agentmem.model.forward import feed, feed_embeddings, next_chunk
from agentmem.model.loader import LoadedModel
from agentmem.store.latents import Latents


def computed(model: LoadedModel, state: AgentState, ids: np.ndarray, latents: Latents) -> Iterator[Chunk]:
    """Appends ids to the state. Says what a chunk takes before it is computed, so that others come between any two.

    latents: the embeddings of those that are latent, which are fed as they were.
    """
    while len(ids):
        chunk = np.asarray(next_chunk(state, ids))
        yield Chunk(len(chunk))
        if (chunk < 0).any():
            feed_embeddings(model, [state], inputs(model, chunk, latents)[None])
        else:
            feed(model, state, chunk)
        ids = ids[len(chunk) :]

"""Computing what follows a state's end, a chunk at a time, each when its time has come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from agentmem.kv.state import AgentState
from agentmem.memory.needs import Chunk
from agentmem.model.forward import feed, next_chunk
from agentmem.model.loader import LoadedModel


def computed(model: LoadedModel, state: AgentState, ids: Sequence[int] | np.ndarray) -> Iterator[Chunk]:
    """Appends ids to the state. Says what a chunk takes before it is computed, so that others come between any two."""
    while len(ids):
        chunk = next_chunk(state, ids)
        yield Chunk(len(chunk))
        feed(model, state, chunk)
        ids = ids[len(chunk) :]

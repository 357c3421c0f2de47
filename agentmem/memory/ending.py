"""Where a timeline ends: what thinking goes on from if nothing is fed before it."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

from agentmem.errors import AgentmemError, Reason
from agentmem.kv.state import AgentState
from agentmem.memory.agent import Agent
from agentmem.memory.embeddings import inputs
from agentmem.memory.matching import matches
from agentmem.model.forward import feed_embeddings
from agentmem.model.loader import LoadedModel
from agentmem.types import BLOCK_TOKENS


def require_end(agent: Agent, model: LoadedModel) -> None:
    """Raises EMPTY_INPUT if there is nothing to go on from, or only what is fed now could tell."""
    if not agent.tokens:
        raise AgentmemError(Reason.EMPTY_INPUT, "this agent remembers nothing that it could think on; give an input")
    if model.layout.has_companions:
        message = "the layers of this model that are windowed or recurrent cannot go back by a position; give an input"
        raise AgentmemError(Reason.EMPTY_INPUT, message)
    if agent.splices:
        message = "this agent's timeline has a splice, behind which it cannot go back by a position; give an input"
        raise AgentmemError(Reason.EMPTY_INPUT, message)
    if not matches(agent, model):
        raise AgentmemError(Reason.EMPTY_INPUT, "what is to be recomputed is thought on with an input only; give one")


def hidden_at_end(agent: Agent, model: LoadedModel, from_pool: Callable[[list[bytes]], AgentState]) -> mx.array:
    """The last hidden state behind a hot agent's timeline, after the final norm: [width].

    States do not keep it: the last position is computed once more, on a state without it.
    """
    assert agent.state is not None
    last = agent.tokens - 1
    before = from_pool(agent.keys[: last // BLOCK_TOKENS])
    if before.offset < last:
        before.extend([agent.state.read(before.offset, last)])
    return feed_embeddings(model, [before], inputs(model, agent.ids[last:], agent.latents)[None])[0]

"""What a timeline can come to hold: the positions of the model's context, and the embeddings that records take."""

from __future__ import annotations

from collections.abc import Sequence

from agentmem.engine.request import Request
from agentmem.errors import AgentmemError, Reason
from agentmem.memory.agent import Agent
from agentmem.memory.embeddings import embedding_bytes
from agentmem.model.loader import LoadedModel
from agentmem.store.records import MAX_EMBEDDING_BYTES


def check_fits(agent: Agent, ids: Sequence[int], request: Request, model: LoadedModel) -> None:
    """Raises CONTEXT_OVERFLOW if the input's ids, and what the request has the agent do behind them, are too much."""
    limit, steps = model.context_limit, 0 if request.thinking is None else request.thinking.steps
    if agent.tokens + len(ids) + steps + (request.sampling is not None) > limit:
        asked = f", and {steps} latent steps are asked for" if steps else ""
        raise AgentmemError(
            Reason.CONTEXT_OVERFLOW,
            f"the model's context holds {limit} tokens; this agent remembers {agent.tokens} and the input has "
            f"{len(ids)}{asked}. Send less, or begin a new agent",
            limit=limit,
            remembered=agent.tokens,
            input=len(ids),
        )
    if new := steps + sum(id_ < 0 for id_ in ids):
        _check_latent(int((agent.ids < 0).sum()) + new, model)


def _check_latent(latent: int, model: LoadedModel) -> None:
    """Whether records can hold the embeddings of so many latent positions."""
    most = MAX_EMBEDDING_BYTES // embedding_bytes(model)
    if latent > most:
        message = (
            f"a timeline of this model holds {most} latent positions at most, and would have {latent}. "
            f"Ask for fewer steps, or begin a new agent"
        )
        raise AgentmemError(Reason.CONTEXT_OVERFLOW, message, limit=most, latent=latent)

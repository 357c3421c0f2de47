"""Which model and tokenizer a timeline belongs to."""

from __future__ import annotations

from agentmem.errors import AgentmemError, Reason
from agentmem.memory.agent import Agent
from agentmem.model.loader import LoadedModel


def matches(agent: Agent, model: LoadedModel) -> bool:
    """Whether the timeline was computed by the model being served."""
    return agent.tokens == 0 or agent.state_id == model.state_id


def require_match(agent: Agent, model: LoadedModel, rebuild: bool) -> None:
    """MODEL_MISMATCH or TOKENIZER_MISMATCH if the timeline cannot be continued as it is, or rebuilt if asked."""
    if matches(agent, model):
        return
    if agent.is_latent:
        raise AgentmemError(
            Reason.MODEL_MISMATCH,
            "this agent has thought: its latent positions mean nothing to another model than the one that made them; "
            "serve that one, or fork the agent at a turn before, and rebuild that",
            agent_state_id=agent.state_id,
            served_state_id=model.state_id,
        )
    if not rebuild:
        raise AgentmemError(
            Reason.MODEL_MISMATCH,
            f"this agent's memory was computed by another model; serve that one, or ask with rebuild=true to "
            f"recompute its {agent.tokens} tokens with this one",
            tokens=agent.tokens,
            agent_state_id=agent.state_id,
            served_state_id=model.state_id,
        )
    if agent.tokenizer_id != model.tokenizer_id:
        raise AgentmemError(
            Reason.TOKENIZER_MISMATCH,
            "this agent's tokens were made by another tokenizer, so they mean nothing to this model; "
            "begin a new agent, or serve a model with the same tokenizer",
        )

"""What of a hot agent's state still holds once its timeline was changed on disk."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agentmem.kv.state import AgentState
from agentmem.memory.agent import Agent


def still_held(before: Agent, agent: Agent, from_pool: Callable[[list[bytes]], AgentState]) -> AgentState | None:
    """A state of the agent's changed timeline, if what RAM held before it changed has the whole of it."""
    state = before.state
    if before.splices or agent.splices:  # which positions they have in common ids do not tell
        return None
    # Layers with companions cannot be taken back to any position: theirs are read from the disk.
    if state is None or state.layout.has_companions or not agent.tokens or before.state_id != agent.state_id:
        return None
    if not np.array_equal(before.ids[: agent.tokens], agent.ids):
        return None
    held = from_pool(agent.full_keys)
    if held.offset < agent.tokens:
        held.extend([state.read(held.offset, agent.tokens)])
    return held

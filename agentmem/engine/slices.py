"""The parts of other agents' timelines that a splice asks for, as they are now."""

from __future__ import annotations

from agentmem.engine.context import Context
from agentmem.engine.request import Slice
from agentmem.errors import AgentmemError, Reason, agent_not_found
from agentmem.memory.agent import Agent
from agentmem.memory.parts import Part
from agentmem.memory.readable import readable
from agentmem.types import AgentRef


class Slices:
    """Of agents in one namespace."""

    def __init__(self, context: Context, namespace: str) -> None:
        self._context, self._memory, self._namespace = context, context.memory, namespace

    def source(self, target: Agent, one: Slice) -> Agent:
        """Whose timeline a part is of, if the target may have it now."""
        memory, ref = self._memory, AgentRef(self._namespace, one.agent)
        agent = target if ref == target.ref and target.id else memory.find(ref)
        if agent is None:
            raise agent_not_found(ref.namespace, ref.name)
        if agent.private and not target.private:
            message = f"agent {ref.name!r} is private: only a private agent can be given its state"
            raise AgentmemError(Reason.INPUT_INVALID, message, agent=ref.name)
        if not memory.matches(agent):
            raise AgentmemError(
                Reason.MODEL_MISMATCH,
                f"agent {ref.name!r} was computed by another model, to whose state this one cannot attend: rebuild "
                "that agent first",
                agent=ref.name,
            )
        return agent

    def part(self, target: Agent, one: Slice) -> Part:
        """What is asked for, as it is now."""
        agent = self.source(target, one)
        last = one.turn in (None, agent.turn)
        held, unclosed = (agent.tokens, agent.unclosed) if last else self._end_of(agent, one.turn or 0)
        end = held if one.end is None else one.end
        if not 0 <= one.start < end <= held:
            message = (
                f"positions {one.start} to {end} are asked for of agent {agent.ref.name!r}, which has {held} there"
            )
            raise AgentmemError(Reason.INPUT_INVALID, message, agent=agent.ref.name, tokens=held)
        return self._memory.parts.of(agent, one.start, end, unclosed and end == held)

    def as_now(self, target: Agent, one: Slice, part: Part) -> Part:
        """The part again. Raises TURN_MISMATCH if it has become another meanwhile."""
        now = self.part(target, one)
        if now.key != part.key:
            message = f"agent {part.agent.ref.name!r} has changed meanwhile; look at it and ask again"
            raise AgentmemError(Reason.TURN_MISMATCH, message, agent=part.agent.ref.name)
        return now

    def _end_of(self, agent: Agent, turn: int) -> tuple[int, bool]:
        """Where a turn ended that the agent's timeline goes on from, and whether its last message was open there."""
        memory = self._memory
        with readable():
            history = self._context.store.history(agent.id)
            record = history.record(turn)
            then = Agent(agent.ref, agent.id, turn, record.state_id, blocks=history.timeline(turn))
            then.ids, then.latents, then.splices = history.ids(turn), history.latents(turn), record.splices
        end = then.tokens
        # Equal ids do not mean equal state: one may have been computed where the other was spliced.
        held = agent.state_id == then.state_id and agent.tokens >= end
        if not held or memory.parts.of(agent, 0, end).key != memory.parts.of(then, 0, end).key:
            message = f"agent {agent.ref.name!r} went on from before turn {turn}: fork it there, and splice the fork"
            raise AgentmemError(Reason.INPUT_INVALID, message, agent=agent.ref.name, turn=turn)
        return end, record.open

"""An agent's place in the batch while it thinks, and the latent step that all of them take at once."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence

import mlx.core as mx

from agentmem.engine.steptimes import StepTimes
from agentmem.kv.state import AgentState
from agentmem.latent.space import EmbeddingSpace
from agentmem.latent.think import step
from agentmem.memory.agent import Agent
from agentmem.model.loader import LoadedModel
from agentmem.types import Projection


class Thinker:
    """hidden: the last hidden state behind what the agent's state holds, [width]."""

    def __init__(self, agent: Agent, projection: Projection, hidden: mx.array) -> None:
        self.agent, self.projection, self.hidden = agent, projection, hidden
        self.fed = hidden

    @property
    def state(self) -> AgentState:
        state = self.agent.state
        assert state is not None
        return state

    def next(self) -> Generator[Thinker, None, mx.array]:
        """Takes a step: the embedding [width] that the state holds then."""
        yield self
        return self.fed


class ThinkBatch:
    """Of one model. Who joins it has gone through the `making` of its projection."""

    def __init__(self, model: LoadedModel, space: EmbeddingSpace, times: StepTimes) -> None:
        self._model, self._space, self._times = model, space, times

    def step(self, thinkers: Sequence[Thinker]) -> list[Thinker]:
        """Each agent goes on by a position; all of them can go on."""
        began = time.perf_counter()
        states = [thinker.state for thinker in thinkers]
        hidden, projections = mx.stack([one.hidden for one in thinkers]), [one.projection for one in thinkers]
        taken = step(self._model, self._space, states, hidden, projections)
        for thinker, fed, behind in zip(thinkers, *taken, strict=True):
            thinker.fed, thinker.hidden = fed, behind
        mx.eval([(thinker.fed, thinker.hidden) for thinker in thinkers])
        self._times.prefill_s += time.perf_counter() - began
        return list(thinkers)

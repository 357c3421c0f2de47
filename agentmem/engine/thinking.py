"""An agent's place in the batch while it thinks, and the latent step that all of them take at once."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from functools import cached_property

import mlx.core as mx

from agentmem.engine.steptimes import StepTimes
from agentmem.latent.space import EmbeddingSpace
from agentmem.memory.agent import Agent
from agentmem.model.forward import feed_embeddings
from agentmem.model.loader import LoadedModel
from agentmem.types import Projection


class Thinker:
    """hidden: the last hidden state behind what the agent's state holds, [width]."""

    def __init__(self, agent: Agent, projection: Projection, hidden: mx.array) -> None:
        self.agent, self.projection, self.hidden = agent, projection, hidden
        self.fed = hidden

    def next(self) -> Generator[Thinker, None, mx.array]:
        """Takes a step: the embedding [width] that the state holds then."""
        yield self
        return self.fed


class ThinkBatch:
    """Of one model. The first step makes its embedding space."""

    def __init__(self, model: LoadedModel, times: StepTimes) -> None:
        self._model, self._times = model, times

    @cached_property
    def _space(self) -> EmbeddingSpace:
        return EmbeddingSpace(self._model)

    def step(self, thinkers: Sequence[Thinker]) -> list[Thinker]:
        """Each agent goes on by a position; all of them can go on."""
        began = time.perf_counter()
        for projection in {thinker.projection for thinker in thinkers}:
            alike = [thinker for thinker in thinkers if thinker.projection is projection]
            rows = self._space.project(mx.stack([thinker.hidden for thinker in alike]), projection)
            for thinker, row in zip(alike, rows, strict=True):
                thinker.fed = row
        fed = mx.stack([thinker.fed for thinker in thinkers])
        states = [thinker.agent.state for thinker in thinkers]
        hidden = feed_embeddings(self._model, [state for state in states if state is not None], fed[:, None])
        for thinker, row in zip(thinkers, hidden, strict=True):
            thinker.hidden = row
        mx.eval([(thinker.fed, thinker.hidden) for thinker in thinkers])
        self._times.device_s += time.perf_counter() - began
        self._times.steps += 1
        return list(thinkers)

"""Agents that think on an engine in this process, and what they hold then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from agentmem.engine.engine import Engine
from agentmem.engine.request import Finished, Request, Thinking, TokenInput
from agentmem.kv.state import AgentState
from agentmem.latent.space import EmbeddingSpace
from agentmem.memory.embeddings import inputs
from agentmem.model.forward import embed, feed_embeddings
from agentmem.types import BLOCK_TOKENS, AgentRef, Projection
from tests.engine.runs import A, finished, run
from tests.latent.states import think as think_alone

T = TypeVar("T")


def thinks(steps: int, *ids: int, agent: AgentRef = A, **changes: object) -> Request:
    """Feeds ids, if there are any, and takes latent steps."""
    given = TokenInput(ids) if ids else None
    projection = changes.pop("projection", Projection.RIDGE)
    thinking = Thinking(steps, projection)  # type: ignore[arg-type]
    return replace(Request(agent, given, thinking=thinking, create=True), **changes)  # type: ignore[arg-type]


def think(engine: Engine, ref: AgentRef, steps: int, *ids: int, **changes: object) -> Finished:
    return finished(run(engine, thinks(steps, *ids, agent=ref, **changes)))


def on_executor(engine: Engine, work: Callable[[], T]) -> T:
    return engine._briefly(AgentRef("default", "nobody"), work)


def content(state: AgentState) -> list[bytes]:
    """All that a state of full layers holds, to the bit."""
    blocks = [state.read(at, min(at + BLOCK_TOKENS, state.offset)) for at in range(0, state.offset, BLOCK_TOKENS)]
    return [block[name].tobytes() for block in blocks for name in sorted(block)]


def held(engine: Engine, ref: AgentRef = A) -> list[bytes]:
    """What the agent's state holds; restored first, if need be."""
    engine.prefetch_agent(ref)
    agent = engine._context.memory.find(ref)
    assert agent is not None
    state = agent.state
    assert state is not None
    assert state.offset == agent.tokens
    return on_executor(engine, lambda: content(state))


def thought(engine: Engine, ref: AgentRef = A) -> np.ndarray:
    """The embeddings of the timeline's latent positions, as the disk has them: [positions, width]."""
    history = engine._context.store.history(engine.get_agent(ref).id)
    ids, latents = history.ids(), history.latents()
    return np.stack([latents[int(id_)].data for id_ in ids[ids < 0]])


def alone(engine: Engine, ids: Sequence[int], steps: int, projection: Projection) -> tuple[list[bytes], np.ndarray]:
    """What a state holds that was fed so, and thought so, without engine, pool and store; and the thought."""

    def compute() -> tuple[list[bytes], np.ndarray]:
        model = engine._context.model
        state = AgentState(model.layout)
        hidden = feed_embeddings(model, [state], embed(model, list(ids))[None])
        done = think_alone(model, EmbeddingSpace(model), [state], hidden, steps, projection)
        return content(state), np.array(done.embeddings[0])

    return on_executor(engine, compute)


def prefilled(engine: Engine, ref: AgentRef = A) -> list[bytes]:
    """What a state holds that is fed all of an agent's timeline at once, as its record has it."""
    history = engine._context.store.history(engine.get_agent(ref).id)

    def compute() -> list[bytes]:
        model = engine._context.model
        state = AgentState(model.layout)
        feed_embeddings(model, [state], inputs(model, history.ids(), history.latents())[None])
        return content(state)

    return on_executor(engine, compute)

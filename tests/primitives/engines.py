"""Flows on an engine in this process, for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from agentmem.engine.engine import Engine
from agentmem.engine.request import ChatInput, Finished, Request, Sampling, Thinking
from agentmem.primitives.crew import Crew, Given, Progress
from agentmem.primitives.flow import FlowResult, Medium
from agentmem.primitives.flows import FLOWS
from agentmem.primitives.together import Done, Halt, run_together
from agentmem.types import AgentRef, Message

QUESTION = "what does the quick brown fox jump over?"
CONTEXT = "the quick brown fox jumps over the lazy dog"
SMALL: dict[str, Any] = {"max_tokens": 4, "latent_steps": 3, "temperature": 0.8}
KINDS = ("answer", "review", "vote", "plan_execute")


def play(
    engine: Engine,
    kind: str,
    medium: Medium,
    given: Given | None = None,
    halt: Halt | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    **params: Any,
) -> FlowResult:
    """Runs one flow; its agents are gone when this returns or raises."""
    with Crew(engine, given or Given(context=CONTEXT, seed=7), halt, on_progress) as crew:
        return FLOWS[kind](crew, QUESTION, (), SMALL | params, medium)


def side_by_side(*works: Callable[[], FlowResult]) -> list[FlowResult]:
    """Their results; all begin at once."""
    barrier = threading.Barrier(len(works))

    def begin(work: Callable[[], FlowResult]) -> FlowResult:
        barrier.wait(30)
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(begin, works))


def turn(engine: Engine, name: str, text: str, steps: int = 0, sampling: Sampling | None = None) -> Done:
    """One turn of an agent of the default namespace, made if need be."""
    message = ChatInput((Message("user", (text,)),))
    thinking = Thinking(steps) if steps else None
    request = Request(AgentRef("default", name), message, sampling, create=True, thinking=thinking)
    (done,) = run_together(engine, [request], Halt(), lambda index, text: None)
    assert isinstance(done.finished, Finished)
    return done


def standing(engine: Engine, name: str) -> tuple[Any, ...]:
    """All that is remembered of an agent: its length, its turns, and the keys of its blocks, which stand for their
    ids and embeddings."""
    ref = AgentRef("default", name)
    view = engine.get_agent(ref)
    turns = [(t.number, t.kind, t.start, t.end, t.exactness) for t in engine.list_turns(ref)]
    return view.turn, view.tokens, turns, [(b.key, b.used) for b in view.blocks]


def counts(result: FlowResult) -> list[tuple[str, int, int, int]]:
    """What each role did, less what depends on what RAM holds."""
    return [(r.role, r.agents, r.generated_tokens, r.latent_steps) for r in result.roles]


def names(engine: Engine) -> list[str]:
    """Of all agents of the default namespace."""
    return [view.ref.name for view in engine.list_agents("default")]

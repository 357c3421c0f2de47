"""Runs requests on an engine in this process, waits for them, and looks at what they did."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from agentmem.engine.engine import Engine
from agentmem.engine.request import Delta, Event, Failed, Finished, Request, Sampling, TokenInput
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef, Share, Usage
from tests.helpers.checkpoints import Spec

SPEC = Spec(layers=2)
A, B, C = (AgentRef("default", name) for name in "abc")
PROMPT = tuple(5 + (i * 7 + i // 3) % 90 for i in range(700))


def request(*ids: int, tokens: int | None = 4, **changes: object) -> Request:
    """Feeds ids to agent A, and asks for so many tokens; None: appends only."""
    sampling = None if tokens is None else Sampling(max_tokens=tokens)
    return replace(Request(A, TokenInput(ids), sampling, create=True), **changes)  # type: ignore[arg-type]


def attempt(engine: Engine, request: Request) -> list[Event]:
    """All events of a request, the last of which says how it ended."""
    return cut_short(engine, request, after=-1)


def cut_short(engine: Engine, request: Request, after: int) -> list[Event]:
    """The request's events, if it is cancelled while its delta number `after` is sent."""
    events, submitted, done = [], threading.Event(), threading.Event()

    def sink(event: Event) -> None:
        events.append(event)
        if sum(isinstance(e, Delta) for e in events) == after:
            submitted.wait(60)
            ticket.cancel()
        if isinstance(event, Finished | Failed):
            done.set()

    ticket = engine.submit(request, sink)
    submitted.set()
    assert done.wait(60)
    return events


def run(engine: Engine, request: Request) -> list[Event]:
    """All events of a request. Raises what it failed with."""
    events = attempt(engine, request)
    if isinstance(events[-1], Failed):
        raise events[-1].error
    return events


def feed(engine: Engine, ref: AgentRef, *ids: int, tokens: int | None = 6) -> tuple[list[int], Usage]:
    """Feeds ids to an agent, made if need be: what it says, and what that cost."""
    events = run(engine, request(*ids, tokens=tokens, agent=ref))
    return said(events), finished(events).usage


def cold(engine: Engine, *turns: tuple[int, ...], tokens: int = 6) -> list[int]:
    """What an agent that shares nothing says to the last of these inputs."""
    ref = AgentRef("default", f"cold-{turns!r:.40}-{len(turns)}")
    engine.create_agent(ref, share=Share.PRIVATE)
    try:
        for ids in turns[:-1]:
            feed(engine, ref, *ids, tokens=None)
        return feed(engine, ref, *turns[-1], tokens=tokens)[0]
    finally:
        engine.delete_agent(ref)


def finished(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished), events[-1]
    return events[-1]


def said(events: list[Event]) -> list[int]:
    assert isinstance(events[-1], Finished), events[-1]
    return [t for e in events if isinstance(e, Delta) for t in e.token_ids]


def recorded(engine: Engine, ref: AgentRef = A) -> list[int]:
    """The ids of the agent's timeline, as the disk has them."""
    return engine._context.store.history(engine.get_agent(ref).id).ids().tolist()


@contextmanager
def refused(reason: Reason) -> Iterator[None]:
    """The work inside fails for this reason."""
    with pytest.raises(AgentmemError) as caught:
        yield
    assert caught.value.reason is reason

"""Runs requests on an engine in this process and waits for them."""

from __future__ import annotations

import threading

from agentmem.engine.engine import Engine
from agentmem.engine.request import Delta, Event, Failed, Finished, Request


def run(engine: Engine, request: Request) -> list[Event]:
    """All events of a request. Raises what it failed with."""
    events: list[Event] = []
    done = threading.Event()

    def sink(event: Event) -> None:
        events.append(event)
        if isinstance(event, Finished | Failed):
            done.set()

    engine.submit(request, sink)
    assert done.wait(60)
    if isinstance(events[-1], Failed):
        raise events[-1].error
    return events


def finished(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def said(events: list[Event]) -> list[int]:
    return [t for e in events if isinstance(e, Delta) for t in e.token_ids]

"""What the engine says of the requests that run and wait, and how long its present step has lasted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from agentmem.engine.engine import Engine
from agentmem.engine.request import Delta, Event, Failed, Finished, Phase, Priority, Request, Sink, Started
from tests.engine.runs import A, B, C, feed, request


@contextmanager
def held_at(engine: Engine, kind: type[Event], wanted: Request) -> Iterator[None]:
    """Submits a request, and holds the executor thread where its first event of this kind is sent."""
    reached, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def sink(event: Event) -> None:
        if isinstance(event, kind) and not reached.is_set():
            reached.set()
            go_on.wait(60)
        if isinstance(event, Finished | Failed):
            ended.set()

    engine.submit(wanted, sink)
    assert reached.wait(60)
    yield
    go_on.set()
    assert ended.wait(60)


def wait_until_idle(engine: Engine) -> None:
    """A request that has said its last word leaves a moment later."""
    deadline = time.monotonic() + 10
    while engine.requests() or engine.step_age_s():
        assert time.monotonic() < deadline


def ignoring(ended: threading.Event) -> Sink:
    return lambda event: ended.set() if isinstance(event, Finished | Failed) else None


def test_those_that_run_and_wait(engine: Engine) -> None:
    feed(engine, A, 5, 6, 7, tokens=None)
    wait_until_idle(engine)
    ended = [threading.Event() for _ in range(3)]
    with held_at(engine, Delta, request(8, 9, agent=A, priority=Priority.HIGH, request_id="first")):
        time.sleep(0.02)
        for event, ref in zip(ended, (B, B, C), strict=True):
            engine.submit(request(5, 6, agent=ref, priority=Priority.LOW, tokens=None), ignoring(event))
        running, *waiting = engine.requests()
        assert (running.ref, running.request_id, running.phase) == (A, "first", Phase.DECODING)
        assert (running.position, running.priority) == (0, Priority.HIGH)
        assert (running.tokens_generated, running.prompt_tokens, running.tokens_fed) == (1, 5, 5)
        assert running.tokens_prefilled == 2
        assert 0 <= running.waited_s < 5
        assert running.running_s >= 0.02
        assert [(one.ref, one.phase, one.position, one.priority) for one in waiting] == [
            (B, Phase.QUEUED, 1, Priority.LOW),
            (C, Phase.QUEUED, 2, Priority.LOW),
            (B, Phase.QUEUED, 3, Priority.LOW),
        ]
        assert all(one.running_s == 0 and one.request_id for one in waiting)
        assert waiting[0].waited_s > 0
    assert all(event.wait(60) for event in ended)
    wait_until_idle(engine)


def test_a_request_that_has_just_begun(engine: Engine) -> None:
    with held_at(engine, Started, request(5, 6)):
        (view,) = engine.requests()
        assert (view.position, view.tokens_fed, view.prompt_tokens) == (0, 0, 0)
        assert view.phase is not Phase.QUEUED


def test_how_long_the_present_step_lasts(engine: Engine) -> None:
    assert engine.step_age_s() == 0
    with held_at(engine, Delta, request(5, 6)):
        time.sleep(0.05)
        assert 0.05 <= engine.step_age_s() < 10
    wait_until_idle(engine)


def test_each_step_is_as_old_as_itself(engine: Engine) -> None:
    """Not as old as the request: many short steps are no long one."""
    seen, ended = [], threading.Event()

    def sink(event: Event) -> None:
        if isinstance(event, Delta):
            time.sleep(0.01)
            seen.append((time.monotonic(), engine.step_age_s()))
        ignoring(ended)(event)

    engine.submit(request(5, 6, tokens=20), sink)
    assert ended.wait(60)
    began = seen[0][0]
    assert any(age < (at - began) / 2 for at, age in seen[10:])


def test_restores_are_counted_and_limits_told(engine: Engine) -> None:
    feed(engine, A, *range(5, 45), tokens=None)
    before = engine.stats()
    assert (before.restores_total, before.restore_s_total) == (0, 0.0)
    engine.evict_agent(A)
    feed(engine, A, 7, tokens=None)
    feed(engine, A, 8, tokens=None)
    after = engine.stats()
    assert after.restores_total == 1
    assert 0 < after.restore_hidden_s_total < after.restore_s_total
    assert (after.queue_limit, after.max_batch) == (256, 32)

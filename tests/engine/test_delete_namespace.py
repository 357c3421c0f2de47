"""Namespaces that are removed while the engine runs."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from agentmem.engine.engine import Engine
from agentmem.engine.request import Delta, Event, Failed, Finished
from agentmem.errors import Reason
from agentmem.store.rows import DeletedNamespace
from agentmem.types import AgentRef
from tests.engine.disks import Disk
from tests.engine.runs import PROMPT, A, feed, finished, refused, request, run

ONE, OTHER = AgentRef("team", "a"), AgentRef("team", "b")


def test_nothing_of_it_is_found_again(engine: Engine) -> None:
    for ref in (A, ONE, OTHER):
        feed(engine, ref, *PROMPT, tokens=None)
    with refused(Reason.NAMESPACE_NOT_EMPTY):
        engine.delete_namespace("team")
    would = engine.delete_namespace("team", force=True, dry_run=True)
    assert len(engine.list_agents("team")) == 2
    assert engine.delete_namespace("team", "r", force=True) == would
    assert (would.agents, would.freed_bytes > 0) == (2, True)
    assert [view.name for view in engine.list_namespaces()] == ["default"]
    assert list(engine._context.memory.hot_bytes) == [A]
    usage = feed(engine, ONE, *PROMPT, tokens=None)[1]
    assert (usage.reused_hot_tokens, usage.reused_warm_tokens) == (0, 0)
    assert engine.delete_namespace("team", "r", force=True) == would
    assert engine.get_agent(ONE).turn == 1, "a repeat removes nothing"


def test_it_goes_behind_the_requests_of_its_agents(engine: Engine) -> None:
    """One that runs, one that waits for it, and one of another namespace that goes on."""
    feed(engine, OTHER, 5, 6)
    deletions: list[Future[DeletedNamespace]] = []
    second: list[Event] = []
    done = threading.Event()

    def follow(event: Event) -> None:
        second.append(event)
        if isinstance(event, Finished | Failed):
            done.set()

    def first(event: Event) -> None:
        if isinstance(event, Delta) and not deletions:
            engine.submit(request(7, tokens=None, agent=ONE), follow)
            deletions.append(pool.submit(engine.delete_namespace, "team", "", True))
        if isinstance(event, Finished | Failed):
            ended.append(event)

    ended: list[Event] = []
    with ThreadPoolExecutor() as pool:
        engine.submit(request(5, 6, tokens=40, agent=ONE), first)
        assert done.wait(60)
        assert deletions[0].result(60).agents == 2
    assert [finished([event]).turn for event in (*ended, second[-1])] == [1, 2]
    assert [view.name for view in engine.list_namespaces()] == []


def test_turns_that_are_in_ram_only_go_with_it(engine: Engine, disk: Disk) -> None:
    feed(engine, ONE, 5)
    disk.full = True
    assert not finished(run(engine, request(6, agent=ONE, request_id="r"))).durable
    with refused(Reason.REQUEST_ID_REUSED):
        engine.delete_namespace("team", "r", force=True)
    disk.full = False
    assert engine.delete_namespace("team", force=True).agents == 1
    assert engine.stats().unsaved_turns == 0
    assert engine.list_namespaces() == []

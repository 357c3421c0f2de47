"""Blocks are read by threads of their own: others go on meanwhile, in whatever order reads are done, or fail."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agentmem.engine.engine import Engine
from agentmem.engine.request import Delta, Durability, Event, Failed, Finished
from agentmem.errors import Reason
from agentmem.kv.openspan import OpenSpan
from agentmem.memory.agent import TurnDraft
from agentmem.memory.needs import Wait
from agentmem.memory.reader import THREADS
from agentmem.memory.writer import WriterThread, until_done
from agentmem.types import AgentRef, TurnKind
from tests.engine.disks import Disk, soon
from tests.engine.runs import PROMPT, SPEC, A, B, C, cold, feed, finished, refused, request, run, said
from tests.helpers.checkpoints import write

LONG = tuple(5 + (i * 11 + i // 5) % 90 for i in range(1300))
"""Five full blocks, and a part of the sixth."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ck"), replace(SPEC, layers=1))


class Gate:
    """Reads wait here while it is shut."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()

    def __call__(self, path: Path) -> None:
        assert self._open.wait(60)

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(disk: Disk) -> Iterator[Gate]:
    gate = Gate()
    disk.before_read = gate
    yield gate
    gate.open()


def evicted(engine: Engine, ref: AgentRef, *ids: int) -> list[str]:
    """Has the disk alone keep an agent that was fed these ids; keys of its blocks."""
    feed(engine, ref, *ids, tokens=None)
    engine.evict_agent(ref)
    return [block.key for block in engine.get_agent(ref).blocks]


def begin(engine: Engine, ref: AgentRef) -> tuple[Iterator[object], TurnDraft, Wait]:
    """On the executor thread: an agent's restore up to where it waits for the disk."""
    memory, draft = engine._context.memory, TurnDraft(TurnKind.APPEND, "")
    agent = memory.find(ref)
    assert agent is not None
    steps = memory.restore(agent, draft)
    need = next(need for need in steps if isinstance(need, Wait))
    return steps, draft, need


def finish(steps: Iterator[object]) -> None:
    """On the executor thread."""
    for need in steps:
        if isinstance(need, Wait):
            wait(need.futures, 60)


def on_executor(engine: Engine, work: Callable[[], None]) -> None:
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    engine._briefly(AgentRef("default", ""), attempt)
    if failed:
        raise failed[0]


@pytest.mark.reference
def test_others_go_on_while_a_restore_waits_for_the_disk(engine: Engine, gate: Gate) -> None:
    evicted(engine, A, *LONG)
    feed(engine, B, *PROMPT[:300], tokens=None)
    gate.shut()
    events: list[Event] = []
    engine.submit(request(11, tokens=6), events.append)
    got, _ = feed(engine, B, 21, tokens=4)
    assert not any(isinstance(event, Delta | Finished | Failed) for event in events)
    gate.open()
    assert soon(lambda: isinstance(events[-1], Finished))
    usage = finished(events).usage
    assert (usage.reused_warm_tokens, usage.recomputed_tokens) == (1300, 0)
    assert said(events) == cold(engine, LONG, (11,))
    assert got == cold(engine, PROMPT[:300], (21,), tokens=4)


@pytest.mark.reference
def test_others_go_on_while_one_block_alone_is_slow(engine: Engine, disk: Disk, gate: Gate) -> None:
    """Those behind it have long been read."""
    first, *_ = evicted(engine, A, *LONG)
    disk.before_read = lambda path: gate(path) if path.stem == first else None
    gate.shut()
    events: list[Event] = []
    engine.submit(request(11, tokens=6), events.append)
    assert len(feed(engine, B, 21, tokens=20)[0]) == 20
    assert not any(isinstance(event, Delta | Finished | Failed) for event in events)
    gate.open()
    assert soon(lambda: isinstance(events[-1], Finished))
    assert said(events) == cold(engine, LONG, (11,))


def test_time_in_which_others_could_go_on_is_told(engine: Engine, gate: Gate) -> None:
    evicted(engine, A, *LONG)
    gate.shut()
    threading.Timer(0.5, gate.open).start()
    timings = finished(run(engine, request(11))).timings
    assert timings.restore_s >= 0.5 > timings.restore_busy_s + 0.2
    assert timings.restore_busy_s > 0


def test_a_cancelled_restore_leaves_nothing(engine: Engine, disk: Disk, gate: Gate) -> None:
    evicted(engine, A, *LONG)
    disk.read_from.clear()
    gate.shut()
    events: list[Event] = []
    ticket = engine.submit(request(11), events.append)
    assert soon(lambda: len(disk.read_from) == THREADS)
    ticket.cancel()
    assert soon(lambda: bool(events) and isinstance(events[-1], Failed)), "it waited for the disk"
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.error.reason is Reason.REQUEST_CANCELLED
    gate.open()
    readers = engine._context.memory._readers
    assert soon(lambda: not any(one.busy for one in readers._left))
    feed(engine, B, 5, tokens=None)
    assert len(disk.read_from) == THREADS, "what had not begun was cancelled"
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, OpenSpan)]
    assert feed(engine, A, 11)[1].reused_warm_tokens == 1300


def _damage(state: Path, key: str) -> None:
    path = state / "blocks" / key[:2] / key[2:4] / f"{key}.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


@pytest.mark.reference
def test_a_damaged_block_among_others_is_computed_again_alone(engine: Engine, state: Path, disk: Disk) -> None:
    keys = evicted(engine, A, *LONG)
    for place in (1, 2, 5):  # in a row, and the one that is not full
        _damage(state, keys[place])
    disk.read_from.clear()
    got, usage = feed(engine, A, 11)
    assert (usage.recomputed_tokens, usage.reused_warm_tokens) == (2 * 256 + 20, 3 * 256)
    assert [(miss.position, miss.tokens) for miss in usage.misses] == [(256, 256), (512, 256), (1280, 20)]
    assert engine.stats().quarantined_blocks_total == 3
    aside = {path.stem for path in (state / "quarantine").glob("*.safetensors")}
    assert aside == {keys[1], keys[2]}, "the last one's was superseded by the turn"
    reads = [disk.read_from.count(state / "blocks" / key[:2] / key[2:4] / f"{key}.safetensors") for key in keys]
    assert reads == [1, 2, 2, 1, 1, 2], "what was read ahead was not thrown away"
    assert got == cold(engine, LONG, (11,))
    engine.evict_agent(A)
    assert feed(engine, A, 12)[1].recomputed_tokens == 0
    assert engine.verify().problems == ()


@pytest.mark.reference
def test_a_block_that_two_agents_find_damaged_is_set_aside_once(engine: Engine, state: Path, gate: Gate) -> None:
    keys = evicted(engine, A, *LONG)
    engine.fork_agent(A, "b")
    _damage(state, keys[1])

    def work() -> None:
        gate.shut()
        one, of_a, first = begin(engine, A)
        other, of_b, second = begin(engine, B)
        gate.open()
        wait([*first.futures, *second.futures], 60)  # both have read it
        finish(one)
        finish(other)
        assert of_a.usage.recomputed_tokens == of_b.usage.recomputed_tokens == 256
        assert (of_a.usage.bytes_written > 0, of_b.usage.bytes_written) == (True, 0)

    on_executor(engine, work)
    assert engine.stats().quarantined_blocks_total == 1
    assert engine.verify().problems == ()
    said_cold = cold(engine, LONG, (11,))
    assert feed(engine, A, 11)[0] == said_cold
    assert feed(engine, B, 11)[0] == said_cold


@pytest.mark.reference
def test_blocks_come_in_any_order(engine: Engine, disk: Disk) -> None:
    keys = evicted(engine, A, *LONG)
    done: list[str] = []
    others = threading.Event()

    def last_ones_first(path: Path) -> None:
        if path.stem == keys[0]:
            assert others.wait(60)
        done.append(path.stem)
        if len(done) == len(keys) - 1:
            others.set()

    disk.before_read = last_ones_first
    got, usage = feed(engine, A, 11)
    assert done[-1] == keys[0]
    assert usage.reused_warm_tokens == 1300
    assert got == cold(engine, LONG, (11,))


@pytest.mark.reference
def test_what_is_taken_over_from_ram_stays_while_the_rest_is_read(engine: Engine, gate: Gate) -> None:
    feed(engine, A, *LONG[:600], tokens=None)
    engine.fork_agent(A, "b")
    keys = evicted(engine, A, *LONG[600:])
    feed(engine, B, 5, tokens=None)  # the first two blocks are in RAM
    feed(engine, C, *LONG[:1], tokens=None)
    memory, draft = engine._context.memory, TurnDraft(TurnKind.APPEND, "")

    def work() -> None:
        agent = memory.find(C)
        other = memory.find(B)
        assert agent is not None
        assert other is not None
        gate.shut()
        steps = memory.take_over(agent, LONG[1:1280], draft)
        next(need for need in steps if isinstance(need, Wait))
        memory.evict(other)
        gate.open()
        finish(steps)
        assert (draft.usage.reused_hot_tokens, draft.usage.reused_warm_tokens) == (511, 1280 - 512)
        assert agent.state is not None
        for place, key in enumerate(keys[:5]):
            block, _ = engine._context.store.blocks.read("default", bytes.fromhex(key))
            held = agent.state.read(place * 256, place * 256 + 256)
            assert all(np.array_equal(held[name], tensor.data) for name, tensor in block.tensors.items())
        memory.rollback(agent)
        memory.forget(C)

    on_executor(engine, work)


def test_waiting_for_the_writer_thread_does_not_block() -> None:
    writer, gate = WriterThread(limit=10), threading.Event()
    first, second = (writer.hand(nbytes, gate.wait, 60) for nbytes in (8, 2))
    try:
        waits, ends = writer.moment(), until_done([first, second], timeout=60)
        began = time.monotonic()
        assert [set(next(steps).futures) for steps in (waits, ends)] == [{first, second}] * 2
        assert time.monotonic() - began < 0.04
        assert next(until_done([Future()], timeout=0), None) is None
    finally:
        gate.set()
    wait([first, second], 60)
    assert soon(lambda: writer.idle and writer.nbytes == 0)
    assert [next(steps, None) for steps in (waits, ends)] == [None, None]
    writer.close()


@pytest.mark.reference
def test_who_replies_does_not_wait_for_the_disk_when_another_is_deleted(engine: Engine, disk: Disk) -> None:
    """All that is on its way to the disk must arrive before an agent goes."""
    feed(engine, B, *PROMPT[:300], tokens=None)
    feed(engine, C, 5, tokens=None)
    disk.slow = True
    engine.submit(request(7, agent=A, tokens=None, durability=Durability.WRITE_BEHIND), lambda event: None)
    deleting = threading.Thread(target=engine.delete_agent, args=(C,))
    deleting.start()
    events: list[Event] = []
    engine.submit(request(21, agent=B, tokens=20), events.append)
    assert soon(lambda: sum(isinstance(event, Delta) for event in events) == 20)
    assert deleting.is_alive()
    disk.slow = False
    deleting.join(60)
    with refused(Reason.AGENT_NOT_FOUND):
        engine.get_agent(C)

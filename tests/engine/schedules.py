"""Random schedules: requests of several agents that come, go and are disturbed at chosen moments; what must come of it.

All is submitted on the executor thread, from the sinks of other requests: so a schedule is the same each time, but for
how fast the disk is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from agentmem.engine import turn as turn_module
from agentmem.engine.engine import Engine, EngineSettings, Ticket
from agentmem.engine.executor import Call
from agentmem.engine.request import (
    ChatInput,
    Delta,
    Durability,
    Event,
    Failed,
    Finished,
    Input,
    OnCancel,
    Request,
    Sampling,
    TokenInput,
)
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef, FinishReason, Message, Priority, Share
from tests.engine.runs import recorded, run

Ids = tuple[int, ...]
NAMES = ("a", "b", "c")
PATIENCE_S = 120
SHARED: Ids = tuple(5 + (i * 7 + i // 3) % 400 for i in range(600))
OTHER: Ids = SHARED[:300] + tuple(5 + (i * 11 + i // 5) % 400 for i in range(300))
"""Parts from the shared prompt inside its second block."""
PROMPTS = {"shared": SHARED, "other": OTHER}
SCHEMA = '{"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 9}'


@dataclass(frozen=True)
class At:
    """When something comes: with so many events of the item so many places before; at the beginning if none is."""

    back: int = 1
    event: int = 1


@dataclass(frozen=True)
class Ask:
    """A request. cancelled: with which of its events, if any; one without max_tokens always is."""

    at: At
    agent: int
    given: tuple[str, int] | Input
    """Or a prompt's name and how much of it."""
    sampling: Sampling | None = None
    cancelled: int | None = None
    on_cancel: OnCancel = OnCancel.COMMIT
    priority: Priority = Priority.NORMAL
    durability: Durability = Durability.DURABLE

    @property
    def input(self) -> Input:
        if isinstance(self.given, tuple):
            return TokenInput(PROMPTS[self.given[0]][: self.given[1]])
        return self.given


@dataclass(frozen=True)
class Act:
    """Something else that is done. cancel and aside concern the request so many places before (`number`)."""

    at: At
    what: str
    agent: int = 0
    number: int = 1


Item = Ask | Act


@dataclass(frozen=True)
class Schedule:
    """ram: the budget, as a multiple of what one agent with a full context takes at the most."""

    items: tuple[Item, ...]
    max_batch: int = 8
    ahead: bool = False
    ram: float = 1e6
    reserve: int = 8

    def name(self, number: int) -> str:
        """Of the agent that an item is about: those that forks make can be talked to like any."""
        item = self.items[number]
        forks = [
            f"fork-{n}" for n, one in enumerate(self.items[:number]) if isinstance(one, Act) and one.what == "fork"
        ]
        names = [*NAMES, *forks]
        return names[item.agent % len(names)]


def schedules() -> st.SearchStrategy[Schedule]:
    ats = st.builds(At, st.integers(1, 3), st.integers(1, 12))
    ids = st.lists(st.integers(5, 500), min_size=1, max_size=4).map(lambda ids: TokenInput(tuple(ids)))
    prompts = st.tuples(st.sampled_from(sorted(PROMPTS)), st.sampled_from((1, 17, 255, 256, 257, 300, 512, 540)))
    chats = st.sampled_from(("who are you", "the quick brown fox " * 20)).map(
        lambda text: ChatInput((Message("user", (text,)),))
    )
    greedy = st.builds(
        Sampling,
        max_tokens=st.one_of(st.none(), st.integers(1, 24)),
        stop=st.sampled_from(((), (), ("a",), ("e", "the"))),
        json_schema=st.sampled_from(("", "", "", SCHEMA)),
    )
    drawn = st.builds(
        replace,
        greedy,
        temperature=st.sampled_from((0.7, 1.5)),
        top_p=st.sampled_from((1.0, 0.9)),
        top_k=st.sampled_from((0, 5)),
        seed=st.integers(0, 3),
    )
    samplings = st.one_of(greedy, drawn, st.none())
    asks = st.builds(
        Ask,
        ats,
        st.integers(0, 5),
        st.one_of(ids, prompts, chats),
        samplings,
        st.one_of(st.none(), st.integers(1, 30)),
        st.sampled_from(OnCancel),
        st.sampled_from(Priority),
        st.sampled_from(Durability),
    ).map(_ends)
    whats = st.sampled_from(("fork", "fork", "evict", "rewind", "delete", "cancel", "aside", "aside"))
    acts = st.builds(Act, ats, whats, st.integers(0, 5), st.integers(0, 3))
    return st.builds(
        Schedule,
        st.lists(st.one_of(asks, asks, asks, acts), min_size=3, max_size=12).map(tuple),
        st.sampled_from((1, 2, 3, 8)),
        st.booleans(),
        st.sampled_from((1.0, 1.3, 2.0, 1e6)),
        st.sampled_from((8, 64)),
    )


def _ends(ask: Ask) -> Ask:
    """An open reply is cancelled, or else it would go on for long."""
    is_open = ask.sampling is not None and ask.sampling.max_tokens is None
    return replace(ask, cancelled=ask.cancelled or 30) if is_open else ask


class Driver:
    """Has an engine do a schedule. events: of each request. order: the items in that in which they were submitted."""

    def __init__(self, engine: Engine, schedule: Schedule) -> None:
        self.engine, self.schedule = engine, schedule
        self.events: dict[int, list[Event]] = {n: [] for n in range(len(schedule.items))}
        self.order: list[int] = []
        self.errors: dict[int, AgentmemError | None] = {}
        """What acts ended with."""
        self._tickets: dict[int, Ticket] = {}
        self._to_cancel: set[int] = set()
        self._forked: dict[str, bool] = {}
        self._after_fork: list[int] = []
        self._left = set(range(len(schedule.items)))
        self._done = threading.Event()
        self._wrong: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def go(self) -> None:
        """Does it all, and waits until all has ended. Raises what went wrong in sinks."""
        first = AgentRef("default", "the beginning")
        self.engine._scheduler.add(Call(first, lambda: self._happened(-1, 1)))
        ended = self._done.wait(PATIENCE_S)
        for thread in self._threads:
            thread.join(PATIENCE_S if ended else 0)
        if self._wrong:
            raise self._wrong[0]
        if not ended:
            active = [
                (one.job.ref.name, one.need, getattr(one.job, "phase", "")) for one in self.engine._executor._active
            ]
            raise TimeoutError(f"items {sorted(self._left)} have not ended; active: {active}")

    def _happened(self, number: int, count: int, last: bool = False) -> None:
        """So many events of an item have come."""
        try:
            for n, item in enumerate(self.schedule.items):
                parent = max(-1, n - item.at.back)
                due = parent == number and (count >= item.at.event or last or number < 0)
                if due and n not in self.order and n not in self._after_fork:
                    self._submit(n)
        except BaseException as error:
            self._wrong.append(error)
            self._done.set()

    def _ended(self, number: int) -> None:
        self._left.discard(number)
        self._happened(number, 0, last=True)
        if not self._left:
            self._done.set()

    def _submit(self, number: int) -> None:
        item, name = self.schedule.items[number], self.schedule.name(number)
        if name.startswith("fork-") and not self._forked.get(name):
            self._after_fork.append(number)
            return
        self.order.append(number)
        if isinstance(item, Ask):
            self._ask(number, item, AgentRef("default", name))
        elif item.what in ("cancel", "aside"):
            self._disturb(number - item.number, item.what)
            self._ended(number)
        else:
            self._call(number, self._work(number, item, AgentRef("default", name)))

    def _ask(self, number: int, ask: Ask, ref: AgentRef) -> None:
        events = self.events[number]

        def sink(event: Event) -> None:
            events.append(event)
            if ask.cancelled is not None and len(events) == ask.cancelled:
                self._disturb(number, "cancel")
            if isinstance(event, Finished | Failed):
                self._ended(number)
            else:
                self._happened(number, len(events))

        self._tickets[number] = self.engine.submit(request_of(ask, ref), sink)
        if number in self._to_cancel:
            self._tickets[number].cancel()

    def _disturb(self, number: int, what: str) -> None:
        ticket = self._tickets.get(number)
        if what == "cancel":
            self._to_cancel.add(number)  # it may be that it is just being submitted
            if ticket is not None and not ended(self.events[number]):
                ticket.cancel()
        elif ticket is not None:
            ticket._run.step_aside()

    def _work(self, number: int, act: Act, ref: AgentRef) -> Callable[[], Any]:
        engine = self.engine
        return {
            "fork": lambda: engine.fork_agent(ref, f"fork-{number}"),
            "evict": lambda: engine.evict_agent(ref),
            "rewind": lambda: engine.rewind_agent(ref, act.number),
            "delete": lambda: engine.delete_agent(ref),
        }[act.what]

    def _call(self, number: int, work: Callable[[], Any]) -> None:
        """Has another thread do a call, which waits for this one; goes on once that is queued."""
        queued: Future[Call[Any]] = Future()
        add = self.engine._scheduler.add

        def noted(job: Any) -> int:
            position = add(job)
            queued.set_result(job)
            return position

        def call() -> None:
            try:
                work()
            except AgentmemError as error:
                self.errors[number] = error

        self.engine._scheduler.add = noted  # type: ignore[method-assign]
        thread = threading.Thread(target=call)
        self._threads.append(thread)
        thread.start()
        job = queued.result(PATIENCE_S)
        self.engine._scheduler.add = add  # type: ignore[method-assign]
        job.future.add_done_callback(lambda _: self._called(number))

    def _called(self, number: int) -> None:
        item = self.schedule.items[number]
        if isinstance(item, Act) and item.what == "fork":
            self._forked[f"fork-{number}"] = True
            waiting, self._after_fork = self._after_fork, []
            for n in waiting:
                try:
                    self._submit(n)
                except BaseException as error:
                    self._wrong.append(error)
        self._ended(number)


def request_of(ask: Ask, ref: AgentRef) -> Request:
    return Request(
        ref, ask.input, ask.sampling, ask.on_cancel, create=True, priority=ask.priority, durability=ask.durability
    )


def ended(events: list[Event]) -> bool:
    return bool(events) and isinstance(events[-1], Finished | Failed)


@dataclass
class Mind:
    """An agent as it must be. turns: the ids of each listed turn's timeline, and whether it ends in an open reply."""

    turns: dict[int, tuple[Ids, bool]] = field(default_factory=lambda: {0: ((), False)})

    @property
    def last(self) -> int:
        return max(self.turns)

    @property
    def ids(self) -> Ids:
        return self.turns[self.last][0]

    @property
    def unclosed(self) -> bool:
        return self.turns[self.last][1]

    def add(self, ids: Ids, unclosed: bool) -> None:
        self.turns[self.last + 1] = ids, unclosed


@dataclass(frozen=True)
class Said:
    ids: Ids
    text: str
    finish_reason: FinishReason | None
    stop_sequence: str


class Solo:
    """What an agent says that is alone in an engine of its own and remembers nothing: all is computed anew."""

    def __init__(self, checkpoint: Path | None, folder: Path) -> None:
        self.engine = Engine.open(EngineSettings(folder, checkpoint and str(checkpoint), max_batch=1, ahead=False))
        self._said: dict[tuple[Ids, Sampling], Said] = {}

    def __call__(self, ids: Ids, sampling: Sampling) -> Said:
        if (ids, sampling) not in self._said:
            ref = AgentRef("default", "alone")
            self.engine.create_agent(ref, share=Share.PRIVATE)
            self._said[ids, sampling] = said_of(run(self.engine, Request(ref, TokenInput(ids), sampling)))
            self.engine.delete_agent(ref)
        return self._said[ids, sampling]


def said_of(events: list[Event]) -> Said:
    deltas = [e for e in events if isinstance(e, Delta)]
    ids, text = tuple(t for d in deltas for t in d.token_ids), "".join(d.text for d in deltas)
    end = events[-1]
    return (
        Said(ids, text, end.finish_reason, end.stop_sequence)
        if isinstance(end, Finished)
        else Said(ids, text, None, "")
    )


class Judge:
    """Goes through what a driver did, in the order in which it was asked for, agent by agent."""

    def __init__(self, driver: Driver, solo: Solo) -> None:
        self._driver, self._solo, self._engine = driver, solo, driver.engine
        self._context = solo.engine.model_info().context_limit
        self.minds: dict[str, Mind] = {}

    def check(self) -> None:
        for number in self._driver.order:
            item, name = self._driver.schedule.items[number], self._driver.schedule.name(number)
            if isinstance(item, Ask):
                self._check_ask(number, item, self.minds.setdefault(name, Mind()))
            elif item.what not in ("cancel", "aside"):
                self._check_act(number, item, name)
        for name, mind in self.minds.items():
            self._check_goes_on(AgentRef("default", name), mind)
        problems = self._engine.verify().problems
        assert problems == (), problems

    def _check_ask(self, number: int, ask: Ask, mind: Mind) -> None:
        events = self._driver.events[number]
        assert sum(isinstance(e, Finished | Failed) for e in events) == 1
        assert ended(events)
        given, said, end = self._encoded(ask, mind), said_of(events), events[-1]
        asked_to_end = number in self._driver._to_cancel
        if isinstance(end, Failed):
            if end.error.reason is Reason.CONTEXT_OVERFLOW:
                assert len(mind.ids) + len(given) + (ask.sampling is not None) > self._context
            else:
                assert (end.error.reason, asked_to_end) == (Reason.REQUEST_CANCELLED, True), end.error
                assert not said.ids or ask.on_cancel is OnCancel.DISCARD
        if ask.sampling is not None and said.ids:
            self._check_said((*mind.ids, *given), ask.sampling, said, end)
        if isinstance(end, Finished):
            assert end.finish_reason is not FinishReason.CANCELLED or asked_to_end
            mind.add((*mind.ids, *given, *said.ids), ask.sampling is not None and isinstance(ask.input, ChatInput))
            assert end.turn == mind.last

    def _check_said(self, ids: Ids, sampling: Sampling, said: Said, end: Event) -> None:
        cut = not isinstance(end, Finished) or end.finish_reason is FinishReason.CANCELLED
        if cut:
            alone = self._solo(ids, replace(sampling, max_tokens=len(said.ids)))
            assert said.ids == alone.ids
            assert alone.text.startswith(said.text)
        else:
            assert said == self._solo(ids, sampling)

    def _encoded(self, ask: Ask, mind: Mind) -> Ids:
        if isinstance(ask.input, TokenInput):
            return ask.input.ids
        assert isinstance(ask.input, ChatInput)
        last = mind.ids[-1] if mind.ids else None
        text = self._engine._context.model.text
        return tuple(text.encode_chat(ask.input.messages, last, mind.unclosed, ask.sampling is not None).ids)

    def _check_act(self, number: int, act: Act, name: str) -> None:
        error, mind = self._driver.errors.get(number), self.minds.get(name, Mind())
        if act.what == "rewind" and act.number not in mind.turns:
            assert error is not None
        elif error is not None:
            assert error.reason in (Reason.AGENT_NOT_FOUND, Reason.TURN_NOT_FOUND), error
            assert mind.last == 0
        elif act.what == "fork":
            self.minds[f"fork-{number}"] = child = Mind()
            child.add(mind.ids, mind.unclosed)
        elif act.what == "rewind":
            mind.add(*mind.turns[act.number])
        elif act.what == "delete":
            self.minds[name] = Mind()

    def _check_goes_on(self, ref: AgentRef, mind: Mind) -> None:
        """What RAM and disk hold of the agent is what it must be."""
        if mind.last == 0:
            return
        sampling = Sampling(max_tokens=2)
        if len(mind.ids) + 3 < self._context:
            events = run(self._engine, Request(ref, TokenInput((9,)), sampling))
            assert said_of(events) == self._solo((*mind.ids, 9), sampling)
            mind.add((*mind.ids, 9, *said_of(events).ids), False)
        self._engine.evict_agent(ref)  # so that all is on the disk
        assert tuple(recorded(self._engine, ref)) == mind.ids
        assert self._engine.get_agent(ref).turn == mind.last


def play(schedule: Schedule, checkpoint: Path | None, folder: Path, solo: Solo) -> Driver:
    """Does a schedule in a new engine, and checks what came of it."""
    settings = EngineSettings(
        folder, checkpoint and str(checkpoint), max_batch=schedule.max_batch, ahead=schedule.ahead, disk_budget=1 << 40
    )
    engine = Engine.open(settings)
    patch = pytest.MonkeyPatch()
    try:
        budget = engine._context.memory._budget
        budget.limit = int(schedule.ram * budget._most_bytes(engine.model_info().context_limit))
        patch.setattr(turn_module, "RESERVE", schedule.reserve)
        driver = Driver(engine, schedule)
        driver.go()
        assert not engine._context.memory._budget._promises
        budget.limit = 1 << 40
        Judge(driver, solo).check()
        return driver
    finally:
        patch.undo()
        engine.close(deadline_s=0)

"""One request as a job of the scheduler: what it tells its sink, and how it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import Any

from agentmem.engine.context import Context
from agentmem.engine.control import Control
from agentmem.engine.repeat import answer_again
from agentmem.engine.request import Durability, Event, Failed, Finished, Phase, Request, Sink, SpliceInput, Started
from agentmem.engine.splicing import SpliceTurn
from agentmem.engine.standing import standing
from agentmem.engine.status import RequestView
from agentmem.engine.turn import Turn
from agentmem.errors import AgentmemError, agent_not_found, request_id_reused
from agentmem.memory.agent import TurnDraft
from agentmem.memory.memory import NOT_DURABLE
from agentmem.types import Exactness, FinishReason

log = logging.getLogger(__name__)


class Run:
    """The sink gets Started, deltas, and exactly one Finished or Failed."""

    takes_slot = True

    def __init__(self, context: Context, request: Request, sink: Sink) -> None:
        self.ref, self.priority = request.agent, request.priority
        self._context, self._request, self._sink = context, request, sink
        self._submitted = time.monotonic()
        self._control = Control()
        self._begun, self._announcing = False, threading.Lock()
        exactness = Exactness.EXACT if request.thinking is None else Exactness.LATENT
        self._draft = TurnDraft(request.kind, request.request_id, exactness=exactness)
        turn = SpliceTurn if isinstance(request.input, SpliceInput) else Turn
        self._turn = turn(context, request, self._draft, self._control, self._send)

    @property
    def phase(self) -> Phase:
        return self._turn.phase if self._begun else Phase.QUEUED

    def view(self, position: int) -> RequestView:
        """How it stands, with so many jobs before it. Thread-safe."""
        return standing(self._request, self._draft, self._turn.agent, self.phase, self._submitted, position)

    def cancel(self, reason: FinishReason, error: AgentmemError | None = None) -> None:
        """Asks the run to end at its next step; with `error`, if nothing has been sent by then. Thread-safe."""
        self._control.cancel(reason, error)

    @property
    def cancelled(self) -> bool:
        return self._control.cancelled is not None

    @property
    def leaves(self) -> int:
        return self._turn.leaves

    def step_aside(self) -> None:
        self._control.aside_asked = True

    def announce(self, started: Started) -> None:
        """Tells the sink that the request waits, unless it runs already. Thread-safe."""
        with self._announcing:
            if not self._begun:
                self._send(started)

    def fail(self, error: AgentmemError) -> None:
        with self._announcing:
            self._begun = True
        self._context.counters.errors += 1
        self._send(Failed(error))

    def _send(self, event: Event) -> None:
        """A sink that fails loses its request, and hurts nobody else."""
        try:
            self._sink(event)
        except Exception as error:
            log.error("a sink failed: %s", type(error).__name__)
            self.cancel(FinishReason.CANCELLED)

    def steps(self) -> Generator[Any, None, None]:
        """The whole request. Raises AgentmemError with the timeline as it was."""
        try:
            yield from self._steps()
        finally:
            self._context.memory.done(self.ref)

    def _steps(self) -> Generator[Any, None, None]:
        self._context.counters.requests += 1
        with self._announcing:
            self._begun = True
        self._draft.timings.queue_s = time.monotonic() - self._submitted
        self._control.stop_if_cancelled()
        memory, request, turn = self._context.memory, self._request, self._turn
        yield from self._control.until_cancelled(memory.unsaved.catch_up())
        if self._repeat():
            return
        agent = yield from turn.admit()
        self._send(Started(agent.turn + 1 + (not memory.matches(agent)), 0, turn.plan, request.request_id))
        try:
            yield from turn.bring_back(agent)
            yield from turn.advance(agent, self._submitted)
            turn.phase = Phase.COMMITTING
            committing = time.monotonic()
            yield from memory.commit(agent, self._draft, request.durability is Durability.WRITE_BEHIND)
            self._draft.timings.commit_s = time.monotonic() - committing
        except AgentmemError:
            memory.rollback(agent)
            raise
        except BaseException:  # what RAM holds may hang on a computation that failed; the disk is intact
            memory.forget(agent.ref)
            raise
        finally:
            memory.let_go(self._draft)
        self._context.counters.count(self._draft)
        self._send(self._finished(agent.turn))

    def _repeat(self) -> bool:
        """Answers from the record if this request_id has made a turn already."""
        request, memory = self._request, self._context.memory
        if not request.request_id:
            return False
        waiting = memory.unsaved.find(self.ref.namespace, request.request_id)
        if waiting is not None:
            self._check_same(waiting.record.kind.value, waiting.record.agent_name)
            warnings = () if waiting.saving is not None else (NOT_DURABLE,)
            self._send_all(answer_again(waiting.record, durable=False, warnings=warnings))
            return True
        row = self._context.store.find_request(self.ref.namespace, request.request_id)
        if row is None:
            return False
        self._check_same(row.operation, row.agent_name)
        agent = memory.find(self.ref)
        if agent is None:
            raise agent_not_found(self.ref.namespace, self.ref.name)
        self._send_all(answer_again(memory.record(agent.id, row.turn), durable=True))
        return True

    def _check_same(self, operation: str, agent_name: str) -> None:
        if (operation, agent_name) != (self._draft.kind.value, self.ref.name):
            raise request_id_reused()

    def _send_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self._send(event)

    def _finished(self, turn: int) -> Finished:
        d = self._draft
        usage = replace(d.usage)  # a copy: what is written behind is counted later
        return Finished(
            turn,
            d.finish_reason,
            d.stop_sequence,
            usage,
            d.timings,
            d.durable,
            tuple(d.warnings),
            d.seed,
            parts=tuple(d.parts),
        )

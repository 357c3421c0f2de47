"""One request on the executor thread: look up, encode, restore, prefill, decode, commit."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from agentmem.engine.context import Context
from agentmem.engine.repeat import answer_again
from agentmem.engine.reply import Reply
from agentmem.engine.request import (
    ChatInput,
    Delta,
    Durability,
    Event,
    Failed,
    Finished,
    OnCancel,
    Request,
    RequestView,
    ReusePlan,
    Sink,
    Started,
    TextInput,
)
from agentmem.engine.standing import standing
from agentmem.errors import AgentmemError, Reason, agent_not_found, request_id_reused
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.memory import NOT_DURABLE
from agentmem.model.forward import LAST, last_logits, prefill
from agentmem.model.text import Encoded
from agentmem.store.commit import check_turn
from agentmem.types import FinishReason, TurnKind, TurnMessage

RESERVE = 1024
"""Positions that a reply without max_tokens gets room for at a time."""

log = logging.getLogger(__name__)


class Run:
    """A job of the scheduler. The sink gets Started, deltas, and exactly one Finished or Failed."""

    def __init__(self, context: Context, request: Request, sink: Sink) -> None:
        self.ref = request.agent
        self._context, self._request, self._sink = context, request, sink
        self._submitted = time.monotonic()
        self._cancelled: FinishReason | None = None
        self._cancelled_error = _ended_early(FinishReason.CANCELLED)
        self._begun, self._announcing = False, threading.Lock()
        kind = TurnKind.APPEND if request.sampling is None else TurnKind.GENERATE
        self._draft = TurnDraft(kind, request.request_id)
        self._reserved = 0
        self._agent: Agent | None = None

    def cancel(self, reason: FinishReason, error: AgentmemError | None = None) -> None:
        """Asks the run to end at its next step; with `error`, if nothing has been sent by then. Thread-safe."""
        if self._cancelled is None:
            self._cancelled_error = error or _ended_early(reason)
            self._cancelled = reason

    def view(self, position: int) -> RequestView:
        """How it stands, with so many requests before it. Thread-safe."""
        return standing(self._request, self._draft, self._agent, self._submitted, self._begun, position)

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

    def steps(self) -> Iterator[None]:
        """The whole request. Raises AgentmemError with the timeline as it was."""
        try:
            yield from self._steps()
        finally:
            self._context.memory.disk.done(self.ref)

    def _steps(self) -> Iterator[None]:
        self._context.counters.requests += 1
        with self._announcing:
            self._begun = True
        began = time.monotonic()
        self._draft.timings.queue_s = began - self._submitted
        self._stop_if_cancelled()
        memory, request = self._context.memory, self._request
        yield from self._until_cancelled(memory.unsaved.catch_up())
        if self._repeat():
            return
        agent = memory.find(self.ref)
        if agent is None and not request.create:
            raise agent_not_found(self.ref.namespace, self.ref.name)
        agent, encoded = self._prepare(agent or Agent(self.ref, ""))
        self._agent = agent
        self._send(Started(agent.turn + 1 + (not memory.matches(agent)), 0, self.plan(agent), request.request_id))
        try:
            yield from self._until_cancelled(self._bring_back(agent))
            self._draft.timings.restore_s = time.monotonic() - began
            for _ in self._advance(agent, encoded):
                memory.write_ahead(agent, self._draft, self._reserved)
                yield
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

    def plan(self, agent: Agent) -> ReusePlan:
        """What of the timeline is in RAM, on disk, or to be recomputed."""
        n = agent.tokens
        if not self._context.memory.matches(agent):
            return ReusePlan(n, cold_tokens=n)
        return ReusePlan(n, hot_tokens=n) if agent.state is not None else ReusePlan(n, warm_tokens=n)

    def _prepare(self, agent: Agent) -> tuple[Agent, Encoded]:
        """Everything that can refuse the request; makes the agent, if it is to be made, once nothing does."""
        request = self._request
        check_turn(request.expect_turn, agent.turn)
        memory = self._context.memory
        memory.require_match(agent, request.rebuild)
        encoded = self._encode(agent)
        if not encoded.ids:
            raise AgentmemError(Reason.EMPTY_INPUT, "the input makes no tokens; there is nothing to add")
        self._check_room(agent, encoded)
        self._reserved = agent.tokens + len(encoded.ids) + self._to_reserve(agent, encoded)
        memory.make_room(agent, self._reserved)
        memory.disk.make_room(agent, encoded.ids, self._reserved - agent.tokens - len(encoded.ids))
        return (agent if agent.id else memory.create(self.ref)), encoded

    def _encode(self, agent: Agent) -> Encoded:
        codec, given = self._context.model.text, self._request.input
        if isinstance(given, ChatInput):
            last = int(agent.ids[-1]) if agent.tokens else None
            return codec.encode_chat(given.messages, last, agent.unclosed, self._request.sampling is not None)
        if isinstance(given, TextInput):
            return codec.encode_text(given.text, empty=agent.tokens == 0)
        return codec.encode_ids(given.ids)

    def _check_room(self, agent: Agent, encoded: Encoded) -> None:
        limit = self._context.model.context_limit
        needed = agent.tokens + len(encoded.ids) + (self._request.sampling is not None)
        if needed > limit:
            raise AgentmemError(
                Reason.CONTEXT_OVERFLOW,
                f"the model's context holds {limit} tokens; this agent remembers {agent.tokens} and the input has "
                f"{len(encoded.ids)}. Send less, or begin a new agent",
                limit=limit,
                remembered=agent.tokens,
                input=len(encoded.ids),
            )

    def _to_reserve(self, agent: Agent, encoded: Encoded) -> int:
        """Positions of the reply to make room for before work starts: all it may have, if it says how many."""
        sampling = self._request.sampling
        if sampling is None:
            return 0
        left = self._context.model.context_limit - agent.tokens - len(encoded.ids)
        return min(left, RESERVE if sampling.max_tokens is None else sampling.max_tokens)

    def _has_room(self, agent: Agent) -> bool:
        """Whether the reply may go on; one without max_tokens is given room piece by piece."""
        if agent.state is not None and agent.state.offset >= self._reserved:
            self._reserved = min(self._reserved + RESERVE, self._context.model.context_limit)
            memory, draft = self._context.memory, self._draft
            try:
                memory.make_room(agent, self._reserved)
                memory.disk.make_room(agent, draft.ids, self._reserved - agent.tokens - len(draft.ids))
            except AgentmemError:
                return False
        return True

    def _bring_back(self, agent: Agent) -> Iterator[None]:
        memory = self._context.memory
        if memory.matches(agent):
            yield from memory.restore(agent, self._draft)
        else:
            yield from memory.rebuild(agent, self._draft)

    def _advance(self, agent: Agent, encoded: Encoded) -> Iterator[None]:
        """Feeds the input and, if asked, a reply."""
        draft, sampling = self._draft, self._request.sampling
        draft.messages = [
            TurnMessage(m.message, agent.tokens + m.start, agent.tokens + m.end) for m in encoded.messages
        ]
        draft.usage.prompt_tokens = agent.tokens + len(encoded.ids)
        draft.ids = list(encoded.ids)
        began = time.monotonic()
        assert agent.state is not None
        takeable = draft.ids if sampling is None else draft.ids[:-1]  # the last one's logits are needed
        yield from self._until_cancelled(self._context.memory.take_over(agent, takeable, draft))
        rest = draft.ids[agent.state.offset - agent.tokens :]
        draft.usage.prefill_tokens = len(rest)
        kept_back = 0 if sampling is None else LAST
        head = rest[: max(0, len(rest) - kept_back)]
        yield from self._until_cancelled(prefill(self._context.model, agent.state, head))
        if sampling is None:
            draft.timings.prefill_s = time.monotonic() - began
            return
        logits = last_logits(self._context.model, agent.state, rest[len(head) :])
        draft.timings.prefill_s = time.monotonic() - began
        draft.seed = sampling.seed if sampling.seed is not None else secrets.randbits(63)
        yield from self._decode(
            agent, Reply(self._context.model, sampling, draft.seed, agent.tokens + len(draft.ids)), logits
        )

    def _decode(self, agent: Agent, reply: Reply, logits: object) -> Iterator[None]:
        """Samples, sends and feeds until the reply ends. The last token is fed too (invariant 1)."""
        draft, model = self._draft, self._context.model
        start, began = agent.tokens + len(draft.ids), time.monotonic()
        assert agent.state is not None
        interrupted = False
        while True:
            token, text = reply.next(logits)
            draft.ids.append(token)
            if draft.usage.generated_tokens == 0:
                draft.timings.ttft_s = time.monotonic() - self._submitted
            draft.usage.generated_tokens += 1
            self._send(Delta(text, (token,)))
            if reply.finish_reason is None:
                logits = last_logits(model, agent.state, [token])
                yield
                if self._cancelled is not None:
                    interrupted = True
                    reply.interrupt(self._cancelled)
                elif not self._has_room(agent):
                    reply.interrupt(FinishReason.LENGTH)
            else:
                for _ in prefill(model, agent.state, [token]):
                    pass
            if reply.finish_reason is not None:
                break
        if interrupted and self._request.on_cancel is OnCancel.DISCARD:
            self._stop_if_cancelled()
        draft.finish_reason, draft.stop_sequence = reply.finish_reason, reply.stop_sequence
        chat = isinstance(self._request.input, ChatInput)
        draft.unclosed = chat
        draft.messages.append(reply.message("assistant" if chat else "text", start))
        draft.timings.decode_s = time.monotonic() - began

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
        return Finished(turn, d.finish_reason, d.stop_sequence, usage, d.timings, d.durable, tuple(d.warnings), d.seed)

    def _until_cancelled(self, steps: Iterator[object]) -> Iterator[None]:
        for _ in steps:
            self._stop_if_cancelled()
            yield
            self._stop_if_cancelled()

    def _stop_if_cancelled(self) -> None:
        if self._cancelled is not None:
            raise self._cancelled_error


def _ended_early(reason: FinishReason) -> AgentmemError:
    if reason is FinishReason.DEADLINE:
        return AgentmemError(Reason.DEADLINE_PASSED, "the deadline passed; the timeline is as it was")
    return AgentmemError(Reason.REQUEST_CANCELLED, "the request was cancelled; the timeline is as it was")

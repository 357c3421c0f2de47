"""What a request does to its agent: it makes room, restores, feeds the input, and lets the agent reply."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator
from typing import Any

import mlx.core as mx

from agentmem.engine.context import Context
from agentmem.engine.control import Control
from agentmem.engine.lane import Lane
from agentmem.engine.limits import check_fits
from agentmem.engine.reply import Reply
from agentmem.engine.request import (
    ChatInput,
    Delta,
    Event,
    OnCancel,
    Phase,
    Request,
    ReusePlan,
    TextInput,
    TokenInput,
)
from agentmem.engine.room import with_room
from agentmem.engine.sampling import Sampler
from agentmem.engine.thinking import Thinker
from agentmem.errors import AgentmemError, Reason, agent_not_found
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.embeddings import kept
from agentmem.memory.ending import require_end
from agentmem.memory.needs import Chunk, Room
from agentmem.memory.taken import RoomTaken
from agentmem.model.forward import LAST, feed, last_hidden, last_logits, next_chunk
from agentmem.model.text import Encoded
from agentmem.store.commit import check_turn
from agentmem.types import FinishReason, TurnKind, TurnMessage

RESERVE = 1024
"""Positions that a reply without max_tokens gets room for at a time."""


class Turn:
    """send: what the request's sink is told through."""

    def __init__(
        self, context: Context, request: Request, draft: TurnDraft, control: Control, send: Callable[[Event], None]
    ) -> None:
        self._context, self._request, self._draft = context, request, draft
        self._control, self._send = control, send
        self._model, self._memory = context.model, context.memory
        self._encoded, self._encoded_behind = Encoded([], ()), -1
        self._reserved = 0
        self._cannot_leave = False
        self.phase = Phase.WAITING_FOR_ROOM
        self.plan = ReusePlan()
        self.agent: Agent | None = None
        """Once it is admitted."""

    # Room

    def admit(self) -> Generator[Any, None, Agent]:
        """Everything that can refuse the request; waits while others hold the room that it needs.

        Makes the agent, if it is to be made, once nothing refuses it.
        """
        memory, ref = self._memory, self._request.agent
        agent = yield from with_room(self._prepare, self._control.stop_if_cancelled)
        self.plan = self._plan(agent)
        self.agent = agent if agent.id else memory.create(ref)
        return self.agent

    def _prepare(self) -> Agent:
        request, memory = self._request, self._memory
        agent = memory.find(request.agent)
        if agent is None:
            if not request.create:
                raise agent_not_found(request.agent.namespace, request.agent.name)
            agent = Agent(request.agent, "")
        check_turn(request.expect_turn, agent.turn)
        memory.require_match(agent, request.rebuild)
        memory.hold(request.agent)  # or else RAM may forget it when others are found
        try:
            if self._encoded_behind != agent.turn:  # not at every attempt
                self._encoded, self._encoded_behind = self._encode(agent), agent.turn
            given = len(self._encoded.ids)
            if not given and request.input is not None:
                raise AgentmemError(Reason.EMPTY_INPUT, "the input makes no tokens; there is nothing to add")
            check_fits(agent, self._encoded.ids, self._request, self._model)
            self._reserved = agent.tokens + given + self._to_reserve(agent, given)
            self._make_room(agent)
        except AgentmemError:
            memory.done(request.agent)
            raise
        return agent

    def _make_room(self, agent: Agent) -> None:
        """In RAM and on disk, for what is given and reserved. Nothing of it is promised if that fails."""
        memory, ids = self._memory, self._encoded.ids
        memory.make_room(agent, self._reserved, self._latent)
        memory.disk.make_room(agent, ids, self._reserved - agent.tokens - len(ids), self._latent)

    @property
    def _latent(self) -> int:
        """How many latent positions the turn adds at the most."""
        thinking = self._request.thinking
        return sum(id_ < 0 for id_ in self._encoded.ids) + (0 if thinking is None else thinking.steps)

    def _plan(self, agent: Agent) -> ReusePlan:
        """What of the timeline is in RAM, on disk, or to be recomputed."""
        n = agent.tokens
        if not self._memory.matches(agent):
            return ReusePlan(n, cold_tokens=n)
        return ReusePlan(n, hot_tokens=n) if agent.state is not None else ReusePlan(n, warm_tokens=n)

    def _encode(self, agent: Agent) -> Encoded:
        codec, given = self._model.text, self._request.input
        if given is None:
            require_end(agent, self._model)
            return Encoded([], ())
        if isinstance(given, ChatInput):
            last = int(agent.ids[-1]) if agent.tokens else None
            return codec.encode_chat(given.messages, last, agent.unclosed, self._goes_on)
        if isinstance(given, TextInput):
            return codec.encode_text(given.text, empty=agent.tokens == 0)
        assert isinstance(given, TokenInput)
        return codec.encode_ids(given.ids)

    @property
    def _goes_on(self) -> bool:
        """Whether the agent says or thinks something behind the input."""
        return self._request.kind is not TurnKind.APPEND

    def _to_reserve(self, agent: Agent, given: int) -> int:
        """Positions of the reply to make room for before work starts: all it may have, if it says how many."""
        sampling, thinking = self._request.sampling, self._request.thinking
        if sampling is None:
            return 0 if thinking is None else thinking.steps
        left = self._model.context_limit - agent.tokens - given
        return min(left, RESERVE if sampling.max_tokens is None else sampling.max_tokens)

    def _has_room(self, agent: Agent) -> Generator[Any, None, bool]:
        """Whether the reply may go on; one without max_tokens is given room piece by piece."""
        draft, memory = self._draft, self._memory
        if agent.tokens + len(draft.ids) < self._reserved:
            return True
        more = min(self._reserved + RESERVE, self._model.context_limit)
        try:
            memory.disk.make_room(agent, draft.ids, more - agent.tokens - len(draft.ids))
            memory.make_room(agent, more, self._latent)
        except RoomTaken as taken:  # on disk it would take as much if it stepped aside
            return taken.short > 0 and (yield from self._step_aside(agent, more))
        except AgentmemError:
            return False
        self._reserved = more
        return True

    @property
    def leaves(self) -> int:
        """Bytes of RAM that it would leave to others if it stepped aside now; 0 if it can't."""
        able = self.phase in (Phase.PREFILL, Phase.DECODING) and not self._cannot_leave
        return self._memory.promised(self._request.agent) if able else 0

    def _step_aside(self, agent: Agent, wanted: int) -> Generator[Any, None, bool]:
        """Leaves the agent's room in RAM to others, and goes on once there is room for so many positions.

        False if it could not leave, or goes on with what it had because there never will be so much.
        """
        self._control.aside_asked = False
        leaves = self.leaves
        aside = yield from self._memory.set_aside(agent, self._draft)
        if aside is None:
            self._cannot_leave = True
            return False
        self._context.counters.set_aside += 1
        phase, self.phase = self.phase, Phase.SET_ASIDE
        # What was said is to be committed, whatever comes, unless it is to be discarded.
        usage = self._draft.usage
        kept = usage.generated_tokens + usage.latent_steps and self._request.on_cancel is OnCancel.COMMIT
        check = (lambda: None) if kept else self._control.stop_if_cancelled
        yield Room(leaves)
        check()
        positions = wanted
        try:
            yield from with_room(lambda: self._memory.make_room(agent, positions, self._latent), check)
        except AgentmemError as error:
            if error.reason is not Reason.RAM_BUDGET_EXCEEDED or positions == self._reserved:
                raise
            positions = self._reserved
            yield from with_room(lambda: self._memory.make_room(agent, positions, self._latent), check)
        yield from self._memory.bring_back(agent, self._draft, aside)
        self.phase = phase
        self._control.aside_asked = False
        self._reserved = positions
        return positions == wanted

    # Work

    def bring_back(self, agent: Agent) -> Generator[Any, None, None]:
        """Warm to hot, or cold under another model."""
        self.phase, began = Phase.RESTORING, time.monotonic()
        bring = self._memory.restore if self._memory.matches(agent) else self._memory.rebuild
        timings = self._draft.timings
        timings.restore_busy_s = yield from self._control.until_cancelled(bring(agent, self._draft))
        timings.restore_s = time.monotonic() - began

    def advance(self, agent: Agent, submitted: float) -> Generator[Any, None, None]:
        """Feeds the input and, if asked, a reply or a thought. submitted: when it was asked, by the monotonic clock."""
        draft, sampling = self._draft, self._request.sampling
        draft.messages = [
            TurnMessage(m.message, agent.tokens + m.start, agent.tokens + m.end) for m in self._encoded.messages
        ]
        draft.usage.prompt_tokens = agent.tokens + len(self._encoded.ids)
        draft.ids = list(self._encoded.ids)
        self.phase, began = Phase.PREFILL, time.monotonic()
        takeable = draft.ids[:-1] if self._goes_on else draft.ids  # what comes out behind the last one is needed
        yield from self._control.until_cancelled(self._memory.take_over(agent, takeable, draft))
        draft.usage.prefill_tokens = len(draft.ids) - self._fed(agent)
        yield from self._prefill(agent, len(draft.ids) - (LAST if self._goes_on else 0))
        if not self._goes_on:
            draft.timings.prefill_s = time.monotonic() - began
            return
        rest = draft.ids[self._fed(agent) :]
        yield Chunk(len(rest))
        self._control.stop_if_cancelled()
        assert agent.state is not None
        if self._request.thinking is not None:
            if not rest:  # the last position's hidden state is kept by nobody
                draft.usage.recomputed_tokens += 1
            hidden = last_hidden(self._model, agent.state, rest) if rest else self._memory.hidden_at_end(agent)
        elif sampling is not None:
            logits = last_logits(self._model, agent.state, rest)
        draft.timings.prefill_s = time.monotonic() - began
        self._memory.write_ahead(agent, draft, self._reserved)
        if sampling is None:
            yield from self._think(agent, hidden)
            return
        draft.seed = sampling.seed if sampling.seed is not None else secrets.randbits(63)
        yield from self._reply(agent, logits, submitted)

    def _fed(self, agent: Agent) -> int:
        """How many of the draft's ids the state holds."""
        assert agent.state is not None
        return agent.state.offset - agent.tokens

    def _prefill(self, agent: Agent, end: int) -> Generator[Any, None, None]:
        """Feeds the draft's ids up to `end`, chunk by chunk."""
        while (begin := self._fed(agent)) < end:
            assert agent.state is not None
            chunk = next_chunk(agent.state, self._draft.ids[begin:end])
            yield Chunk(len(chunk))
            self._control.stop_if_cancelled()
            if self._control.aside_asked:
                yield from self._step_aside(agent, self._reserved)
            assert agent.state is not None
            feed(self._model, agent.state, chunk)
            self._memory.write_ahead(agent, self._draft, self._reserved)

    def _think(self, agent: Agent, hidden: mx.array) -> Generator[Any, None, None]:
        """Takes the latent steps. hidden: that behind the input, or behind the timeline without one."""
        draft, request = self._draft, self._request
        assert request.thinking is not None
        yield from self._control.until_cancelled(self._context.space.making(request.thinking.projection))
        began = time.monotonic()
        thinker = Thinker(agent, request.thinking.projection, hidden)
        self.phase = Phase.DECODING
        while draft.usage.latent_steps < request.thinking.steps:
            if self._control.cancelled is not None:
                if not draft.usage.latent_steps or request.on_cancel is OnCancel.DISCARD:
                    self._control.stop_if_cancelled()
                draft.finish_reason = self._control.cancelled
                break
            if self._control.aside_asked:
                yield from self._step_aside(agent, self._reserved)
            draft.ids.append(agent.add_latent(kept((yield from thinker.next()))))
            draft.usage.latent_steps += 1
            self._memory.write_ahead(agent, draft, self._reserved)
        draft.unclosed = agent.unclosed if request.input is None else isinstance(request.input, ChatInput)
        draft.timings.decode_s = time.monotonic() - began

    def _reply(self, agent: Agent, logits: mx.array, submitted: float) -> Generator[Any, None, None]:
        """Samples, sends and feeds until the reply ends. The last token is fed too (invariant 1)."""
        draft, sampling = self._draft, self._request.sampling
        assert sampling is not None
        start, began = agent.tokens + len(draft.ids), time.monotonic()
        reply = Reply(self._model, sampling, start)
        self.phase = Phase.DECODING
        schema = sampling.json_schema
        document = self._model.grammars.document(schema) if schema else None
        lane = Lane(agent, Sampler(sampling, draft.seed, document), start, logits)
        while reply.finish_reason is None:
            token = yield from lane.next()
            if self._control.cancelled is not None and not lane.holds_last:  # so it needs neither be said nor fed
                if not draft.usage.generated_tokens:
                    self._control.stop_if_cancelled()
                reply.interrupt(self._control.cancelled)
                break
            if not draft.usage.generated_tokens:
                draft.timings.ttft_s = time.monotonic() - submitted
            draft.ids.append(token)
            draft.usage.generated_tokens += 1
            self._send(Delta(reply.add(token), (token,)))
            if agent.state is not None and agent.state.full.row == 0:
                self._memory.write_ahead(agent, draft, self._reserved)
            if reply.finish_reason is None:
                yield from self._or_interrupted(agent, reply)
            if reply.finish_reason is not None:
                yield from lane.end()
        if self._control.cancelled is not None and reply.interrupted and self._request.on_cancel is OnCancel.DISCARD:
            self._control.stop_if_cancelled()
        draft.finish_reason, draft.stop_sequence = reply.finish_reason, reply.stop_sequence
        chat = isinstance(self._request.input, ChatInput)
        draft.unclosed = chat
        draft.messages.append(reply.message("assistant" if chat else "text", start))
        draft.timings.decode_s = time.monotonic() - began

    def _or_interrupted(self, agent: Agent, reply: Reply) -> Generator[Any, None, None]:
        """Ends the reply if it was cancelled or there is no room for more; steps aside if asked to."""
        if self._control.cancelled is not None:
            reply.interrupt(self._control.cancelled)
        elif not (yield from self._has_room(agent)):
            reply.interrupt(FinishReason.LENGTH)
        elif self._control.aside_asked:
            yield from self._step_aside(agent, self._reserved)

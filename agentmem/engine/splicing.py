"""A turn that puts parts of other agents' timelines behind an agent's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np

from agentmem.engine.context import Context
from agentmem.engine.control import Control
from agentmem.engine.request import Event, Phase, Request, SpliceInput
from agentmem.engine.room import with_room
from agentmem.engine.slices import Slices
from agentmem.engine.turn import Turn
from agentmem.errors import AgentmemError, Reason
from agentmem.latent import splice as library
from agentmem.latent.blend import Blended, blending
from agentmem.latent.splice import splice
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.computing import computed
from agentmem.memory.embeddings import inputs
from agentmem.memory.needs import Chunk
from agentmem.memory.parts import Part, PartState
from agentmem.memory.placing import BLEND, REPOSITION, Operation, goes_on, placements
from agentmem.memory.taken import RoomTaken
from agentmem.model.text import Encoded
from agentmem.store.keys import keyed_digest
from agentmem.store.latents import owned
from agentmem.store.placement import params
from agentmem.types import BLOCK_TOKENS, Exactness, Message, Order, Reposition, TurnMessage


class SpliceTurn(Turn):
    """Of parts, the first may be what follows the agent's timeline in its own: that is fed, as a handoff is.

    Others are attended to where they are put; with EXACT all of them are fed.
    """

    def __init__(
        self, context: Context, request: Request, draft: TurnDraft, control: Control, send: Callable[[Event], None]
    ) -> None:
        super().__init__(context, request, draft, control, send)
        self._cannot_leave = True
        self._slices = Slices(context, request.agent.namespace)
        self._parts: list[tuple[int, Part]] = []
        """In the order in which they follow one another, each with its number among those asked for."""
        self._fed_parts = 0
        """How many of them are fed."""
        self._to_restore = 0
        """Positions that RAM has room for, for the timeline of one whose state cannot be read."""
        self._lost: set[bytes] = set()
        """Keys of blocks that the disk has room for, to be put back."""
        self._unreadable: set[bytes] = set()
        """Keys of parts of which that was seen."""

    @property
    def _asked(self) -> SpliceInput:
        assert isinstance(self._request.input, SpliceInput)
        return self._request.input

    def _encode(self, agent: Agent) -> Encoded:
        numbered = [(number, self._slices.part(agent, one)) for number, one in enumerate(self._asked.parts)]
        if self._asked.order is Order.CANONICAL:
            numbered.sort(key=lambda one: one[1].key)
        self._parts = numbered
        if self._asked.reposition is Reposition.EXACT:
            self._fed_parts = len(numbered)
        else:
            matches = self._memory.matches(agent)
            self._fed_parts = int(matches and goes_on(agent, numbered[0][1]))
            self._check_layers()
        ids: list[int] = []
        messages = []
        for _, part in numbered:
            text = self._model.text.decode([id_ for id_ in part.ids.tolist() if id_ >= 0])
            messages.append(TurnMessage(Message("text", (text,)), len(ids), len(ids) + len(part)))
            ids += part.ids.tolist()
        return Encoded(ids, tuple(messages))

    def _check_layers(self) -> None:
        """Raises NOT_REPOSITIONABLE, or INPUT_INVALID for a layer that the model does not have."""
        asked = self._asked
        if len(self._parts) > self._fed_parts:
            _ = self._memory.turning.frequencies
        last = self._model.layout.full.layers - 1
        if asked.reposition is Reposition.BLEND and asked.check_layer > last:
            raise AgentmemError(Reason.INPUT_INVALID, f"check_layer is one of this model's layers, 0 to {last}")

    @property
    def _placed(self) -> list[Part]:
        """The parts that are not fed."""
        return [part for _, part in self._parts[self._fed_parts :]]

    def _hold_sources(self, agent: Agent) -> None:
        """Has RAM know all agents whose timelines are taken from, and has them stay until the request is done."""
        refs = [part.agent.ref for _, part in self._parts]
        self._memory.take_from(agent.ref, refs, refs[self._fed_parts :])
        for at, (number, part) in enumerate(self._parts):
            found = self._slices.source(agent, self._asked.parts[number])
            if found is not part.agent and at >= self._fed_parts:  # RAM had forgotten it while the request waited
                self._parts[at] = number, self._slices.as_now(agent, self._asked.parts[number], part)

    def _make_room(self, agent: Agent) -> None:
        self._hold_sources(agent)
        memory, placed, blends = self._memory, self._placed, self._asked.reposition is Reposition.BLEND
        blocks = [min(BLOCK_TOKENS, len(part)) for part in placed for _ in part.sources]
        fed = len(self._encoded.ids) - sum(map(len, placed))
        end = agent.tokens + fed
        # A segment for each block, and one for what is before them; where they are blended, their keys up to the check
        # layer twice, and those that are computed anew.
        segments = len(blocks) + (1 if placed else 0)
        if blends and placed:
            segments += 2 * len(blocks) + 1
        lost: dict[bytes, np.ndarray] = {}
        to_restore = 0
        for part in (one for one in placed if one.agent.ref != agent.ref):  # its own are brought back with it
            lacking = memory.disk.lacking(part.agent, part.alone.tokens)
            if lacking or part.key in self._unreadable:
                lost |= lacking
                to_restore = max(to_restore, _room_to_restore(part))
        memory.make_room(agent, end + segments * BLOCK_TOKENS + to_restore, self._latent)
        more = [min(BLOCK_TOKENS, len(part)) for part in placed] if blends else []
        ids = self._encoded.ids[:fed]
        latent = self._latent + sum(int((own < 0).sum()) for own in lost.values())
        known = next((at for at, id_ in enumerate(ids) if id_ < 0), fed)  # its latents are not the agent's yet
        written = (*blocks, *more, *map(len, lost.values()))
        memory.disk.make_room(agent, ids[:known], fed - known, latent, written)
        self._to_restore, self._lost = to_restore, set(lost)

    def advance(self, agent: Agent, submitted: float) -> Generator[Any, None, None]:
        """Feeds what is to be fed, and puts the other parts behind it."""
        while True:
            try:
                yield from self._advance(agent)
                return
            except RoomTaken:  # for a part whose state turned out to be lost
                pass
            yield from self._wait(agent)

    def _wait(self, agent: Agent) -> Generator[Any, None, None]:
        """Leaves all its room to others, until there is as much as it takes by what it knows now.

        What it has put together is given up too: of two that wait, neither holds what the other needs.
        """
        memory, ref = self._memory, agent.ref

        def attempt() -> None:
            try:
                self._make_room(agent)
            except AgentmemError:
                memory.done(ref)
                memory.hold(ref)  # it is promised nothing, but not forgotten
                raise

        self.phase = Phase.WAITING_FOR_ROOM
        memory.rollback(agent)
        if not agent.pinned and not agent.unsaved:
            memory.evict(agent)
        self._draft.begin_again()
        yield from with_room(attempt, self._control.stop_if_cancelled)
        yield from self.bring_back(agent)

    def _advance(self, agent: Agent) -> Generator[Any, None, None]:
        draft, memory, ids = self._draft, self._memory, self._encoded.ids
        for number, _ in self._parts[: self._fed_parts]:  # the others are looked at again when they are put there
            self._slices.source(agent, self._asked.parts[number])
        start = agent.tokens
        draft.messages = [TurnMessage(m.message, start + m.start, start + m.end) for m in self._encoded.messages]
        draft.parts = [
            (number, message.start) for (number, _), message in zip(self._parts, draft.messages, strict=True)
        ]
        draft.usage.prompt_tokens = start + len(ids)
        self.phase, began = Phase.PREFILL, time.monotonic()
        self._take_latents(agent)
        if any(part.latents for _, part in self._parts):
            draft.exactness = draft.usage.exactness = Exactness.LATENT
        draft.ids = ids[: len(ids) - sum(map(len, self._placed))]
        if draft.ids:
            yield from self._control.until_cancelled(memory.take_over(agent, draft.ids, draft))
            rest = np.asarray(draft.ids[self._fed(agent) :], np.int32)
            draft.usage.prefill_tokens = len(rest)
            assert agent.state is not None
            yield from self._control.until_cancelled(computed(self._model, agent.state, rest, agent.latents))
        if self._placed:
            yield from self._place(agent)
        _, last = self._parts[-1]
        draft.unclosed = last.unclosed
        draft.timings.prefill_s = time.monotonic() - began

    def _take_latents(self, agent: Agent) -> None:
        for _, part in self._parts:
            if any(agent.latents.get(id_, row) != row for id_, row in part.latents.items()):
                message = "two different thoughts go by one number here; think one of them anew"
                raise AgentmemError(Reason.INPUT_INVALID, message)
            agent.latents |= owned(part.ids, part.latents)  # the part's agent may be forgotten, and is counted itself

    def _place(self, agent: Agent) -> Generator[Any, None, None]:
        """Has the agent's state hold the parts that are not fed."""
        draft, asked, model, memory = self._draft, self._asked, self._model, self._memory
        states: list[PartState] = []
        yield from self._control.until_cancelled(self._states(agent, states))
        blends = asked.reposition is Reposition.BLEND and asked.ratio > 0
        parts = self._placed
        assert agent.state is not None
        given = [
            library.Part(state.state, 0, len(part), model.state_id) for state, part in zip(states, parts, strict=True)
        ]
        turning, recomputed = memory.turning.frequencies, np.zeros(0, np.int64)
        if blends:
            contents = [inputs(model, part.ids, part.latents) for part in parts]
            steps = blending(model, turning, agent.state, given, contents, asked.ratio, asked.check_layer)
            spliced = yield from self._computed(steps)
            state, starts, recomputed = spliced.state, spliced.starts, spliced.recomputed
        else:
            state, starts = splice(model, turning, agent.state, given)
        memory.replace_state(agent, state)
        operation = self._operation(blends)
        draft.placements = list(placements(operation, states, starts, recomputed))
        draft.ids = list(self._encoded.ids)
        label = Exactness.BLENDED if blends else Exactness.REPOSITIONED
        draft.exactness = Exactness.of_all(draft.exactness, label, *(part.agent.exactness for part in parts))
        usage = draft.usage
        usage.exactness = draft.exactness
        usage.prefill_tokens += len(recomputed)
        for part, one, start in zip(parts, states, starts, strict=True):
            own = recomputed[(recomputed >= start) & (recomputed < start + len(part))]
            kept = len(part) - len(np.union1d(own, one.computed + start))
            usage.reused_hot_tokens += kept if one.hot else 0
            usage.reused_warm_tokens += 0 if one.hot else kept
        usage.bytes_read += sum(one.bytes_read for one in states)

    def _computed(self, steps: Generator[int, None, Blended]) -> Generator[Any, None, Blended]:
        """What comes of a blend, unless the request is cancelled meanwhile."""
        while True:
            try:
                positions = next(steps)
            except StopIteration as end:
                blended: Blended = end.value
                return blended
            yield Chunk(positions)
            self._control.stop_if_cancelled()

    def _states(self, agent: Agent, states: list[PartState]) -> Iterator[Any]:
        """Of the parts that are placed, in order."""
        for number, part in self._parts[self._fed_parts :]:
            now = self._slices.as_now(agent, self._asked.parts[number], part)
            state = yield from self._memory.parts.state_of(now)
            if state is None:
                state = yield from self._restored(agent, now)
            states.append(state)

    def _restored(self, agent: Agent, part: Part) -> Generator[Any, None, PartState]:
        """Of a part whose agent is cold. It may have become so meanwhile: then there was no room made for that."""
        lacking = self._memory.disk.lacking(part.agent, part.alone.tokens)
        if _room_to_restore(part) > self._to_restore or not lacking.keys() <= self._lost:
            self._unreadable.add(part.key)
            self._make_room(agent)
        return (yield from self._memory.parts.restored(part, self._draft))

    def _operation(self, blends: bool) -> Operation:
        if not blends:
            return Operation(REPOSITION, params(), b"")
        asked = self._asked
        said = params(ratio=float(asked.ratio), check_layer=asked.check_layer)
        secret = self._context.store.namespace(self._request.agent.namespace).secret
        keys = [part.key for part in self._placed]
        return Operation(BLEND, said, keyed_digest(secret, b"agentmem.splice.1", BLEND.encode(), said.encode(), *keys))


def _room_to_restore(part: Part) -> int:
    """Positions of RAM that a cold agent's timeline takes up to a part's end: a segment for each block, and for the one
    that is computed again, one on its way and one where it is put.
    """
    return (part.sources[-1].place + 3) * BLOCK_TOKENS

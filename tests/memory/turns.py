"""Turns of agents that a test takes step by step, as runs on the executor thread do, with other things in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from typing import ClassVar

import mlx.core as mx

from agentmem.memory.agent import Agent, TurnDraft
from agentmem.memory.aside import Aside
from agentmem.memory.memory import Memory
from agentmem.memory.needs import Wait
from agentmem.model.forward import CHUNK, last_logits, prefill
from agentmem.model.loader import LoadedModel
from agentmem.types import AgentRef, TurnKind

A, B, C = (AgentRef("default", name) for name in "abc")


def prompt(length: int, n: int = 0) -> list[int]:
    """No two of them begin alike."""
    return [5 + (i * (n + 3) + i // 7) % 400 for i in range(n, n + length)]


class Turn:
    """Feeds ids to an agent, and says so many tokens, greedily. Iterated on, it does one step after another.

    computing: whether it can be set aside now. said: so far.
    """

    begun: ClassVar[list[Turn]] = []
    """All, so that a test's end can end those that it has left off."""

    def __init__(
        self,
        memory: Memory,
        model: LoadedModel,
        ref: AgentRef,
        ids: Iterable[int],
        tokens: int = 0,
        behind: bool = False,
    ) -> None:
        self.ref, self.tokens = ref, tokens
        self.draft = TurnDraft(TurnKind.GENERATE if tokens else TurnKind.APPEND, "", ids=list(ids))
        self.said: list[int] = []
        self.computing = False
        self._memory, self._model, self._behind = memory, model, behind
        self.positions = 0
        self._steps = self._all()
        self.begun.append(self)

    @property
    def agent(self) -> Agent:
        agent = self._memory.find(self.ref)
        assert agent is not None
        return agent

    def __iter__(self) -> Iterator[object]:
        return self._steps

    def finish(self) -> list[int]:
        """Takes all steps that are left; what was said."""
        drive(self._steps)
        return self.said

    def until_computing(self, steps: int = 0) -> Turn:
        """Takes so many steps more once it computes; or ends."""
        for need in self._steps:
            _await(need)
            steps -= self.computing
            if steps < 0:
                break
        return self

    def cancel(self) -> None:
        self._steps.close()

    def _all(self) -> Iterator[object]:
        memory, draft = self._memory, self.draft
        agent = memory.find(self.ref) or Agent(self.ref, "")
        ids = draft.ids
        try:
            self.positions = agent.tokens + len(ids) + self.tokens
            memory.make_room(agent, self.positions)
            memory.disk.make_room(agent, ids, self.tokens)
            agent = agent if agent.id else memory.create(self.ref)
            try:
                yield from self._compute(agent)
                yield from memory.commit(agent, draft, self._behind)
            except BaseException:
                self.computing = False
                memory.let_go(draft)
                memory.rollback(agent)
                raise
        finally:
            memory.let_go(draft)
            memory.done(self.ref)

    def _compute(self, agent: Agent) -> Iterator[object]:
        memory, draft, model = self._memory, self.draft, self._model
        yield from memory.restore(agent, draft)
        yield from memory.take_over(agent, draft.ids[:-1], draft)
        self.computing = True
        yield None
        fed = agent.tokens + len(draft.ids) - bool(self.tokens)
        while agent.state.offset < fed:
            rest = draft.ids[agent.state.offset - agent.tokens : fed - agent.tokens]
            for _ in prefill(model, agent.state, rest[: CHUNK - agent.state.offset % 256]):
                pass
            memory.write_ahead(agent, draft, self.positions)
            yield None
        while len(self.said) < self.tokens:
            logits = last_logits(model, agent.state, draft.ids[-1:])
            self.said.append(int(mx.argmax(logits)))
            draft.ids.append(self.said[-1])
            memory.write_ahead(agent, draft, self.positions)
            yield None
        if self.tokens:
            last_logits(model, agent.state, draft.ids[-1:])
        self.computing = False


def drive(steps: Iterable[object]) -> object:
    """Takes all steps; what a generator returns."""
    iterator = iter(steps)
    while True:
        try:
            _await(next(iterator))
        except StopIteration as end:
            return end.value


def _await(need: object) -> None:
    if isinstance(need, Wait):
        wait(need.futures, 0.05, return_when=FIRST_COMPLETED)


def set_aside(memory: Memory, turn: Turn) -> Aside | None:
    aside = drive(memory.set_aside(turn.agent, turn.draft))
    assert aside is None or isinstance(aside, Aside)
    return aside


def bring_back(memory: Memory, turn: Turn, aside: Aside) -> None:
    memory.make_room(turn.agent, turn.positions)
    drive(memory.bring_back(turn.agent, turn.draft, aside))

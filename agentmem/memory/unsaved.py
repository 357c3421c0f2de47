"""Turns that are in RAM only: those that the writer thread has, and those that the disk did not take."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator
from concurrent.futures import wait
from dataclasses import dataclass

from agentmem.errors import AgentmemError, Reason
from agentmem.memory.agent import Agent, TurnDraft, Unsaved
from agentmem.memory.news import News
from agentmem.memory.saving import TurnSaver
from agentmem.memory.writer import WriterThread, until_done
from agentmem.types import AgentRef

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outstanding:
    """turns: that were answered. bytes: in RAM, that wait for the disk. oldest_s: since the oldest of them ended."""

    turns: int
    bytes: int
    oldest_s: float


class UnsavedTurns:
    """Of all agents. Owned by the executor thread; `counts` and `of` may be read from others.

    lag_s: how old a turn that was written behind may be before the next one waits.
    """

    def __init__(self, saver: TurnSaver, writer: WriterThread, news: News, lag_s: float, bytes_per_token: int) -> None:
        self._saver, self._writer, self._news = saver, writer, news
        self._lag_s, self._bytes_per_token = lag_s, bytes_per_token
        self._agents: dict[AgentRef, Agent] = {}
        """Those that have such turns, or had some when last looked at."""

    def commit(self, agent: Agent, draft: TurnDraft, behind: bool) -> Generator[object, None, bool]:
        """Makes the draft the agent's last turn, and has it saved; see `TurnSaver.commit`."""
        self._agents[agent.ref] = agent
        self._saver.collect(agent)
        self._saver.add(agent, draft)
        agent.committing = True
        try:
            durable = yield from self._saver.commit(agent, behind)
        finally:
            agent.committing = False
        self._tell(agent)
        if durable:
            self._save_stuck()
        return durable

    def catch_up(self) -> Iterator[object]:
        """Takes note of what has been saved. Waits, and yields, while a turn is older than it may be."""
        self.collect()
        commits = [one for agent in self._agents.values() for one in agent.unsaved if one.saving is not None]
        late = time.monotonic() - self._lag_s
        yield from until_done(one.saving for one in commits if one.saving is not None and one.since <= late)
        self.collect()

    def arrived_of_others(self, agent: Agent) -> Iterator[object]:
        """Waits for what is on its way to the disk in the agent's namespace, but no longer than it may take."""
        others = [a for a in self._agents.values() if a is not agent and a.ref.namespace == agent.ref.namespace]
        yield from until_done((saving for other in others for saving in other.outstanding), self._lag_s)

    def collect(self) -> None:
        """Takes note of what the writer thread has done."""
        for agent in list(self._agents.values()):
            self._saver.collect(agent)
            self._tell(agent)
            if not agent.unsaved:
                del self._agents[agent.ref]

    def _tell(self, agent: Agent) -> None:
        """Notes whether the disk takes the agent's turns; of those that it was just handed, nothing is known yet."""
        if agent.stuck or not agent.unsaved:
            self._news.durable(agent.ref, agent.id, not agent.unsaved)

    def _save(self, agent: Agent) -> bool:
        """True once all of the agent's turns are durable."""
        saved = self._saver.save(agent)
        self._tell(agent)
        return saved

    def save_what_it_takes(self) -> set[str]:
        """Saves all, as far as the disk takes it; ids of the agents that still have turns in RAM only."""
        self.flush()
        self._save_stuck()
        return {agent.id for agent in self._agents.values() if agent.unsaved}

    def flush(self) -> None:
        """Waits until the writer thread has done all that it was handed."""
        self._writer.flush()
        self.collect()

    def find(self, namespace: str, request_id: str) -> Unsaved | None:
        """The turn that a request made, if it is in RAM only, whatever agent's."""
        self.collect()
        turns = (one for agent in self._agents.values() for one in agent.unsaved)
        return next((o for o in turns if (o.record.namespace, o.record.request_id) == (namespace, request_id)), None)

    def flushed(self) -> Iterator[object]:
        """Waits, as `flush` does, for what the writer thread has been handed by now. Yields meanwhile."""
        yield from until_done([self._writer.hand(0, lambda: None)])

    def arrived(self, ref: AgentRef) -> Iterator[object]:
        """Waits for the agent's turns that are on their way to the disk. Yields meanwhile."""
        agent = self._agents.get(ref)
        yield from until_done(agent.outstanding if agent is not None else [])

    def settle(self, ref: AgentRef | None) -> None:
        """Saves all, of one agent or of any. Raises STORE_UNWRITABLE if the disk does not take it."""
        for agent in [a for a in self._agents.values() if ref in (None, a.ref)]:
            if not self._save(agent):
                raise AgentmemError(
                    Reason.STORE_UNWRITABLE,
                    f"{len(agent.unsaved)} turns of agent {agent.ref.name!r} are in RAM only, and the disk takes "
                    "nothing now: make room on it, and repeat",
                )

    def forget(self, agent: Agent) -> None:
        """Waits for what is on its way, and says what is lost with what RAM holds of the agent."""
        wait(agent.outstanding)
        self._saver.collect(agent)
        self._agents.pop(agent.ref, None)
        if agent.unsaved:
            log.error("%d turns of agent %r are lost: they could not be saved", len(agent.unsaved), agent.ref.name)

    def drop(self, agent: Agent) -> None:
        """Its turns are gone with the agent."""
        self._agents.pop(agent.ref, None)

    def close(self) -> None:
        """Saves what it can, and says whose turns are lost."""
        self.flush()
        self._save_stuck()
        for agent in list(self._agents.values()):
            self.forget(agent)

    def counts(self) -> Outstanding:
        """What the disk does not have yet. Any thread may ask."""
        turns = [one for agent in list(self._agents.values()) for one in agent.waiting]
        stuck = sum(one.record.end - one.record.start for one in turns if one.saving is None)
        oldest = min((one.since for one in turns), default=None)
        return Outstanding(
            turns=len(turns),
            bytes=self._writer.nbytes + stuck * self._bytes_per_token,
            oldest_s=0.0 if oldest is None else time.monotonic() - oldest,
        )

    def of(self, ref: AgentRef) -> int:
        """How many of the agent's turns the disk does not have yet. Any thread may ask."""
        agent = self._agents.get(ref)
        return 0 if agent is None else len(agent.waiting)

    def _save_stuck(self) -> None:
        """The disk takes something again: so it may take what waits in RAM. One agent's failure is its own."""
        for agent in [a for a in self._agents.values() if a.stuck]:
            try:
                self._save(agent)
            except Exception as error:
                log.error("a turn of agent %r cannot be saved: %s", agent.ref.name, type(error).__name__)

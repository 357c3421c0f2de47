"""The agents of one flow, on an engine."""

from __future__ import annotations

import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING

from agentmem.engine.request import (
    ChatInput,
    Durability,
    OnCancel,
    Request,
    Sampling,
    Slice,
    SpliceInput,
    TextInput,
    Thinking,
)
from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.agents import Ask, Member, RoleUsage
from agentmem.primitives.together import Done, Halt, run_together
from agentmem.types import DEFAULT_NAMESPACE, AgentRef, Exactness, Message, Priority

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine

_NAME = re.compile(r"run-[0-9a-f]{32}/")


class Activity(str, Enum):
    READING = "READING"
    THINKING = "THINKING"
    WRITING = "WRITING"


@dataclass(frozen=True)
class Progress:
    """An agent begins something, or has written some more. label: its role, numbered where several have it."""

    role: str
    label: str
    activity: Activity
    text: str = ""


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Given:
    """What the agents of a run are given beside the question.

    agent: the name of one that stays as it is, and whose memory the first agents of a flow begin with. context: a text
    that they read. seed: of sampling.
    """

    namespace: str = DEFAULT_NAMESPACE
    agent: str | None = None
    context: str = ""
    seed: int = 0
    priority: Priority = Priority.NORMAL


class Crew:
    """`Agents` on an engine. Used by one thread, as a context manager: its agents are deleted behind the block."""

    def __init__(
        self, engine: Engine, given: Given, halt: Halt | None = None, on_progress: OnProgress = lambda progress: None
    ) -> None:
        self._engine, self._given, self._halt, self._on_progress = engine, given, halt or Halt(), on_progress
        self._prefix = temporary("")
        self._members: list[Member] = []
        self._numbers: Counter[str] = Counter()
        self._roles: dict[str, RoleUsage] = {}
        self._labels: dict[AgentRef, Exactness] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        failure: Exception | None = None
        for member in reversed(self._members):
            try:
                forget(self._engine, member.ref)
            except Exception as error:  # the others go all the same
                failure = error
        if failure is not None:
            raise failure

    # Agents

    def informed(self, role: str) -> Member:
        """As the protocol says; a context is read by it at once."""
        given = self._given
        if given.agent is None:
            (member,) = self.fresh(role)
        else:
            (member,) = self._fork(AgentRef(given.namespace, given.agent), role, 1)
        if given.context:
            self.append([Ask(member, given.context)])
        return member

    def fresh(self, role: str, count: int = 1) -> list[Member]:
        return [self._member(role, count) for _ in range(count)]

    def fork(self, parent: Member, role: str, count: int = 1) -> list[Member]:
        return self._fork(parent.ref, role, count)

    def append(self, asks: Sequence[Ask]) -> None:
        self._run(asks, Activity.READING, [self._request(ask) for ask in asks])

    def generate(self, asks: Sequence[Ask], sampling: Sampling) -> list[str]:
        seeds = [(self._given.seed + ask.seed) % 2**64 for ask in asks]
        requests = [
            replace(self._request(ask), sampling=replace(sampling, seed=seed))
            for ask, seed in zip(asks, seeds, strict=True)
        ]
        return [done.text for done in self._run(asks, Activity.WRITING, requests)]

    def think(self, asks: Sequence[Ask], steps: int) -> None:
        thinking = Thinking(steps)
        self._run(asks, Activity.THINKING, [replace(self._request(ask), thinking=thinking) for ask in asks])

    def splice(self, target: Member, parts: Sequence[Member]) -> None:
        own = tuple(Slice(part.ref.name, part.start) for part in parts)
        request = replace(self._request(Ask(target, "")), input=SpliceInput(own))
        self._run([Ask(target, "")], Activity.READING, [request])

    def exactness(self, member: Member) -> Exactness:
        return self._labels.get(member.ref, Exactness.EXACT)

    def roles(self) -> list[RoleUsage]:
        return list(self._roles.values())

    # How

    def _member(self, role: str, count: int, start: int = 0) -> Member:
        """Known before it exists, so that it is deleted whatever happens."""
        self._numbers[role] += 1
        number = self._numbers[role]
        label = role if count == 1 and number == 1 else f"{role} {number}"
        member = Member(AgentRef(self._given.namespace, self._prefix + label), role, label, start)
        self._members.append(member)
        return member

    def _fork(self, parent: AgentRef, role: str, count: int) -> list[Member]:
        forks = []
        for _ in range(count):
            self._halt.check()
            member = self._member(role, count)
            view, _ = self._engine.fork_agent(parent, member.ref.name)
            forks.append(replace(member, start=view.tokens))
        return forks

    def _request(self, ask: Ask) -> Request:
        chat = self._engine.has_chat_template
        return Request(
            ask.member.ref,
            ChatInput((Message("user", (ask.text,)),)) if chat else TextInput(f"{ask.text}\n\n"),
            on_cancel=OnCancel.DISCARD,
            create=True,
            durability=Durability.WRITE_BEHIND,
            priority=self._given.priority,
        )

    def _run(self, asks: Sequence[Ask], activity: Activity, requests: Sequence[Request]) -> list[Done]:
        members = [ask.member for ask in asks]
        for member in members:
            self._on_progress(Progress(member.role, member.label, activity))

        def on_text(index: int, text: str) -> None:
            self._on_progress(Progress(members[index].role, members[index].label, activity, text))

        began = time.monotonic()
        done = run_together(self._engine, requests, self._halt, on_text)
        for member, one in zip(members, done, strict=True):
            usage = self._usage(member.role)
            usage.add(one.finished.usage)
            usage.agents += member.ref not in self._labels
            self._labels[member.ref] = one.finished.usage.exactness
        for role in {member.role for member in members}:
            self._usage(role).seconds += time.monotonic() - began
        return done

    def _usage(self, role: str) -> RoleUsage:
        return self._roles.setdefault(role, RoleUsage(role))


def temporary(label: str) -> str:
    """A new name for an agent of a run."""
    return f"run-{secrets.token_hex(16)}/{label}"


def forget(engine: Engine, ref: AgentRef) -> None:
    """Deletes an agent of a run, if it exists. One that cannot be deleted now goes with `sweep`."""
    try:
        engine.delete_agent(ref)
    except AgentmemError as error:
        if error.reason not in (Reason.AGENT_NOT_FOUND, Reason.SHUTTING_DOWN, Reason.STORE_UNWRITABLE):
            raise


def sweep(engine: Engine) -> None:
    """Deletes agents of runs that a crash cut short. While no run is under way."""
    for namespace in engine.list_namespaces():
        after = "run-"
        while views := engine.list_agents(namespace.name, after=after):
            for view in views:
                if _NAME.match(view.ref.name):
                    forget(engine, view.ref)
            after = views[-1].ref.name
            if not after.startswith("run-"):
                break

"""Load on a daemon, and a plain model of what must be remembered of it, whenever the daemon is killed.

One worker has one namespace to itself and sends one call at a time. A call that was answered has happened; one that
was not may have happened or not, as a whole: `Call.doubt` lists what may be there then.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

from agentmem_client import Agent, Cancelled, Client, DataLoss, DeadlineExceeded, Slice, Unavailable

Ids = tuple[int, ...]
LATENT = -1
"""In place of the id of a latent position, which only the daemon knows."""
PROMPT: Ids = tuple(5 + (i * 7 + i // 3) % 400 for i in range(700))
"""What all agents begin with parts of, so that they share blocks."""
LONG = 900


@dataclass(frozen=True)
class Mind:
    """An agent as it must be. turns: the ids of each listed turn's timeline, by number."""

    turns: dict[int, Ids] = field(default_factory=dict)
    pinned: bool = False
    private: bool = False

    @property
    def last(self) -> int:
        return max(self.turns, default=0)

    @property
    def ids(self) -> Ids:
        return self.turns.get(self.last, ())

    def then(self, ids: Ids) -> Mind:
        return replace(self, turns={**self.turns, self.last + 1: ids})


World = dict[str, Mind]
"""The agents of a namespace, by name."""


@dataclass(frozen=True)
class Call:
    """Something a client asks for. It can be sent again; then it has happened once.

    done: what is there once it was answered. doubt: what else than nothing may have happened if it was not; it is
    shown what is there, which tells what was generated.
    """

    what: str
    send: Callable[[Client], Any]
    done: Callable[[Any], World]
    doubt: Callable[[World], list[World]]


class Worker:
    """seed: decides what it does. folder: for exports."""

    def __init__(self, namespace: str, seed: int, folder: Path) -> None:
        self.namespace, self._rng, self._folder = namespace, random.Random(seed), folder
        self.world: World = {}
        self.pending: Call | None = None
        self.answered = 0
        self.kinds: set[str] = set()
        """What was asked for and answered."""

    def work(self, client: Client, stop: Event) -> None:
        """Calls until told to stop, or until the daemon answers no more."""
        while not stop.is_set():
            self.pending = call = self._choose()
            try:
                answer = call.send(client)
            except (Unavailable, Cancelled, DeadlineExceeded):
                return
            except DataLoss:
                assert call.what in _NOT_OF_COLD
            else:
                self.world = call.done(answer)
                self.kinds.add(call.what)
            self.answered += 1
            self.pending = None

    def settle(self, client: Client, look: Callable[[], World]) -> None:
        """After a crash: what is there must be what was, or that and the call that was not answered."""
        call, self.pending = self.pending, None
        found = look()
        if call is None:
            assert found == self.world, f"{self.namespace}: nothing was under way; {_apart(found, [self.world])}"
            return
        allowed = [self.world, *call.doubt(found)]
        assert found in allowed, f"{self.namespace}: {call.what}; {_apart(found, allowed)}"
        self.world = found
        if call.what in _REPEATED and self._rng.random() < 0.7:
            try:
                self.world = call.done(call.send(client))
            except DataLoss:
                assert call.what in _NOT_OF_COLD
            assert look() == self.world, f"{self.namespace}: {call.what}, sent again"

    def _choose(self) -> Call:
        rng, world = self._rng, self.world
        free = [name for name in ("a", "b", "c", "d") if name not in world]
        if not world:
            return self._create(free[0])
        name = rng.choice(sorted(world))
        if len(world[name].ids) > LONG:
            return self._delete(name)
        calls = {
            self._append: 3, self._generate: 5, self._think: 3, self._splice: 3, self._rewind: 2, self._evict: 2,
            self._prefetch: 1, self._pin: 1, self._share: 1, self._prune_history: 1, self._prune_orphans: 1,
            self._prune_old: 1, self._delete: 1,
        }  # fmt: skip
        if free and rng.random() < 0.4:
            return rng.choice((self._create, self._fork, self._fork, self._take_in))(free[0])
        return rng.choices(list(calls), list(calls.values()))[0](name)

    # Each makes a call about the agent `name`.

    def _with(self, name: str, mind: Mind) -> World:
        return {**self.world, name: mind}

    def _without(self, *names: str) -> World:
        return {name: mind for name, mind in self.world.items() if name not in names}

    def _simple(self, what: str, send: Callable[[Agent], Any], name: str, after: World) -> Call:
        return Call(what, lambda client: send(client.agent(name, self.namespace)), lambda _: after, lambda _: [after])

    def _request_id(self) -> str:
        return self._rng.randbytes(16).hex()

    def _input(self, mind: Mind) -> Ids:
        if not mind.ids:
            return PROMPT[: self._rng.choice((3, 255, 256, 257, 600))]
        return tuple(self._rng.randrange(5, 400) for _ in range(self._rng.choice((1, 2, 30, 260))))

    def _append(self, name: str) -> Call:
        mind, ids, request = self.world[name], self._input(self.world[name]), self._request_id()

        def send(agent: Agent) -> None:
            assert agent.append(token_ids=ids, request_id=request).durable

        return self._simple("append", send, name, self._with(name, mind.then(mind.ids + ids)))

    def _generate(self, name: str) -> Call:
        mind = self.world.get(name, Mind())
        ids, most, request = mind.ids + self._input(mind), self._rng.randint(1, 6), self._request_id()
        asked = ids[len(mind.ids) :]

        def send(client: Client) -> Ids:
            agent = client.agent(name, self.namespace)
            reply = agent.generate(token_ids=asked, max_tokens=most, include_token_ids=True, request_id=request)
            assert reply.durable
            return reply.token_ids

        def doubt(found: World) -> list[World]:
            there = found.get(name, Mind()).turns.get(mind.last + 1, ())
            said = there[len(ids) :]
            sound = there[: len(ids)] == ids and 1 <= len(said) <= most
            begun = [] if name in self.world else [self._with(name, mind)]  # made, but nothing said yet
            return [*begun, *([self._with(name, mind.then(there))] if sound else [])]

        return Call("generate", send, lambda said: self._with(name, mind.then((*ids, *said))), doubt)

    def _think(self, name: str) -> Call:
        mind, steps, request = self.world[name], self._rng.choice((1, 3, 40)), self._request_id()
        asked = self._input(mind)

        def send(agent: Agent) -> None:
            thought = agent.think(steps, token_ids=asked, request_id=request)
            assert (thought.durable, thought.usage.latent_steps) == (True, steps)

        after = self._with(name, mind.then((*mind.ids, *asked, *(LATENT,) * steps)))
        return self._simple("think", send, name, after)

    def _splice(self, name: str) -> Call:
        """Parts of one or two agents that the agent may have."""
        mind, rng, request = self.world[name], self._rng, self._request_id()
        able = sorted(n for n, one in self.world.items() if one.ids and (mind.private or not one.private))
        if not able:
            return self._append(name)
        parts, ids = [], mind.ids
        for source in rng.choices(able, k=rng.randint(1, 2)):
            length = len(self.world[source].ids)
            start = rng.choice((0, 0, rng.randrange(length)))
            end = rng.choice((length, rng.randrange(start, length) + 1))
            parts.append(Slice(source, start, end))
            ids += self.world[source].ids[start:end]
        how: Any = rng.choice(({"reposition": "exact"}, {}, {}, {"reposition": "blend", "check_layer": 0}))

        def send(agent: Agent) -> None:
            assert agent.splice(parts, request_id=request, **how).durable

        return self._simple("splice", send, name, self._with(name, mind.then(ids)))

    def _create(self, name: str) -> Call:
        if self._rng.random() < 0.5:
            return self._generate(name)
        request, private, pinned = self._request_id(), self._rng.random() < 0.5, self._rng.random() < 0.3

        def send(agent: Agent) -> None:
            agent.create(share="private" if private else "namespace", pinned=pinned, request_id=request)

        return self._simple("create", send, name, self._with(name, Mind(private=private, pinned=pinned)))

    def _fork(self, name: str) -> Call:
        source = self._rng.choice(sorted(self.world))
        mind, request = self.world[source], self._request_id()
        at = self._rng.choice(sorted({0, *mind.turns}))
        new = Mind({1: mind.turns.get(at, ())}, private=mind.private)
        return self._simple(
            "fork", lambda agent: agent.fork(name, at_turn=at, request_id=request), source, self._with(name, new)
        )

    def _rewind(self, name: str) -> Call:
        mind, request = self.world[name], self._request_id()
        to = self._rng.choice(sorted({0, *mind.turns}))
        after = self._with(name, mind.then(mind.turns.get(to, ())))
        return self._simple("rewind", lambda agent: agent.rewind(to, request_id=request), name, after)

    def _take_in(self, name: str) -> Call:
        """Exports some agent, and imports it under another name."""
        source, request = self._rng.choice(sorted(self.world)), self._request_id()
        file = self._folder / f"{self.namespace}.agentmem"
        after = self._with(name, Mind({1: self.world[source].ids}, private=True))

        def send(client: Client) -> None:
            client.agent(source, self.namespace).export(file)
            client.import_agent(file, name, self.namespace, request_id=request)

        return Call("export", send, lambda _: after, lambda _: [after])

    def _evict(self, name: str) -> Call:
        to = self._rng.choice(("warm", "cold"))
        return self._simple(f"evict to {to}", lambda agent: agent.evict(to), name, self.world)  # type: ignore[arg-type]

    def _prefetch(self, name: str) -> Call:
        return self._simple("prefetch", lambda agent: agent.prefetch(), name, self.world)

    def _pin(self, name: str) -> Call:
        mind = self.world[name]
        pinned = not mind.pinned
        after = self._with(name, replace(mind, pinned=pinned))
        return self._simple("pin", lambda agent: agent.update(pinned=pinned), name, after)

    def _share(self, name: str) -> Call:
        mind = self.world[name]
        after = self._with(name, replace(mind, private=not mind.private))
        share: Any = "namespace" if mind.private else "private"
        return self._simple("share", lambda agent: agent.update(share=share), name, after)

    def _delete(self, name: str) -> Call:
        request = self._request_id()
        return self._simple("delete", lambda agent: agent.delete(request_id=request), name, self._without(name))

    def _prune_history(self, name: str) -> Call:
        mind = self.world[name]
        goes = not mind.pinned and len(mind.turns) > 1
        after = self._with(name, replace(mind, turns={mind.last + 1: mind.ids})) if goes else self.world
        return Call(
            "prune history",
            lambda client: client.prune(self.namespace, history_of=name),
            lambda _: after,
            lambda _: [after],
        )

    def _prune_orphans(self, _: str) -> Call:
        return Call("prune", lambda client: client.prune(self.namespace), lambda _: self.world, lambda _: [self.world])

    def _prune_old(self, _: str) -> Call:
        after = self._without(*(name for name, mind in self.world.items() if not mind.pinned))
        return Call(
            "prune agents",
            lambda client: client.prune(self.namespace, older_than=0),
            lambda _: after,
            lambda _: [after],
        )


_NOT_OF_COLD = ("fork", "rewind", "export")
"""Refused where they would have to cut up a block that was given up; nothing has changed then."""
_REPEATED = {"append", "generate", "think", "splice", "create", "fork", "rewind", "delete"}
"""Calls that a request id makes safe to send again."""
EVERYTHING = {
    "append", "generate", "think", "splice", "create", "fork", "rewind", "export", "evict to warm", "evict to cold",
    "prefetch", "pin", "share", "delete", "prune history", "prune", "prune agents",
}  # fmt: skip


def _apart(found: World, allowed: list[World]) -> str:
    """What is there and what may be, in short."""

    def short(mind: Mind) -> object:
        turns = {number: (len(ids), hash(ids) % 1000) for number, ids in mind.turns.items()}
        return turns, mind.pinned, mind.private

    shown = [{name: short(mind) for name, mind in world.items()} for world in (found, *allowed)]
    return f"found {shown[0]}, allowed {shown[1:]}"

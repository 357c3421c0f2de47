"""What goes wrong for one request in a batch is its own: all others say what they would have alone (invariant 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agentmem.engine import lane as lane_module
from agentmem.engine import sampling as sampling_module
from agentmem.engine import turn as turn_module
from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.reply import Reply
from agentmem.engine.request import Failed, Finished, OnCancel, Request, Sampling, TokenInput
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef, FinishReason
from tests.engine.runs import recorded, run, said
from tests.engine.test_room import Asked
from tests.helpers.checkpoints import Spec, write

pytestmark = pytest.mark.reference

PROMPTS = {
    name: tuple(5 + (i * (7 + n) + i // 3) % 400 for i in range(length))
    for n, (name, length) in enumerate({"victim": 270, "b": 40, "c": 300, "d": 530}.items())
}
EARLIER = (11, 12, 13)
VICTIM = "victim"
SAMPLINGS = {
    "victim": Sampling(max_tokens=12, temperature=1.0, seed=666),
    "b": Sampling(max_tokens=25),
    "c": Sampling(max_tokens=25, temperature=1.0, seed=2),
    "d": Sampling(max_tokens=5, temperature=0.8, top_p=0.9, seed=3),
}


def ref(name: str) -> AgentRef:
    return AgentRef("default", name)


def asks(name: str, **changes: Any) -> Request:
    return replace(Request(ref(name), TokenInput(PROMPTS[name]), SAMPLINGS[name]), **changes)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ck"), Spec(heads=2, kv_heads=2, width=128, context=1024))


@dataclass
class Alone:
    """What each says first, and to one more token then, in an engine that does one request at a time."""

    first: dict[str, list[int]]
    then: dict[str, list[int]]
    without: dict[str, list[int]]
    """Then, if there was no first."""


@pytest.fixture(scope="module")
def alone(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    engine = Engine.open(EngineSettings(tmp_path_factory.mktemp("solo") / "state", str(checkpoint), max_batch=1))
    begin(engine)
    without = {}
    for name in PROMPTS:
        without[name] = go_on(engine, name)
        engine.rewind_agent(ref(name), 1)
    first = {name: said(run(engine, asks(name))) for name in PROMPTS}
    then = {name: go_on(engine, name) for name in PROMPTS}
    engine.close()
    return Alone(first, then, without)


def begin(engine: Engine) -> None:
    for name in PROMPTS:
        run(engine, Request(ref(name), TokenInput(EARLIER), None, create=True))


def go_on(engine: Engine, name: str) -> list[int]:
    return said(run(engine, Request(ref(name), TokenInput((9,)), Sampling(max_tokens=3))))


@pytest.fixture(params=[True, pytest.param(False, marks=pytest.mark.slow)], ids=["", "not_ahead"])
def engine(checkpoint: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint), ahead=request.param))
    begin(engine)
    yield engine
    engine.close(deadline_s=0)


def all_at_once(
    engine: Engine, at: dict[str, dict[int, Callable[[], None]]] | None = None, **victim: Any
) -> dict[str, Asked]:
    """All four at once. at: what is done with events of a name. victim: what its request is like."""
    at, asked = at or {}, {}

    def submit() -> None:
        for name in PROMPTS:
            asked[name] = Asked(engine, asks(name, **(victim if name == VICTIM else {})), at.get(name))

    engine._briefly(ref("nobody"), submit)  # on the executor thread, so that all begin in one step
    return asked


def others_are_as_alone(engine: Engine, asked: dict[str, Asked], alone: Alone) -> None:
    for name in PROMPTS:
        if name != VICTIM:
            assert said(asked[name].end()) == alone.first[name]
            assert go_on(engine, name) == alone.then[name]
    assert engine.verify().problems == ()


def goes_on_from_its_last_turn(engine: Engine, alone: Alone, *names: str) -> None:
    for name in names:
        assert engine.get_agent(ref(name)).turn == 1
        assert go_on(engine, name) == alone.without[name]
        engine.evict_agent(ref(name))
        assert go_on(engine, name)


def failed_with(asked: Asked, reason: Reason) -> None:
    end = asked.end()[-1]
    assert isinstance(end, Failed)
    assert end.error.reason is reason


@pytest.mark.parametrize("position", [273, 275, 284])
def test_sampling(engine: Engine, alone: Alone, position: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first token, soon, and at the last."""
    real = sampling_module.sample

    def sample(logits: Any, at: int, sampling: Sampling, seed: int) -> Any:
        if seed == 666 and at == position:
            raise ValueError("MARKER")
        return real(logits, at, sampling, seed)

    monkeypatch.setattr(sampling_module, "sample", sample)
    asked = all_at_once(engine)
    failed_with(asked[VICTIM], Reason.INTERNAL)
    others_are_as_alone(engine, asked, alone)
    monkeypatch.undo()
    goes_on_from_its_last_turn(engine, alone, VICTIM)


def test_sampling_behind_the_end(engine: Engine, alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would have been the token behind the last one cannot be sampled: nobody wants it."""
    real, length = sampling_module.sample, len(alone.first[VICTIM])

    def sample(logits: Any, at: int, sampling: Sampling, seed: int) -> Any:
        if seed == 666 and at == 273 + length:
            raise ValueError("MARKER")
        return real(logits, at, sampling, seed)

    monkeypatch.setattr(sampling_module, "sample", sample)
    asked = all_at_once(engine)
    assert said(asked[VICTIM].end()) == alone.first[VICTIM]
    others_are_as_alone(engine, asked, alone)
    assert go_on(engine, VICTIM) == alone.then[VICTIM]


def test_detokenizer(engine: Engine, alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Reply.add, [0]

    def add(self: Reply, token: int) -> str:
        if self._stops._stops == ("\x00",):
            calls[0] += 1
            if calls[0] == 4:
                raise UnicodeError("MARKER")
        return real(self, token)

    monkeypatch.setattr(Reply, "add", add)
    asked = all_at_once(engine, sampling=replace(SAMPLINGS[VICTIM], stop=("\x00",)))
    failed_with(asked[VICTIM], Reason.INTERNAL)
    others_are_as_alone(engine, asked, alone)
    goes_on_from_its_last_turn(engine, alone, VICTIM)


@pytest.mark.parametrize("on_cancel", list(OnCancel))
def test_sink(engine: Engine, alone: Alone, on_cancel: OnCancel) -> None:
    def broken() -> None:
        raise RuntimeError("MARKER")

    asked = all_at_once(engine, {VICTIM: {4: broken}}, on_cancel=on_cancel)
    others_are_as_alone(engine, asked, alone)
    if on_cancel is OnCancel.DISCARD:
        failed_with(asked[VICTIM], Reason.REQUEST_CANCELLED)
        goes_on_from_its_last_turn(engine, alone, VICTIM)
    else:
        reply = said(asked[VICTIM].end())
        assert reply == alone.first[VICTIM][: len(reply)]
        assert len(reply) <= 4
        assert recorded(engine, ref(VICTIM)) == [*EARLIER, *PROMPTS[VICTIM], *reply]


@pytest.mark.parametrize(
    "reason", [None, Reason.STORE_UNREADABLE, Reason.STORE_UNWRITABLE], ids=["bug", "unreadable", "full"]
)
def test_commit(engine: Engine, alone: Alone, reason: Reason | None, monkeypatch: pytest.MonkeyPatch) -> None:
    store = engine._context.store
    real = store.commit

    def commit(record: Any, blocks: Any) -> int:
        if record.agent_name == VICTIM:
            raise RuntimeError("MARKER") if reason is None else AgentmemError(reason, "no")
        return real(record, blocks)

    monkeypatch.setattr(store, "commit", commit)
    asked = all_at_once(engine)
    end = asked[VICTIM].end()[-1]
    if reason is Reason.STORE_UNWRITABLE:
        assert isinstance(end, Finished)
        assert not end.durable
        monkeypatch.undo()
        assert go_on(engine, VICTIM) == alone.then[VICTIM]
    else:
        failed_with(asked[VICTIM], reason or Reason.INTERNAL)
        monkeypatch.undo()
        goes_on_from_its_last_turn(engine, alone, VICTIM)
    others_are_as_alone(engine, asked, alone)


@pytest.mark.parametrize("which", ["ram", "disk"])
def test_out_of_budget_in_the_middle(engine: Engine, alone: Alone, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open reply ends where there is no room for more, and is kept; others that said how much they want go on."""
    monkeypatch.setattr(turn_module, "RESERVE", 5)
    memory = engine._context.memory

    def full() -> None:
        monkeypatch.setattr(turn_module, "RESERVE", 300)
        if which == "ram":
            memory._budget.limit = memory._budget._most_bytes(278)
        else:
            memory.disk.limit = 0

    asked = all_at_once(engine, {VICTIM: {3: full}}, sampling=replace(SAMPLINGS[VICTIM], max_tokens=None))
    end = asked[VICTIM].end()[-1]
    assert isinstance(end, Finished)
    assert end.finish_reason is FinishReason.LENGTH
    reply = said(asked[VICTIM].events)
    assert reply == alone.first[VICTIM][: len(reply)]
    assert len(reply) == 5
    for name in PROMPTS:
        asked[name].end()
    memory._budget.limit = memory.disk.limit = 1 << 40
    others_are_as_alone(engine, asked, alone)
    assert recorded(engine, ref(VICTIM)) == [*EARLIER, *PROMPTS[VICTIM], *reply]
    assert go_on(engine, VICTIM)


def test_a_step_of_the_batch(engine: Engine, alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that are in it fail, since their states are in doubt; who is not goes on."""
    real, broken = lane_module.decode, [0]

    def decode(model: Any, states: Any, tokens: Any) -> Any:
        if len(states) == 3 and not broken[0]:
            broken[0] += 1
            raise RuntimeError("MARKER")
        return real(model, states, tokens)

    monkeypatch.setattr(lane_module, "decode", decode)
    late: list[Asked] = []
    hurt = (VICTIM, "b", "c")
    asked = {
        n: Asked(engine, asks(n), {2: lambda: late.append(Asked(engine, asks("d")))} if n == "c" else None)
        for n in hurt
    }
    for one in asked.values():
        failed_with(one, Reason.INTERNAL)
    assert said(late[0].end()) == alone.first["d"]
    assert go_on(engine, "d") == alone.then["d"]
    goes_on_from_its_last_turn(engine, alone, *hurt)
    assert engine.verify().problems == ()


def test_a_block_that_cannot_be_read(engine: Engine, alone: Alone, tmp_path: Path) -> None:
    """It is computed again while others go on, and the reply is what it would have been."""
    run(engine, asks(VICTIM))
    engine.evict_agent(ref(VICTIM))
    first = engine.get_agent(ref(VICTIM)).blocks[0].key
    file = next((tmp_path / "state").glob(f"blocks/**/{first}.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    asked = {n: Asked(engine, asks(n)) for n in PROMPTS if n != VICTIM}
    victim = Asked(engine, Request(ref(VICTIM), TokenInput((9,)), Sampling(max_tokens=3)))
    assert said(victim.end()) == alone.then[VICTIM]
    end = victim.events[-1]
    assert isinstance(end, Finished)
    assert end.usage.recomputed_tokens
    others_are_as_alone(engine, asked, alone)


def test_records_that_cannot_be_read(engine: Engine, alone: Alone, tmp_path: Path) -> None:
    engine._context.memory.forget(ref(VICTIM))
    identity = engine.get_agent(ref(VICTIM)).id
    for file in (tmp_path / "state" / "turns" / identity).glob("*.json"):
        file.write_bytes(b"{}")
    asked = all_at_once(engine)
    failed_with(asked[VICTIM], Reason.BLOCK_UNRECOVERABLE)
    for name in PROMPTS:
        if name != VICTIM:
            assert said(asked[name].end()) == alone.first[name]


def test_there_is_a_reply_to_fail_in(alone: Alone) -> None:
    """The tests above stop replies in the middle."""
    assert len(alone.first[VICTIM]) > 11
    assert all(len(reply) > 4 for reply in alone.first.values())

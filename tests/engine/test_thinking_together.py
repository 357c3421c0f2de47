"""Agents that think while others do, or while others want what they have."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agentmem.engine import turn as turn_module
from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.lane import DecodeBatch
from agentmem.engine.request import Event, Failed, Finished, OnCancel, Request
from agentmem.engine.thinking import ThinkBatch
from agentmem.errors import Reason
from agentmem.latent.pieces import Pieces
from agentmem.memory.memory import Memory
from agentmem.model.forward import CHUNK
from agentmem.types import AgentRef, FinishReason, Projection
from tests.engine.runs import PROMPT, SPEC, A, B, cold, finished, recorded, request, run, said
from tests.engine.thoughts import held, prefilled, think, thinks, thought
from tests.helpers.checkpoints import VOCAB, write

pytestmark = pytest.mark.reference


class Watch:
    """What happens in the executor's steps. on_step: called after each latent step, with the number of it."""

    def __init__(self) -> None:
        self.happened: list[tuple[str, int]] = []
        self.on_step: Callable[[int], object] = lambda number: None

    @property
    def steps(self) -> list[int]:
        """How many agents took each latent step."""
        return [size for what, size in self.happened if what == "think"]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch, step, feed = Watch(), ThinkBatch.step, turn_module.feed

    def thinks_(self: ThinkBatch, thinkers: Any) -> Any:
        done = step(self, thinkers)
        watch.happened.append(("think", len(thinkers)))
        watch.on_step(len(watch.steps))
        return done

    def feeds(model: Any, state: Any, chunk: Any) -> None:
        watch.happened.append(("feed", len(chunk)))
        feed(model, state, chunk)

    monkeypatch.setattr(ThinkBatch, "step", thinks_)
    monkeypatch.setattr(turn_module, "feed", feeds)
    return watch


@contextmanager
def at_once(engine: Engine) -> Iterator[None]:
    """What is submitted inside begins in the same step."""
    held_up, release = threading.Event(), threading.Event()

    def wait() -> None:
        held_up.set()
        release.wait(60)

    thread = threading.Thread(target=lambda: engine._briefly(AgentRef("default", "nobody"), wait))
    thread.start()
    held_up.wait(60)
    yield
    release.set()
    thread.join()


class Asked:
    """A request that was submitted."""

    def __init__(self, engine: Engine, what: Request) -> None:
        self.events: list[Event] = []
        self._end = threading.Event()
        self.ticket = engine.submit(what, self._sink)

    def _sink(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Finished | Failed):
            self._end.set()

    def end(self) -> list[Event]:
        assert self._end.wait(60)
        return self.events


def test_others_go_on_while_what_a_first_thought_needs_is_made(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few rows of the vocabulary at a time."""
    untied = write(tmp_path / "untied", replace(SPEC, tied=False))
    engine = Engine.open(EngineSettings(tmp_path / "state", str(untied)))
    asked: list[Asked] = []
    happened, go_on, step = watch.happened, Pieces._go_on, DecodeBatch.step

    def makes(self: Pieces[Any]) -> None:
        happened.append(("make", 1))
        go_on(self)

    def decodes(self: DecodeBatch, lanes: Any) -> Any:
        happened.append(("decode", len(lanes)))
        if len(happened) == 3:
            asked.append(Asked(engine, thinks(3, 7)))
        return step(self, lanes)

    with monkeypatch.context() as patch:
        patch.setattr("agentmem.latent.space.ROWS", 64)
        patch.setattr(Pieces, "_go_on", makes)
        patch.setattr(DecodeBatch, "step", decodes)
        assert len(said(run(engine, request(*PROMPT[:20], tokens=60, agent=B)))) == 60
        assert isinstance(asked[0].end()[-1], Finished)
    engine.close()
    kinds = [what for what, _ in happened]
    assert kinds.count("make") > 2 * VOCAB // 64
    assert ("make", "make") not in pairwise(kinds)  # a decode step is between any two
    assert "make" not in kinds[kinds.index("think") :]


def test_a_batch_thinks_as_each_alone(engine: Engine, watch: Watch) -> None:
    """Other lengths, projections and numbers of steps, beside one that speaks: they join and leave between steps."""
    plans = [(n, 100 + 70 * n, 6 + 3 * n, list(Projection)[n % 3]) for n in range(4)]
    with at_once(engine):
        asked = [
            Asked(engine, thinks(steps, *PROMPT[n:length], agent=AgentRef("default", f"t{n}"), projection=projection))
            for n, length, steps, projection in plans
        ]
        speaks = Asked(engine, request(*PROMPT[300:420], tokens=12))
    for one in asked:
        assert finished(one.end()).finish_reason is None
    assert said(speaks.end()) == cold(engine, PROMPT[300:420], tokens=12)
    assert max(watch.steps) == 4
    assert len(watch.steps) < sum(steps for _, _, steps, _ in plans)
    for n, length, steps, projection in plans:
        think(engine, AgentRef("default", "alone"), steps, *PROMPT[n:length], projection=projection)
        alone, together = AgentRef("default", "alone"), AgentRef("default", f"t{n}")
        assert held(engine, together) == held(engine, alone)
        assert thought(engine, together).tobytes() == thought(engine, alone).tobytes()
        engine.delete_agent(alone)


def test_a_long_prompt_does_not_stop_who_thinks(engine: Engine, watch: Watch) -> None:
    asked: list[Asked] = []

    def come(number: int) -> None:
        if number == 3:
            asked.append(Asked(engine, request(*(PROMPT * 3)[:2000], agent=B, tokens=None)))

    watch.on_step = come
    think(engine, A, 40, *PROMPT[:20])
    asked[0].end()
    gaps, gap = [], 0
    for what, size in watch.happened:
        gap = 0 if what == "think" else gap + size
        gaps.append(gap)
    assert max(gaps[gaps.index(0) :]) <= CHUNK
    thinking = [at for at, (what, _) in enumerate(watch.happened) if what == "think"]
    assert any(what == "feed" for what, _ in watch.happened[thinking[0] : thinking[-1]])


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("on_cancel", list(OnCancel))
def test_cancelled_while_it_thinks(engine: Engine, watch: Watch, on_cancel: OnCancel, after: int) -> None:
    run(engine, request(*PROMPT[:250], tokens=None))
    before = held(engine)
    watch.on_step = lambda number: number == after and one.ticket.cancel()
    with at_once(engine):
        one = Asked(engine, thinks(40, on_cancel=on_cancel))
        if not after:
            one.ticket.cancel()
    last = one.end()[-1]
    if after and on_cancel is OnCancel.COMMIT:
        assert isinstance(last, Finished)
        assert (last.finish_reason, last.usage.latent_steps) == (FinishReason.CANCELLED, 3)
        assert engine.get_agent(A).tokens == 253
        assert held(engine) == prefilled(engine)
    else:
        assert isinstance(last, Failed)
        assert last.error.reason is Reason.REQUEST_CANCELLED
        assert held(engine) == before
        agent = engine._context.memory.find(A)
        assert agent is not None
        assert not agent.latents
    assert engine.verify().problems == ()


@pytest.mark.parametrize("lose", [False, True], ids=["kept", "lost"])
def test_set_aside_while_it_thinks(
    engine: Engine, watch: Watch, state: Path, monkeypatch: pytest.MonkeyPatch, lose: bool
) -> None:
    """Also with what it had on disk lost meanwhile: it is computed again from what was thought so far."""
    bring_back = Memory.bring_back

    def lost(self: Memory, agent: Any, draft: Any, aside: Any) -> Any:
        for key in draft.ahead if lose else ():
            (file,) = state.glob(f"**/{key.hex()}.safetensors")
            file.unlink()
        return bring_back(self, agent, draft, aside)

    monkeypatch.setattr(Memory, "bring_back", lost)
    watch.on_step = lambda number: number in (4, 12) and one.ticket._run.step_aside()
    with at_once(engine):
        one = Asked(engine, thinks(20, *PROMPT[:250], projection=Projection.SOFTMAX))
    done = finished(one.end())
    assert engine._context.counters.set_aside == 2
    assert (done.usage.latent_steps, bool(done.usage.recomputed_tokens)) == (20, lose)
    watch.on_step = lambda number: None
    think(engine, B, 20, *PROMPT[:250], projection=Projection.SOFTMAX)
    assert held(engine) == held(engine, B) == prefilled(engine)
    assert recorded(engine) == recorded(engine, B)
    assert engine.verify().problems == ()


def test_what_was_thought_is_kept_if_it_is_cancelled_while_set_aside(
    engine: Engine, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_aside = Memory.set_aside

    def cancelled(self: Memory, agent: Any, draft: Any) -> Any:
        aside = yield from set_aside(self, agent, draft)
        one.ticket.cancel()
        return aside

    monkeypatch.setattr(Memory, "set_aside", cancelled)
    watch.on_step = lambda number: number == 10 and one.ticket._run.step_aside()
    with at_once(engine):
        one = Asked(engine, thinks(20, *PROMPT[:250]))
    done = finished(one.end())
    assert (done.finish_reason, 10 <= done.usage.latent_steps < 20) == (FinishReason.CANCELLED, True)
    assert held(engine) == prefilled(engine)

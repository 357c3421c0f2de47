"""Random work on agents of a real model, against a plain model of their timelines: content, bytes and files.

What is generated must be what an agent that shares nothing says to the same ids, computed in one go elsewhere. RAM is
counted by looking for arrays in all that agents hold, not by asking the pool.
"""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Request, Sampling, TokenInput
from agentmem.kv.span import Span
from agentmem.kv.state import AgentState
from agentmem.store.catalog import blocks as block_rows
from agentmem.types import AgentRef, Residency, Share, Usage
from tests.engine.runs import finished, run, said
from tests.helpers.checkpoints import KINDS, Spec, write

Ids = tuple[int, ...]
CHECKPOINTS = [replace(spec, heads=2, kv_heads=2, width=128) for spec in KINDS]
"""One for each kind of layers: all that is said here holds for every one."""
NAMES = ("a", "b", "c", "d")
PROMPT: Ids = tuple(5 + (i * 7 + i // 3) % 400 for i in range(600))
NEW_TOKENS = 3

FIRST = st.sampled_from((1, 17, 255, 256, 257, 300, 512, 540)).map(lambda length: PROMPT[:length])
MORE = st.one_of(
    st.lists(st.integers(5, 500), min_size=1, max_size=4).map(tuple),
    st.sampled_from((2, 30, 200, 256)).map(lambda length: PROMPT[-length:]),
)


@dataclass
class Mind:
    """An agent as it must be. turns: the ids of each listed turn's timeline."""

    turns: dict[int, Ids] = field(default_factory=lambda: {0: ()})
    private: bool = False
    given_up: bool = False
    """Whether blocks of its last timeline may have no file."""
    gaps: bool = False
    """Whether blocks of any turn's may: computing the last ones again brings not back those of turns before."""

    @property
    def last(self) -> int:
        return max(self.turns)

    @property
    def ids(self) -> Ids:
        return self.turns[self.last]

    def add(self, ids: Ids) -> None:
        self.turns[self.last + 1] = ids


class Oracle:
    """Says what a model says to ids, without any memory."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self._engine = Engine.open(EngineSettings(folder, str(checkpoint)))
        self._said: dict[Ids, list[int]] = {}

    def __call__(self, ids: Ids) -> list[int]:
        if ids not in self._said:
            ref = AgentRef("default", "cold")
            self._said[ids] = said(run(self._engine, _request(ref, ids, Sampling(max_tokens=NEW_TOKENS))))
            self._engine.delete_agent(ref)
        return self._said[ids]

    def close(self) -> None:
        self._engine.close()


def _request(ref: AgentRef, ids: Ids, sampling: Sampling | None) -> Request:
    return Request(ref, TokenInput(ids), sampling, create=True)


class Timelines(RuleBasedStateMachine):
    checkpoint: Path
    oracle: Oracle

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="agentmem-"))
        self.engine = self._open()
        self.minds: dict[str, Mind] = {}
        self.changed: set[str] = set()
        self.restarted = 0
        self.calls = 0

    def _open(self) -> Engine:
        engine = Engine.open(EngineSettings(self.folder / "state", str(self.checkpoint)))
        gc.collect()
        self.unused = mx.get_active_memory()
        return engine

    def teardown(self) -> None:
        for name in list(self.minds):
            self.engine.evict_agent(_ref(name))
        self.check()
        assert self.engine.stats().hot_bytes == 0
        memory = self.engine._context.memory
        assert (memory.pool._spans, memory.pool._tails, memory.pool._states) == ({}, {}, {})
        del memory
        self.check_freed()
        for name in list(self.minds):
            self.engine.delete_agent(_ref(name))
        assert self.files() == {}
        self.engine.close()
        shutil.rmtree(self.folder)

    def someone(self, data: st.DataObject, cold: bool = True) -> str:
        names = sorted(name for name, mind in self.minds.items() if cold or not mind.given_up)
        return data.draw(st.sampled_from(names), "agent")

    def free(self) -> str:
        return next(name for name in NAMES if name not in self.minds)

    # Turns

    @initialize(ids=FIRST)
    def begin(self, ids: Ids) -> None:
        self.create(ids, private=False)

    @precondition(lambda self: len(self.minds) < len(NAMES))
    @rule(ids=FIRST, private=st.booleans())
    def create(self, ids: Ids, private: bool) -> None:
        name = self.free()
        self.engine.create_agent(_ref(name), share=Share.PRIVATE if private else Share.NAMESPACE)
        self.minds[name] = Mind(private=private)
        self.feed(name, ids, None)

    @rule(data=st.data(), ids=MORE)
    def append(self, data: st.DataObject, ids: Ids) -> None:
        self.feed(self.someone(data), ids, None)

    @rule(data=st.data(), ids=MORE)
    def generate(self, data: st.DataObject, ids: Ids) -> None:
        self.feed(self.someone(data), ids, Sampling(max_tokens=NEW_TOKENS))

    @rule(data=st.data())
    def catch_up(self, data: st.DataObject) -> None:
        """What others have said already comes to the agent as new input."""
        name = self.someone(data)
        own = self.minds[name].ids
        ahead = [mind.ids for mind in self.minds.values() if len(mind.ids) > len(own) and mind.ids[: len(own)] == own]
        if ahead:
            self.feed(name, max(ahead, key=len)[len(own) :], Sampling(max_tokens=NEW_TOKENS))

    def feed(self, name: str, ids: Ids, sampling: Sampling | None) -> None:
        mind = self.minds[name]
        events = run(self.engine, _request(_ref(name), ids, sampling))
        done, reply = finished(events), said(events)
        assert reply == ([] if sampling is None else self.oracle((*mind.ids, *ids)))
        assert (done.durable, done.warnings) == (True, ())
        self.check_usage(mind, len(ids), len(reply), done.usage)
        mind.add((*mind.ids, *ids, *reply))
        mind.given_up = False  # what was computed again is on disk again
        self.changed.add(name)

    def check_usage(self, mind: Mind, new: int, reply: int, usage: Usage) -> None:
        """Every position was reused or computed."""
        taken = usage.reused_hot_tokens + usage.reused_warm_tokens
        assert taken + usage.recomputed_tokens + usage.prefill_tokens == len(mind.ids) + new == usage.prompt_tokens
        assert usage.generated_tokens == reply
        assert usage.prefill_tokens == new or not mind.private
        assert usage.recomputed_tokens == 0 or mind.given_up

    # History

    @precondition(lambda self: len(self.minds) < len(NAMES))
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        source, name = self.someone(data), self.free()
        mind = self.minds[source]
        at = data.draw(st.sampled_from(sorted(mind.turns)), "turn")
        self.engine.fork_agent(_ref(source), name, at)
        self.minds[name] = Mind(private=mind.private, given_up=mind.gaps, gaps=mind.gaps)
        self.minds[name].add(mind.turns[at])
        self.changed |= {source, name}

    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        name = self.someone(data)
        mind = self.minds[name]
        to = data.draw(st.sampled_from(sorted(mind.turns)), "turn")
        self.engine.rewind_agent(_ref(name), to)
        mind.add(mind.turns[to])
        mind.given_up |= mind.gaps
        self.changed.add(name)

    @rule(data=st.data())
    def prune_history(self, data: st.DataObject) -> None:
        name = self.someone(data)
        mind = self.minds[name]
        planned = self.engine.prune("default", agent=name, dry_run=True)
        assert self.engine.prune("default", agent=name) == planned
        assert [item.turn for item in planned] == (sorted(mind.turns)[1:] if len(mind.turns) > 2 else [])
        if planned:
            mind.turns = {0: (), mind.last: (), mind.last + 1: mind.ids}
            del mind.turns[mind.last - 1]
            self.changed.add(name)

    # Keeping and letting go

    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        ref = _ref(self.someone(data))
        before = self.engine.stats().hot_bytes
        planned = self.engine.evict_agent(ref, dry_run=True)
        assert self.engine.evict_agent(ref) == planned
        assert before - self.engine.stats().hot_bytes == planned.ram_bytes
        assert self.engine.get_agent(ref).residency is not Residency.HOT

    @rule(data=st.data())
    def evict_to_cold(self, data: st.DataObject) -> None:
        name = self.someone(data)
        before = self.engine.stats().disk_bytes
        planned = self.engine.evict_agent(_ref(name), Residency.COLD, dry_run=True)
        assert self.engine.evict_agent(_ref(name), Residency.COLD) == planned
        assert before - self.engine.stats().disk_bytes == planned.disk_bytes
        if planned.disk_bytes:
            self.minds[name].given_up = self.minds[name].gaps = True

    @rule(data=st.data())
    def prefetch(self, data: st.DataObject) -> None:
        name = self.someone(data)
        mind = self.minds[name]
        done = self.engine.prefetch_agent(_ref(name))
        assert done.hot_tokens + done.warm_tokens + done.recomputed_tokens == len(mind.ids)
        assert done.recomputed_tokens == 0 or mind.given_up
        mind.given_up = False

    @rule(data=st.data(), private=st.booleans())
    def share(self, data: st.DataObject, private: bool) -> None:
        name = self.someone(data)
        self.engine.update_agent(_ref(name), share=Share.PRIVATE if private else Share.NAMESPACE)
        self.minds[name].private = private

    @precondition(lambda self: len(self.minds) > 1)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = self.someone(data)
        before = self.engine.stats().disk_bytes
        freed = self.engine.delete_agent(_ref(name))
        assert before - self.engine.stats().disk_bytes == freed
        del self.minds[name]
        self.changed.discard(name)

    @precondition(lambda self: self.calls > self.restarted + 5)
    @rule()
    def restart(self) -> None:
        self.restarted = self.calls
        files = self.files()
        self.engine.close()
        self.engine = self._open()
        assert self.files() == files
        assert self.engine.stats().hot_bytes == 0
        self.changed = set(self.minds)

    # What must hold

    @invariant()
    def check(self) -> None:
        self.calls += 1
        assert [view.ref.name for view in self.engine.list_agents("default")] == sorted(self.minds)
        self.check_content()
        self.check_ram()
        self.check_disk()

    def check_content(self) -> None:
        for name in self.changed:
            mind = self.minds[name]
            view = self.engine.get_agent(_ref(name))
            assert (view.turn, view.tokens) == (mind.last, len(mind.ids))
            assert sum(block.used for block in view.blocks if block.kind == "TEXT") == len(mind.ids)
            history = self.engine._context.store.history(view.id)
            assert list(history.listed) == sorted(mind.turns)[1:]
            for number, ids in mind.turns.items():
                assert tuple(history.ids(number).tolist()) == ids
        self.changed = set()

    def check_ram(self) -> None:
        """The bytes counted are those of the arrays held; who holds a span is known."""
        memory = self.engine._context.memory
        states = {agent.ref: agent.state for agent in memory._agents.values() if agent.state is not None}
        arrays = {id(array): array for state in states.values() for array in _arrays(state)}
        assert self.engine.stats().hot_bytes == sum(array.nbytes for array in arrays.values())
        assert memory.hot_bytes == {ref: state.nbytes for ref, state in states.items()}
        layers = {state.full for state in states.values()}
        assert set(memory.pool._states) == layers
        spans = {span for one in layers for span in one.spans}
        for span in spans:
            assert {one for one in span.holders if one in memory.pool._states} == {
                one for one in layers if span in one.spans
            }
        assert set(memory.pool._spans.values()) <= spans
        held = {key for agent in memory._agents.values() if agent.state is not None for key in agent.full_keys}
        assert memory.pool._spans.keys() | memory.pool._tails.keys() == held

    def check_disk(self) -> None:
        """A file for every block that a listed turn uses and that was not given up, one for every turn, and no more."""
        store = self.engine._context.store
        views = [self.engine.get_agent(_ref(name)) for name in self.minds]
        histories = [store.history(view.id) for view in views]
        used = {use.key for one in histories for n in one.listed for use in (*one.timeline(n), *one.companions(n))}
        assert store._core.catalog.read(block_rows.sizes).keys() == used
        sizes = {f"{key.hex()}.safetensors": size for key, size in store.blocks.sizes(used).items() if size}
        records = {f"{v.id}/{n:08d}.json" for v in views for n in store.history(v.id).listed}
        marks = {f"{v.id}/private" for v in views if v.share is Share.PRIVATE}
        files = self.files()
        assert {name: size for name, size in files.items() if name in sizes} == sizes
        assert files.keys() == sizes.keys() | records | marks
        assert self.engine.stats().disk_bytes == sum(files.values())

    def files(self) -> dict[str, int]:
        """Sizes of the block files, by name, and of what lies in agents' folders, by folder and name."""
        state = self.folder / "state"
        blocks = {path.name: path.stat().st_size for path in state.glob("blocks/*/*/*")}
        return blocks | {f"{p.parent.name}/{p.name}": p.stat().st_size for p in state.glob("turns/*/*")}

    def check_freed(self) -> None:
        """Nothing holds state any more, and MLX has its bytes back."""
        for _ in range(100):  # the executor thread may still be leaving the last call
            gc.collect()
            left = [one for one in gc.get_objects() if isinstance(one, Span | AgentState)]
            if not left and mx.get_active_memory() <= self.unused:
                return
            time.sleep(0.02)
        holders = {type(holder).__name__ for holder in gc.get_referrers(*left)} if left else set()
        raise AssertionError(f"{len(left)} states or spans left, held by {holders}; {mx.get_active_memory()} bytes")


def _ref(name: str) -> AgentRef:
    return AgentRef("default", name)


def _arrays(thing: object) -> Iterator[mx.array]:
    """All arrays that can be reached from a state, through its own objects and containers."""
    if isinstance(thing, mx.array):
        yield thing
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from _arrays(value)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from _arrays(value)
    elif type(thing).__module__.startswith("agentmem.kv"):
        yield from _arrays(vars(thing))


@pytest.mark.reference
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("spec", CHECKPOINTS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("examples", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_random_timelines(examples: int, spec: Spec, tmp_path: Path) -> None:
    Timelines.checkpoint = write(tmp_path / "checkpoint", spec)
    Timelines.oracle = Oracle(Timelines.checkpoint, tmp_path / "oracle")
    try:
        run_state_machine_as_test(
            Timelines,
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        Timelines.oracle.close()

"""The block pool: equal prefixes are held once, and cutting, freezing and letting go change neither bits nor counts."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from agentmem.kv.layout import AttentionLayout, LayerKind, StateLayout, WindowLayout
from agentmem.kv.pool import BlockPool
from agentmem.kv.state import AgentState
from agentmem.kv.window import WindowPart
from agentmem.types import BLOCK_TOKENS

LAYOUT = StateLayout.of_full(AttentionLayout(layers=2, kv_heads=1, head_dim=32, group_size=32, dtype=mx.float32))


def block_of(seed: int, tokens: int = BLOCK_TOKENS) -> dict[str, np.ndarray]:
    """Random state that `seed` determines."""
    mx.random.seed(seed)
    parts = [mx.quantize(mx.random.normal((2, 1, tokens, 32)), 32, 4) for _ in "kv"]
    return dict(zip(LAYOUT.full.tensors, (np.array(a) for side in parts for a in side), strict=True))


def grow(state: AgentState, seed: int, tokens: int) -> None:
    """Appends rows as a model would, into the tail."""
    mx.random.seed(seed)
    for layer in state.layers:
        layer.append(*(mx.quantize(mx.random.normal((1, 1, tokens, 32)), 32, 4) for _ in "kv"))
    state.evaluate()


def rows(state: AgentState, end: int | None = None) -> dict[str, np.ndarray]:
    end = state.offset if end is None else end
    pieces = [state.read(at, min(at + BLOCK_TOKENS, end)) for at in range(0, end, BLOCK_TOKENS)]
    return {name: np.concatenate([p[name] for p in pieces], axis=2) for name in LAYOUT.full.tensors}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in LAYOUT.full.tensors)


def take(pool: BlockPool, keys: list[bytes]) -> AgentState:
    state = AgentState(LAYOUT)
    for span in pool.find(keys):
        state.hold(span)
    return state


def keys(*names: str) -> list[bytes]:
    return [name.encode() for name in names]


@pytest.fixture
def pool() -> BlockPool:
    return BlockPool()


def test_a_prefix_in_a_private_tail_is_shared_once_somebody_wants_it(pool: BlockPool) -> None:
    a = AgentState(LAYOUT)
    grow(a, 1, 600)
    before = rows(a)
    pool.note(a, keys("x", "y"))
    assert pool.count(keys("x", "y", "z")) == 2
    b = take(pool, keys("x", "y", "z"))
    pool.note(b, keys("x", "y"))
    assert b.offset == 512
    assert same(rows(b), rows(a, 512))
    assert same(rows(a), before)
    assert b.full.spans[0] is a.full.spans[0]
    assert pool.nbytes == a.nbytes  # what b holds is what a holds


def test_a_span_is_cut_where_timelines_part(pool: BlockPool) -> None:
    a = AgentState(LAYOUT)
    a.extend([block_of(i) for i in range(4)])
    pool.note(a, keys("x", "y", "z", "w"))
    before, held = rows(a), pool.nbytes
    b = take(pool, keys("x", "y", "other"))
    pool.note(b, keys("x", "y"))
    assert b.offset == 512
    assert same(rows(a), before)
    assert same(rows(b), rows(a, 512))
    assert pool.nbytes == held
    assert [span.keys for span in a.full.spans] == [(b"x", b"y"), (b"z", b"w")]


def test_what_the_last_holder_lets_go_is_gone(pool: BlockPool) -> None:
    a = AgentState(LAYOUT)
    a.extend([block_of(i) for i in range(2)])
    pool.note(a, keys("x", "y"))
    b = take(pool, keys("x"))
    pool.note(b, keys("x"))
    pool.release(a)
    assert pool.count(keys("x", "y")) == 1
    assert pool.nbytes == b.nbytes
    pool.release(b)
    assert pool.count(keys("x")) == 0
    assert pool.nbytes == 0


def test_what_letting_go_would_free_is_what_it_frees(pool: BlockPool) -> None:
    a = AgentState(LAYOUT)
    a.extend([block_of(i) for i in range(4)])
    pool.note(a, keys("x", "y", "z", "w"))
    b = take(pool, keys("x", "y"))
    grow(b, 1, 300)
    pool.note(b, keys("x", "y", "v"))
    for state in (a, b):
        before, would = pool.nbytes, pool.exclusive_bytes(state)
        pool.release(state)
        assert before - pool.nbytes == would
    assert pool.nbytes == 0


def test_rows_that_a_running_turn_added_stay_private(pool: BlockPool) -> None:
    a = AgentState(LAYOUT)
    grow(a, 1, 300)
    pool.note(a, keys("x"))
    grow(a, 2, 500)  # not committed: two more blocks are full, but have no key yet
    before = rows(a)
    b = take(pool, keys("x", "y"))
    assert b.offset == 256
    assert same(rows(a), before)
    assert a.trim(300)


class Agents(RuleBasedStateMachine):
    """Random agents over a small world of timelines, against a plain model: lists of (key, seed)."""

    names = Bundle("names")

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool()
        self.states: dict[int, AgentState] = {}
        self.timelines: dict[int, list[bytes]] = {}
        self.made = 0

    @rule(target=names, path=st.lists(st.sampled_from("ab"), max_size=5))
    def begin(self, path: list[str]) -> int:
        """An agent with a timeline of len(path) full blocks, what is in RAM taken over, the rest restored."""
        timeline = ["".join(path[: i + 1]).encode() for i in range(len(path))]
        state = take(self.pool, timeline)
        state.extend([block_of(hash_of(key)) for key in timeline[state.offset // BLOCK_TOKENS :]])
        self.pool.note(state, timeline)
        self.made += 1
        self.states[self.made], self.timelines[self.made] = state, timeline
        return self.made

    @rule(name=names, letter=st.sampled_from("ab"), tokens=st.integers(1, 255))
    def grow(self, name: int, letter: str, tokens: int) -> None:
        """A full block computed into the tail, and a partial one behind it that is trimmed again."""
        if name not in self.states:
            return
        state, timeline = self.states[name], self.timelines[name]
        timeline.append((timeline[-1] if timeline else b"") + letter.encode())
        seed = block_of(hash_of(timeline[-1]))
        append(state, seed)
        self.pool.note(state, timeline)
        grow(state, 5, tokens)
        assert state.trim(len(timeline) * BLOCK_TOKENS)

    @rule(name=names, start=st.integers(0, 1200), count=st.integers(1, 600))
    def cut_out(self, name: int, start: int, count: int) -> None:
        """Some positions of its own, in spans that end where they do, be its blocks in others' hands too."""
        end = min(start + count, len(self.timelines.get(name, [])) * BLOCK_TOKENS)
        if start < end:
            state, at = self.states[name], 0
            self.pool.cut_out(state, start, end)
            borders = {0, *(at := at + span.segments for span in state.full.spans)}
            assert borders >= {start // BLOCK_TOKENS, -(-end // BLOCK_TOKENS)}

    @rule(name=names)
    def let_go(self, name: int) -> None:
        if name in self.states:
            self.pool.release(self.states.pop(name))
            del self.timelines[name]

    @invariant()
    def content_is_that_of_the_timeline(self) -> None:
        for name, state in self.states.items():
            assert state.offset == len(self.timelines[name]) * BLOCK_TOKENS
            for i, key in enumerate(self.timelines[name]):
                got = state.read(i * BLOCK_TOKENS, (i + 1) * BLOCK_TOKENS)
                assert same(got, block_of(hash_of(key)))

    @invariant()
    def accounting_is_exact(self) -> None:
        known = {key for timeline in self.timelines.values() for key in timeline}
        assert all(self.pool.count([key]) == 1 for key in known)
        assert set(self.pool._spans) | set(self.pool._tails) == known
        spans = {id(s): s for state in self.states.values() for s in state.full.spans}
        tails = sum(state.own_bytes for state in self.states.values())
        assert self.pool.nbytes == sum(s.nbytes for s in spans.values()) + tails


def hash_of(key: bytes) -> int:
    return int.from_bytes(b"1" + key, "big") % 2**31


def append(state: AgentState, block: dict[str, np.ndarray]) -> None:
    """Puts quantised rows into the tail, as a model's own would lie there."""
    begin = state.offset - state.full.tail_start
    for i, layer in enumerate(state.layers):
        layer._reserve(BLOCK_TOKENS)
        for buffer, name in zip(layer.tail.arrays, LAYOUT.full.tensors, strict=True):
            buffer[begin // BLOCK_TOKENS] = mx.array(block[name][i])
        layer.offset += BLOCK_TOKENS
    state.evaluate()


def test_random_agents_share_what_is_equal() -> None:
    run_state_machine_as_test(Agents, settings=settings(max_examples=25, stateful_step_count=15, deadline=None))


def test_what_a_running_turn_holds_is_known_by_its_owners_keys(pool: BlockPool) -> None:
    """A state holds more than its timeline; when the pool looks at it anew, that is still found."""
    owner, other = AgentState(LAYOUT), AgentState(LAYOUT)
    for state, known in ((owner, keys("x", "y")), (other, keys("x"))):
        state.extend([block_of(i) for i in range(len(known))])
        pool.note(state, known)
    (taken,) = pool.find(keys("y"))
    other.hold(taken)
    pool.release(owner)
    assert [span.segments for span in pool.find(keys("x", "y"))] == [1, 1]
    pool.release(other)
    assert pool.count(keys("x")) == pool.count(keys("y")) == 0


def test_window_parts_beyond_the_timeline_have_no_name_yet(pool: BlockPool) -> None:
    window = WindowLayout(layers=1, kv_heads=1, head_dim=32, group_size=32, dtype=mx.float32, window=300)
    state = AgentState(StateLayout((LayerKind.WINDOW, LayerKind.FULL), LAYOUT.full, window))
    blank = {name: np.zeros(window.shape(name), "f4" if "weight" not in name else "u4") for name in window.tensors}
    state.window.restore({n: WindowPart.of(window, blank) for n in range(2)}, None, 512)
    pool.note(state, keys("x"))
    assert list(pool.find_parts(dict(enumerate(keys("x", "y"))))) == [0]

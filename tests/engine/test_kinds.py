"""The three kinds of layers, on tiny checkpoints: warm equals cold, token for token, whatever an agent went through.

Every checkpoint has full attention; one has layers with a window of 100 positions beside it, one short convolutions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Durability, OnCancel, Request, Sampling, TokenInput
from agentmem.errors import AgentmemError
from agentmem.types import AgentRef, Residency, Share, TurnKind
from tests.engine.runs import feed, finished, run, said
from tests.helpers.checkpoints import KINDS, Spec, with_other_weights, write

PROMPT = tuple(5 + (i * 7 + i // 3) % 90 for i in range(1000))
TURNS = (PROMPT[:300], PROMPT[300:330], PROMPT[330:512], PROMPT[512:800])
"""Ends inside blocks and on a border, one turn longer than the window and what it needs before."""

pytestmark = pytest.mark.reference
_numbers = itertools.count()


def slow(*cases: tuple) -> list:
    """Cases that `make test-all` adds."""
    return [pytest.param(*case, marks=pytest.mark.slow) for case in cases]


@pytest.fixture(scope="module", params=[*KINDS[1:], *slow((KINDS[0],))], ids=lambda spec: spec.kind)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, Path]:
    return request.param, write(tmp_path_factory.mktemp("ck"), request.param)


@pytest.fixture
def spec(checkpoint: tuple[Spec, Path]) -> Spec:
    return checkpoint[0]


@pytest.fixture
def settings(checkpoint: tuple[Spec, Path], tmp_path: Path) -> EngineSettings:
    return EngineSettings(tmp_path / "state", str(checkpoint[1]))


@pytest.fixture(scope="module")
def engine(checkpoint: tuple[Spec, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Opened once: each test has a namespace of its own."""
    engine = Engine.open(EngineSettings(tmp_path_factory.mktemp("state") / "state", str(checkpoint[1])))
    yield engine
    engine.close()


@pytest.fixture
def own_engine(settings: EngineSettings) -> Iterator[Engine]:
    engine = Engine.open(settings)
    yield engine
    engine.close()


@pytest.fixture
def a() -> AgentRef:
    return AgentRef(f"n{next(_numbers)}", "a")


@pytest.fixture
def b(a: AgentRef) -> AgentRef:
    return replace(a, name="b")


def tell(engine: Engine, ref: AgentRef, *turns: tuple[int, ...]) -> None:
    for ids in turns:
        feed(engine, ref, *ids, tokens=None)


_SAID: dict[tuple[str, tuple[int, ...]], list[int]] = {}


def cold(engine: Engine, *ids: int) -> list[int]:
    """What an agent that shares nothing says to all of these ids at once; computed once for each model."""
    known = engine.model_info().state_id, ids
    if known not in _SAID:
        _SAID[known] = _cold(engine, *ids)
    return _SAID[known]


def _cold(engine: Engine, *ids: int) -> list[int]:
    ref = AgentRef("default", "cold")
    engine.create_agent(ref, share=Share.PRIVATE)
    try:
        return feed(engine, ref, *ids)[0]
    finally:
        engine.delete_agent(ref)


def files(settings: EngineSettings, kind: str) -> list[Path]:
    """The block files of a kind."""
    found = (settings.state_dir / "blocks").rglob("*.safetensors")
    return [path for path in found if f'"kind":"{kind}"'.encode() in path.read_bytes()[:4096]]


def test_restored_after_every_turn(settings: EngineSettings, a: AgentRef) -> None:
    so_far: list[int] = []
    for ids in TURNS:
        engine = Engine.open(settings)
        got, usage = feed(engine, a, *ids)
        assert usage.recomputed_tokens == 0
        assert (usage.reused_warm_tokens, usage.prefill_tokens) == (len(so_far), len(ids))
        assert got == cold(engine, *so_far, *ids)
        so_far += [*ids, *got]
        engine.close()


@pytest.mark.parametrize("hot", [True, False])
def test_evicted_between_turns_or_not(engine: Engine, hot: bool, a: AgentRef) -> None:
    for n in range(len(TURNS)):
        tell(engine, a, TURNS[n])
        if not hot:
            engine.evict_agent(a)
    got, usage = feed(engine, a, 11, 12)
    assert usage.recomputed_tokens == 0
    assert got == cold(engine, *PROMPT[:800], 11, 12)


@pytest.mark.parametrize(("at", "hot"), [(2, False), (3, True), *slow((1, True), (1, False), (2, True), (4, False))])
def test_a_fork_goes_on_as_a_cold_run_would(engine: Engine, at: int, hot: bool, a: AgentRef, b: AgentRef) -> None:
    tell(engine, a, *TURNS)
    if not hot:
        engine.evict_agent(a)
    view, recompute = engine.fork_agent(a, "b", at_turn=at)
    assert (recompute, view.tokens) == (0, sum(map(len, TURNS[:at])))
    got, usage = feed(engine, b, 11, 12)
    assert (usage.recomputed_tokens, usage.prefill_tokens) == (0, 2)
    assert got == cold(engine, *PROMPT[: view.tokens], 11, 12)
    assert feed(engine, a, 21)[0] == cold(engine, *PROMPT[:800], 21)


@pytest.mark.parametrize(("to", "hot"), [(2, False), (2, True), *slow((0, True), (1, False), (3, True), (3, False))])
def test_a_rewound_agent_goes_on_as_a_cold_run_would(engine: Engine, to: int, hot: bool, a: AgentRef) -> None:
    tell(engine, a, *TURNS)
    if not hot:
        engine.evict_agent(a)
    view, recompute = engine.rewind_agent(a, to)
    assert (recompute, view.tokens) == (0, sum(map(len, TURNS[:to])))
    got, usage = feed(engine, a, 11, 12)
    assert usage.recomputed_tokens == 0
    assert got == cold(engine, *PROMPT[: view.tokens], 11, 12)
    engine.rewind_agent(a, 4)
    assert feed(engine, a, 21)[0] == cold(engine, *PROMPT[:800], 21)


@pytest.mark.parametrize(
    ("length", "hot"), [(300, True), (800, False), *slow((300, False), (512, True), (512, False), (800, True))]
)
def test_a_prompt_that_another_agents_turn_ended_with_is_not_computed_again(
    engine: Engine, length: int, hot: bool, a: AgentRef, b: AgentRef
) -> None:
    tell(engine, a, PROMPT[:length], PROMPT[length:900])
    if not hot:
        engine.evict_agent(a)
    got, usage = feed(engine, b, *PROMPT[:length], 11, 12)
    assert (usage.prefill_tokens, usage.recomputed_tokens) == (2, 0)
    assert usage.reused_hot_tokens + usage.reused_warm_tokens == length
    assert got == cold(engine, *PROMPT[:length], 11, 12)
    assert feed(engine, a, 21)[0] == cold(engine, *PROMPT[:900], 21)


def test_two_agents_that_share_go_on_apart(engine: Engine, a: AgentRef, b: AgentRef) -> None:
    """What one of them writes behind the common part is not in the other's state."""
    tell(engine, a, PROMPT[:600])
    tell(engine, b, PROMPT[:600], (9,) * 100)
    tell(engine, a, (8,) * 100)
    assert feed(engine, b, 3)[0] == cold(engine, *PROMPT[:600], *(9,) * 100, 3)
    assert feed(engine, a, 3)[0] == cold(engine, *PROMPT[:600], *(8,) * 100, 3)


@pytest.mark.parametrize("before", [500, *slow((300,), (512,))])
def test_a_turn_that_is_discarded_leaves_the_state_as_it_was(engine: Engine, before: int, a: AgentRef) -> None:
    tell(engine, a, PROMPT[:before])
    request = Request(a, TokenInput(PROMPT[before:900]), Sampling(max_tokens=500), on_cancel=OnCancel.DISCARD)
    deltas = 0

    def sink(event: object) -> None:
        nonlocal deltas
        deltas += type(event).__name__ == "Delta"
        if deltas == 3:
            ticket.cancel()

    ticket = engine.submit(request, sink)
    with pytest.raises(AgentmemError):  # it waits behind the other, and finds the turn gone
        run(engine, Request(a, TokenInput((1,)), None, expect_turn=2))
    assert engine.get_agent(a).tokens == before
    got, usage = feed(engine, a, 11)
    assert usage.recomputed_tokens == 0
    assert got == cold(engine, *PROMPT[:before], 11)


def test_what_is_lost_is_computed_again_from_the_last_turn_that_is_whole(
    spec: Spec, own_engine: Engine, settings: EngineSettings, a: AgentRef
) -> None:
    tell(own_engine, a, *TURNS)
    own_engine.evict_agent(a)
    expected = cold(own_engine, *PROMPT[:800], 11)
    kinds = {"window": "WINDOW", "recurrent": "SNAPSHOT"}
    newest = max(files(settings, kinds.get(spec.kind, "TEXT")), key=lambda path: path.stat().st_mtime_ns)
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    got, usage = feed(own_engine, a, 11)
    assert got == expected
    assert usage.recomputed_tokens == (800 - 512 if spec.kind in kinds else usage.misses[0].tokens)
    assert [miss.reason for miss in usage.misses] == ["BLOCK_CORRUPT"]
    own_engine.evict_agent(a)
    again, usage = feed(own_engine, a, 12)
    assert usage.recomputed_tokens == 0, "what was computed again was not put back"
    assert again == cold(own_engine, *PROMPT[:800], 11, *got, 12)


def test_cold_agents_are_computed_again_from_their_record(engine: Engine, a: AgentRef) -> None:
    tell(engine, a, *TURNS)
    engine.evict_agent(a, Residency.COLD)
    assert engine.get_agent(a).residency is Residency.COLD
    assert engine.prefetch_agent(a).recomputed_tokens == 800
    engine.evict_agent(a)
    got, usage = feed(engine, a, 11)
    assert usage.recomputed_tokens == 0
    assert got == cold(engine, *PROMPT[:800], 11)


def test_rebuilt_under_other_weights(
    checkpoint: tuple[Spec, Path], settings: EngineSettings, tmp_path: Path, a: AgentRef
) -> None:
    engine = Engine.open(settings)
    tell(engine, a, *TURNS)
    engine.close()
    spec, folder = checkpoint
    other = EngineSettings(settings.state_dir, str(with_other_weights(folder, tmp_path / "other", spec)))
    engine = Engine.open(other)
    got = said(run(engine, Request(a, TokenInput((11,)), Sampling(max_tokens=6), rebuild=True)))
    assert got == cold(engine, *PROMPT[:800], 11)
    engine.rewind_agent(a, 5)
    assert [turn.kind for turn in engine.list_turns(a)][4] is TurnKind.REBUILD
    again, usage = feed(engine, a, 11)
    assert (again, usage.recomputed_tokens) == (got, 0), "the rebuilt turn's own end can be gone on from"
    engine.close()


def test_turns_written_behind_have_their_companions(engine: Engine, a: AgentRef, b: AgentRef) -> None:
    for ids in TURNS:
        run(engine, Request(a, TokenInput(ids), None, create=True, durability=Durability.WRITE_BEHIND))
    engine.fork_agent(a, "b", at_turn=2)
    engine.evict_agent(a)
    for ref, length in ((a, 800), (b, 330)):
        got, usage = feed(engine, ref, 11)
        assert usage.recomputed_tokens == 0
        assert got == cold(engine, *PROMPT[:length], 11)


def test_an_earlier_end_whose_state_was_given_up_is_computed_again(engine: Engine, a: AgentRef, b: AgentRef) -> None:
    """A fork or rewind into the midst of a block need not have its file: the ids are known."""
    tell(engine, a, *TURNS)
    engine.evict_agent(a, Residency.COLD)
    view, recompute = engine.fork_agent(a, "b", at_turn=2)
    assert (view.residency, recompute) == (Residency.COLD, 330)
    got, usage = feed(engine, b, 11)
    assert (got, usage.recomputed_tokens) == (cold(engine, *PROMPT[:330], 11), 330)
    engine.evict_agent(b)
    assert feed(engine, b, 12)[1].recomputed_tokens == 0, "what was computed again was not put back"
    assert engine.rewind_agent(a, 1)[1] == 300
    assert feed(engine, a, 11)[0] == cold(engine, *PROMPT[:300], 11)


def test_two_agents_rebuilt_alike(
    checkpoint: tuple[Spec, Path], settings: EngineSettings, tmp_path: Path, a: AgentRef, b: AgentRef
) -> None:
    """The second finds what the first has computed under the new weights, but not for a timeline of the old ones."""
    engine = Engine.open(settings)
    tell(engine, a, PROMPT[:200])
    engine.fork_agent(a, "b")
    engine.close()
    spec, folder = checkpoint
    engine = Engine.open(replace(settings, model=str(with_other_weights(folder, tmp_path / "other", spec))))
    for ref in (a, b):
        request = Request(ref, TokenInput(PROMPT[200:600]), Sampling(max_tokens=6), rebuild=True)
        assert said(run(engine, request)) == cold(engine, *PROMPT[:600])
    engine.close()


def test_a_text_only_import_is_computed_once(engine: Engine, a: AgentRef, b: AgentRef) -> None:
    tell(engine, a, *TURNS)
    engine.import_agent(iter([b"".join(engine.export_agent(a))]), b.namespace, "b", text_only=True)
    events = run(engine, Request(b, TokenInput((11,)), Sampling(max_tokens=6)))
    assert finished(events).warnings == ()
    assert said(events) == cold(engine, *PROMPT[:800], 11)


def test_exported_and_imported(engine: Engine, a: AgentRef, b: AgentRef) -> None:
    tell(engine, a, *TURNS)
    data = b"".join(engine.export_agent(a))
    engine.delete_agent(a)
    engine.import_agent(iter([data]), a.namespace, "b")
    got, usage = feed(engine, b, 11)
    assert usage.recomputed_tokens == 0
    assert got == cold(engine, *PROMPT[:800], 11)


def test_pruned_history_keeps_the_last_end_alone(engine: Engine, settings: EngineSettings, a: AgentRef) -> None:
    tell(engine, a, *TURNS)
    engine.evict_agent(a)
    engine.prune(a.namespace, agent="a")
    got, usage = feed(engine, a, 11)
    assert usage.recomputed_tokens == 0
    assert got == cold(engine, *PROMPT[:800], 11)


def test_bytes_add_up_and_go_to_zero(own_engine: Engine, a: AgentRef, b: AgentRef) -> None:
    tell(own_engine, a, *TURNS)
    alone = own_engine.stats().hot_bytes
    assert alone == own_engine._context.memory.find(a).state.nbytes
    tell(own_engine, b, PROMPT[:800])
    both = own_engine.stats().hot_bytes
    assert both - alone < alone, "what is common is held once"
    for ref in (a, b):
        before = own_engine.stats().hot_bytes
        assert before - own_engine.evict_agent(ref).ram_bytes == own_engine.stats().hot_bytes
    assert own_engine.stats().hot_bytes == 0


def test_window_parts_that_no_end_can_see_are_neither_held_nor_stored(
    spec: Spec, own_engine: Engine, settings: EngineSettings, a: AgentRef
) -> None:
    tell(own_engine, a, PROMPT[:800])
    state = own_engine._context.memory.find(a).state
    if spec.kind == "window":
        assert sorted(state.window.layers[0].segments) == [2, 3]  # what position 768, its block's first, can see
    assert len(files(settings, "WINDOW")) == (2 if spec.kind == "window" else 0)
    assert len(files(settings, "SNAPSHOT")) == (1 if spec.kind == "recurrent" else 0)
    assert len(files(settings, "TEXT")) == 4
    own_engine.delete_agent(a)
    assert files(settings, "") == []

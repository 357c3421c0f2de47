"""Think as an operation: what it adds to a timeline, and that this lasts, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentmem.engine import limits
from agentmem.engine.engine import Engine, EngineSettings
from agentmem.errors import Reason
from agentmem.memory.disk import DiskBudget
from agentmem.memory.embeddings import embedding_bytes
from agentmem.store.rebuild import rebuild
from agentmem.types import AgentRef, Exactness, Projection, Residency, Share, TurnKind
from tests.engine.runs import PROMPT, A, B, C, attempt, feed, finished, recorded, refused, run
from tests.engine.thoughts import alone, held, prefilled, think, thinks, thought
from tests.helpers.checkpoints import KINDS, Spec, write
from tests.store.samples import SameHash

pytestmark = pytest.mark.reference

SPECS = [Spec("qwen3", tied=False), Spec()]
STEPS = 20
AT_BORDERS = (pytest.param(230, marks=pytest.mark.slow), 236, pytest.param(246, marks=pytest.mark.slow), 255, 256)
"""Lengths of a prompt before STEPS: the thought ends before a block's border, on it, crosses it, begins on it."""


@pytest.fixture(
    scope="session", params=[SPECS[0], pytest.param(SPECS[1], marks=pytest.mark.slow)], ids=lambda spec: spec.name
)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ck"), request.param)


class Restarts:
    """An engine that can be stopped and begun again on the same folder."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self.engine = Engine.open(settings)

    def restart(self) -> Engine:
        self.engine.close()
        self.engine = Engine.open(self._settings)
        return self.engine


@pytest.fixture
def restarts(settings: EngineSettings) -> Iterator[Restarts]:
    one = Restarts(settings)
    yield one
    one.engine.close()


@pytest.mark.parametrize("projection", list(Projection))
def test_a_thought_is_what_the_library_thinks(engine: Engine, projection: Projection) -> None:
    done = think(engine, A, STEPS, *PROMPT[:250], projection=projection)
    state, fed = alone(engine, PROMPT[:250], STEPS, projection)
    assert np.array_equal(thought(engine), fed)
    assert held(engine) == state == prefilled(engine)
    usage = done.usage
    assert (usage.latent_steps, usage.prompt_tokens, usage.prefill_tokens) == (STEPS, 250, 250)
    assert (usage.exactness, usage.generated_tokens, done.finish_reason) == (Exactness.LATENT, 0, None)
    (turn,) = engine.list_turns(A)
    assert (turn.kind, turn.start, turn.end, turn.exactness) == (TurnKind.THINK, 0, 270, Exactness.LATENT)
    view = engine.get_agent(A)
    assert (view.exactness, [(block.kind, block.used) for block in view.blocks]) == (
        Exactness.LATENT,
        [("LATENT", 256), ("LATENT", 14)],
    )


@pytest.mark.parametrize("length", AT_BORDERS)
def test_save_restart_restore(restarts: Restarts, length: int) -> None:
    think(restarts.engine, A, STEPS, *PROMPT[:length])
    before, fed = held(restarts.engine), thought(restarts.engine)
    engine = restarts.restart()
    assert held(engine) == before
    assert np.array_equal(thought(engine), fed)
    said, usage = feed(engine, A, 7, 8, 9)
    assert (usage.recomputed_tokens, usage.exactness) == (0, Exactness.LATENT)
    assert held(engine) == prefilled(engine)
    engine = restarts.restart()
    assert held(engine) == prefilled(engine)
    for block in engine.get_agent(A).blocks:
        holds = block.start < length + STEPS and length < block.start + block.used
        assert block.kind == ("LATENT" if holds else "TEXT")
    assert engine.verify().problems == ()
    assert said


@pytest.mark.slow
def test_a_thought_longer_than_a_block(restarts: Restarts) -> None:
    think(restarts.engine, A, 530, *PROMPT[:100])
    state, fed = alone(restarts.engine, PROMPT[:100], 530, Projection.RIDGE)
    engine = restarts.restart()
    assert held(engine) == state
    assert np.array_equal(thought(engine), fed)


@pytest.mark.parametrize("length", AT_BORDERS)
def test_thinking_goes_on_from_the_end_of_a_timeline(restarts: Restarts, length: int) -> None:
    think(restarts.engine, A, STEPS + 5, *PROMPT[:length])
    feed(restarts.engine, B, *PROMPT[:length], tokens=None)
    think(restarts.engine, B, STEPS)
    again = think(restarts.restart(), B, 5).usage
    engine = restarts.engine
    assert (again.recomputed_tokens, again.prefill_tokens, again.latent_steps) == (1, 0, 5)  # the last one, again
    assert np.array_equal(thought(engine, B), thought(engine, A))
    assert held(engine, B) == held(engine, A)
    assert [turn.kind for turn in engine.list_turns(B)] == [TurnKind.APPEND, TurnKind.THINK, TurnKind.THINK]


def test_prefill_think_handoff_prefill_is_one_prefill(restarts: Restarts) -> None:
    """Point 1: of a timeline with a thought in it."""
    think(restarts.engine, A, STEPS, *PROMPT[:250])
    restarts.engine.fork_agent(A, "b")
    engine = restarts.restart()
    feed(engine, B, *PROMPT[300:600], tokens=None)
    assert held(engine, B) == prefilled(engine, B)
    feed(engine, A, *PROMPT[300:600], tokens=None)
    assert held(engine, A) == held(engine, B)


@pytest.mark.parametrize("lose", ["file", "cold"])
def test_lost_blocks_are_computed_again_from_the_record(restarts: Restarts, state: Path, lose: str) -> None:
    engine = restarts.engine
    think(engine, A, STEPS, *PROMPT[:250])
    feed(engine, A, *PROMPT[300:600])
    before = held(engine)
    if lose == "cold":
        engine.evict_agent(A, Residency.COLD)
    else:
        for block in engine.get_agent(A).blocks:
            (file,) = state.glob(f"**/{block.key}.safetensors")
            file.unlink()
        engine = restarts.restart()
    assert engine.prefetch_agent(A).recomputed_tokens == 576
    assert held(engine) == before
    assert engine.verify().problems == ()
    engine = restarts.restart()
    assert engine.prefetch_agent(A).recomputed_tokens == 0
    assert held(engine) == before


def test_forks_never_change_the_parent(restarts: Restarts) -> None:
    """Point 8, with restarts and evictions between."""
    engine = restarts.engine
    think(engine, A, STEPS, *PROMPT[:250])
    parent = held(engine)
    for name in "bc":
        engine.fork_agent(A, name)
    think(engine, B, 3, *PROMPT[10:30], projection=Projection.IDENTITY)
    feed(engine, C, *PROMPT[10:30])
    assert held(engine) == parent
    engine = restarts.restart()
    think(engine, C, 4)
    engine.evict_agent(A)
    think(engine, B, 2)
    assert held(engine) == parent
    for ref in (B, C):
        assert held(engine, ref) == prefilled(engine, ref)
    engine.delete_agent(A)
    engine = restarts.restart()
    for ref in (B, C):
        assert held(engine, ref) == prefilled(engine, ref)
    assert engine.verify().problems == ()


@pytest.mark.parametrize("hot", [True, False], ids=["hot", "warm"])
def test_rewind_and_fork_at_a_turn_between_thoughts(restarts: Restarts, hot: bool) -> None:
    engine = restarts.engine
    think(engine, A, STEPS, *PROMPT[:240])
    first = held(engine)
    think(engine, A, 6, projection=Projection.IDENTITY)
    second = held(engine)
    feed(engine, A, *PROMPT[300:310])
    engine = engine if hot else restarts.restart()
    engine.fork_agent(A, "b", at_turn=1)
    assert held(engine, B) == first
    engine.rewind_agent(A, 1)
    assert held(engine) == first
    think(engine, A, 6, projection=Projection.SOFTMAX)  # another thought of the same length in the same place
    third = held(engine)
    assert third != second
    engine.rewind_agent(A, 2)
    engine = engine if hot else restarts.restart()
    assert held(engine) == second == prefilled(engine)
    engine.rewind_agent(A, 5)
    assert held(engine) == third == prefilled(engine)
    engine.prune(namespace="default", agent="a")
    engine = restarts.restart()
    assert held(engine) == third == prefilled(engine)
    engine.rewind_agent(A, 0)
    assert engine.get_agent(A).exactness is Exactness.EXACT
    feed(engine, A, *PROMPT[:10])
    assert engine.get_agent(A).exactness is Exactness.EXACT
    assert engine.verify().problems == ()


def test_text_behind_a_thought_shares_nothing_with_text_behind_text(engine: Engine) -> None:
    """Point 10, for thoughts: only what comes before the thought is shared."""
    more = PROMPT[250:600]
    think(engine, A, STEPS, *PROMPT[:250])
    feed(engine, A, *more, tokens=None)
    _, usage = feed(engine, B, *PROMPT[:600], tokens=None)
    assert usage.reused_hot_tokens + usage.reused_warm_tokens == 250
    assert held(engine, B) == prefilled(engine, B)
    assert not {block.key for block in engine.get_agent(A).blocks} & {b.key for b in engine.get_agent(B).blocks}
    engine.delete_agent(B)
    _, usage = feed(engine, B, *recorded(engine)[:250], *[0] * STEPS, *more, tokens=None)
    assert usage.reused_hot_tokens + usage.reused_warm_tokens == 250


def test_forks_share_what_they_are_fed_behind_the_same_thought(engine: Engine) -> None:
    think(engine, A, STEPS, *PROMPT[:250])
    engine.fork_agent(A, "b")
    think(engine, C, STEPS, *PROMPT[:250], projection=Projection.SOFTMAX)
    feed(engine, A, *PROMPT[300:600], tokens=None)
    _, usage = feed(engine, B, *PROMPT[300:600], tokens=None)
    assert usage.prefill_tokens == 0
    _, usage = feed(engine, C, *PROMPT[300:600], tokens=None)  # another thought
    assert usage.prefill_tokens == 300
    for ref in (A, B, C):
        assert held(engine, ref) == prefilled(engine, ref)


@pytest.mark.parametrize("more", [30, 300])
def test_thoughts_are_told_apart_even_if_their_ids_are_the_same(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr("agentmem.store.latents.blake2b", SameHash)
    think(engine, A, 4, *PROMPT[:200])
    think(engine, B, 4, *PROMPT[:200], projection=Projection.SOFTMAX)
    feed(engine, A, *PROMPT[300 : 300 + more], tokens=None)
    _, usage = feed(engine, B, *PROMPT[300 : 300 + more], tokens=None)
    assert recorded(engine, A) == recorded(engine, B)
    assert usage.prefill_tokens == more
    assert held(engine, A) == prefilled(engine, A)
    assert held(engine, B) == prefilled(engine, B)
    assert held(engine, B) != held(engine, A)


def test_export_and_import(engine: Engine) -> None:
    think(engine, A, STEPS, *PROMPT[:250])
    feed(engine, A, *PROMPT[300:310])
    file = b"".join(engine.export_agent(A))
    before = held(engine)
    made = engine.import_agent([file], "default", "b")
    assert (made.share, made.exactness) == (Share.PRIVATE, Exactness.LATENT)
    engine.delete_agent(A)
    assert held(engine, B) == before
    engine.delete_agent(B)
    engine.import_agent([file], "default", "c", text_only=True)
    assert engine.prefetch_agent(C).recomputed_tokens == made.tokens
    assert held(engine, C) == before
    assert engine.verify().problems == ()


def test_the_catalog_is_rebuilt_from_records_with_thoughts(settings: EngineSettings) -> None:
    engine = Engine.open(settings)
    think(engine, A, STEPS, *PROMPT[:250])
    think(engine, A, 6)
    feed(engine, A, *PROMPT[300:310])
    engine.fork_agent(A, "b", at_turn=2)
    engine.rewind_agent(A, 2)
    before = held(engine), held(engine, B)
    engine.close()
    (settings.state_dir / "catalog.sqlite").unlink()
    assert rebuild(settings.state_dir).problems == ()
    engine = Engine.open(settings)
    try:
        assert engine.verify().problems == ()
        assert (held(engine), held(engine, B)) == before
        assert engine.prefetch_agent(A).recomputed_tokens == 0
        assert engine.get_agent(A).exactness is Exactness.LATENT
        engine.rewind_agent(A, 1)  # the first thought is in the longer block that took it up
        engine.evict_agent(A)
        assert engine.prefetch_agent(A).recomputed_tokens == 0
        assert held(engine) == prefilled(engine)
    finally:
        engine.close()


def test_another_model_cannot_go_on_from_a_thought(engine: Engine, state: Path, tmp_path: Path) -> None:
    think(engine, A, STEPS, *PROMPT[:50])
    feed(engine, B, *PROMPT[:50])
    file = b"".join(engine.export_agent(A))
    engine.close()
    other = Engine.open(EngineSettings(state, str(write(tmp_path / "other", replace(SPECS[0], seed=9)))))
    try:
        with refused(Reason.MODEL_MISMATCH):
            run(other, thinks(2, 7, rebuild=True))
        with refused(Reason.MODEL_MISMATCH):
            other.import_agent([file], "default", "c", text_only=True)
        think(other, B, 2, 7, rebuild=True)  # it has not thought yet
        assert held(other, B) == prefilled(other, B)
    finally:
        other.close()


def test_what_is_refused(engine: Engine) -> None:
    for steps in (0, -1):
        with refused(Reason.INPUT_INVALID):
            thinks(steps, 7)
    with refused(Reason.EMPTY_INPUT):
        think(engine, A, 3)
    with refused(Reason.AGENT_NOT_FOUND):
        think(engine, A, 3, 7, create=False)
    with refused(Reason.CONTEXT_OVERFLOW):
        think(engine, A, 4096, 7)
    think(engine, A, 3, 7)
    with refused(Reason.TURN_MISMATCH):
        think(engine, A, 3, 7, expect_turn=5)
    assert engine.get_agent(A).turn == 1


def test_a_thought_that_no_record_holds_is_refused_before_work_starts(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the whole timeline: a fork, and what prune leaves, have one record of it."""
    monkeypatch.setattr(limits, "MAX_EMBEDDING_BYTES", 20 * embedding_bytes(engine._context.model))
    think(engine, A, 12, 7)
    with refused(Reason.CONTEXT_OVERFLOW):
        think(engine, A, 9, 7)
    feed(engine, A, 7, tokens=1)
    assert (think(engine, A, 8).turn, engine.get_agent(A).turn) == (3, 3)


def test_a_repeat_gives_the_same_answer(engine: Engine) -> None:
    first = think(engine, A, 3, 7, 8, request_id="one")
    again = think(engine, A, 3, 7, 8, request_id="one")
    assert (again.turn, again.usage.latent_steps, again.repeated_result) == (1, 3, True)
    assert engine.get_agent(A).turn == first.turn
    with refused(Reason.REQUEST_ID_REUSED):
        run(engine, thinks(3, 7, agent=AgentRef("default", "b"), request_id="one"))
    assert finished(attempt(engine, thinks(3, request_id="two"))).turn == 2


@pytest.mark.parametrize("spec", KINDS[1:], ids=lambda spec: spec.kind)
def test_windowed_and_recurrent_layers_keep_a_thought(spec: Spec, tmp_path: Path) -> None:
    restarts = Restarts(EngineSettings(tmp_path / "state", str(write(tmp_path / "ck", spec))))
    try:
        for ref in (A, B):
            restarts.engine.create_agent(ref, share=Share.PRIVATE)
            think(restarts.engine, ref, STEPS, *PROMPT[:250])
        said, _ = feed(restarts.engine, B, *PROMPT[300:310])
        restarts.restart()
        again, usage = feed(restarts.engine, A, *PROMPT[300:310])
        assert (again, usage.recomputed_tokens) == (said, 0)
        restarts.engine.delete_agent(B)
        restarts.engine.rewind_agent(A, 1)
        restarts.engine.evict_agent(A, Residency.COLD)
        again, usage = feed(restarts.engine, A, *PROMPT[300:310])
        assert (again, usage.recomputed_tokens) == (said, 270)
        assert restarts.restart().verify().problems == ()
        with refused(Reason.EMPTY_INPUT):
            think(restarts.engine, A, 3)
    finally:
        restarts.engine.close()


def test_embeddings_count_in_both_budgets(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = engine._context.memory
    promised: list[int] = []
    free = DiskBudget._free

    def noted(self: DiskBudget, ref: AgentRef, agent_id: str, needed: int, *relied_on: Any) -> None:
        promised.append(needed)
        free(self, ref, agent_id, needed, *relied_on)

    monkeypatch.setattr(DiskBudget, "_free", noted)
    for given in (PROMPT[:10], PROMPT[:1]):
        done = think(engine, A, 300, *given)
        assert done.usage.bytes_written <= promised[-1] < 2 * done.usage.bytes_written
    store = engine._context.store
    before = store.total_bytes()
    engine.fork_agent(A, "b")
    assert store.total_bytes() - before <= promised[-1]
    file = b"".join(engine.export_agent(A))
    engine.import_agent([file], "other", "c")
    assert len(file) <= promised[-1]
    embedding = 4 * engine._context.model.network.args.hidden_size
    engine.evict_agent(B)
    engine.evict_agent(AgentRef("other", "c"))
    assert memory._budget._free(C) == memory._budget.limit - memory.pool.nbytes - 600 * embedding

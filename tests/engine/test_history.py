"""Sharing, branching and letting go, on a tiny checkpoint: content equal to a cold run, work counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.types import AgentRef, Residency, Share, TurnKind
from tests.engine.runs import PROMPT, A, B, C, cold, feed, finished, request, run, said


@pytest.mark.parametrize("length", [256, 257, 511, 512, 700])
def test_a_prompt_that_another_agent_had_is_not_computed_again(engine: Engine, length: int) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    got, usage = feed(engine, B, *PROMPT[:length])
    taken = length - 1 if (length - 1) % 256 >= 16 or (length - 1) % 256 == 0 else (length - 1) // 256 * 256
    assert usage.prefill_tokens == length - taken
    assert usage.reused_hot_tokens + usage.reused_warm_tokens == taken
    assert got == cold(engine, PROMPT[:length])


def test_matching_is_per_token_inside_a_block(engine: Engine) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    mine = (*PROMPT[:600], *(9, 8, 7) * 20)
    got, usage = feed(engine, B, *mine)
    assert usage.prefill_tokens == len(mine) - 600
    assert got == cold(engine, mine)


def test_a_later_turn_is_matched_too_inside_a_block(engine: Engine) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    feed(engine, B, *PROMPT[:100], tokens=None)
    got, usage = feed(engine, B, *PROMPT[100:650])
    assert usage.prefill_tokens == 1
    assert got == cold(engine, PROMPT[:100], PROMPT[100:650])
    assert engine.get_agent(B).blocks[0].key == engine.get_agent(A).blocks[0].key


def test_a_match_is_found_on_disk_after_a_restart(checkpoint: Path, tmp_path: Path) -> None:
    settings = EngineSettings(tmp_path / "state", str(checkpoint))
    first = Engine.open(settings)
    feed(first, A, *PROMPT, tokens=None)
    first.close()
    engine = Engine.open(settings)
    try:
        got, usage = feed(engine, B, *PROMPT)
        assert (usage.prefill_tokens, usage.reused_hot_tokens) == (1, 0)
        assert usage.reused_warm_tokens == len(PROMPT) - 1
        assert usage.bytes_read > 0
        assert got == cold(engine, PROMPT)
    finally:
        engine.close()


def test_private_agents_neither_give_nor_take(engine: Engine) -> None:
    engine.create_agent(A, share=Share.PRIVATE)
    feed(engine, A, *PROMPT, tokens=None)
    assert feed(engine, B, *PROMPT)[1].prefill_tokens == len(PROMPT)
    engine.create_agent(C, share=Share.PRIVATE)
    assert feed(engine, C, *PROMPT)[1].prefill_tokens == len(PROMPT)


def test_another_namespace_shows_no_hit_and_shares_no_file(engine: Engine) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    elsewhere = AgentRef("team", "a")
    assert feed(engine, elsewhere, *PROMPT, tokens=None)[1].prefill_tokens == len(PROMPT)
    keys = [{block.key for block in engine.get_agent(ref).blocks} for ref in (A, elsewhere)]
    assert not keys[0] & keys[1]


def test_shared_state_is_held_once_in_ram(engine: Engine) -> None:
    feed(engine, A, *PROMPT[:512], tokens=None)
    alone = engine.stats().hot_bytes
    feed(engine, B, *PROMPT[:512], 7, tokens=None)
    added = engine.stats().hot_bytes - alone
    assert added <= alone // 2  # one segment for its own token


@pytest.mark.parametrize("hot", [True, False])
@pytest.mark.parametrize("at", [1, 2, None])
def test_a_fork_goes_on_as_a_cold_run_would(engine: Engine, at: int | None, hot: bool) -> None:
    turns = (PROMPT[:300], PROMPT[300:330], PROMPT[330:560])
    for ids in turns:
        feed(engine, A, *ids, tokens=None)
    if not hot:
        engine.evict_agent(A)
    view, recompute = engine.fork_agent(A, "b", at_turn=at)
    assert (view.turn, recompute, view.tokens) == (1, 0, sum(map(len, turns[: at or 3])))
    got, usage = feed(engine, B, 11, 12, 13)
    assert usage.recomputed_tokens == 0
    assert usage.prefill_tokens == 3
    assert got == cold(engine, *turns[: at or 3], (11, 12, 13))
    again, _ = feed(engine, A, 21, 22)
    assert again == cold(engine, *turns, (21, 22))


def test_a_fork_of_a_hot_agent_reads_its_last_block_only(engine: Engine) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    engine.fork_agent(A, "b")
    usage = feed(engine, B, 11)[1]
    assert (usage.reused_hot_tokens, usage.reused_warm_tokens) == (512, 188)


@pytest.mark.parametrize("hot", [True, False])
@pytest.mark.parametrize("to", [0, 1, 2, 3])
def test_a_rewound_agent_goes_on_as_a_cold_run_would(engine: Engine, to: int, hot: bool) -> None:
    turns = (PROMPT[:300], PROMPT[300:330], PROMPT[330:560])
    for ids in turns:
        feed(engine, A, *ids, tokens=None)
    if not hot:
        engine.evict_agent(A)
    view, recompute = engine.rewind_agent(A, to)
    assert (view.turn, recompute, view.tokens) == (4, 0, sum(map(len, turns[:to])))
    got, usage = feed(engine, A, 11, 12, 13)
    assert usage.recomputed_tokens == 0
    assert got == cold(engine, *turns[:to], (11, 12, 13))
    back, _ = engine.rewind_agent(A, 3)  # undone: history is append-only
    assert back.tokens == 560
    assert feed(engine, A, 31)[0] == cold(engine, *turns, (31,))
    kinds = [turn.kind for turn in engine.list_turns(A)]
    assert kinds[3:] == [TurnKind.REWIND, TurnKind.GENERATE, TurnKind.REWIND, TurnKind.GENERATE]


def test_a_fork_outlives_its_source(engine: Engine) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    engine.fork_agent(A, "b")
    engine.delete_agent(A)
    engine.evict_agent(B)
    got, usage = feed(engine, B, 11)
    assert usage.recomputed_tokens == 0
    assert got == cold(engine, PROMPT, (11,))


def test_diff_says_where_two_timelines_part(engine: Engine) -> None:
    feed(engine, A, *PROMPT[:300], tokens=None)
    feed(engine, A, *PROMPT[300:400], tokens=None)
    engine.fork_agent(A, "b", at_turn=1)
    diff = engine.diff_agents(A, B)
    assert (diff.position, diff.a_turn, diff.b_turn) == (300, 2, 0)
    feed(engine, B, *PROMPT[300:310], 3, tokens=None)
    diff = engine.diff_agents(A, B)
    assert (diff.position, diff.a_turn, diff.b_turn, diff.a_tokens, diff.b_tokens) == (310, 2, 2, 400, 311)


def test_evicting_says_what_it_frees_and_prefetching_brings_it_back(engine: Engine) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    would = engine.evict_agent(A, dry_run=True)
    assert engine.get_agent(A).residency is Residency.HOT
    assert engine.evict_agent(A) == would
    assert would.ram_bytes > 0
    assert engine.stats().hot_bytes == 0
    brought = engine.prefetch_agent(A)
    assert (brought.hot_tokens, brought.warm_tokens, brought.recomputed_tokens) == (0, 700, 0)
    assert engine.get_agent(A).residency is Residency.HOT


def test_a_cold_agent_is_computed_again_from_its_record(engine: Engine) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    would = engine.evict_agent(A, Residency.COLD, dry_run=True)
    assert engine.evict_agent(A, Residency.COLD) == would
    assert would.disk_bytes > 0
    events = run(engine, request(11))
    assert finished(events).usage.recomputed_tokens == 700
    assert finished(events).warnings == ()
    assert said(events) == cold(engine, PROMPT, (11,), tokens=4)


def test_agents_that_hold_copies_of_their_own_leave_nothing_behind(engine: Engine) -> None:
    for ref in (A, B):
        engine.create_agent(ref, share=Share.PRIVATE)
        feed(engine, ref, *PROMPT[:600], tokens=None)
        feed(engine, ref, *PROMPT[600:], tokens=None)
    engine.evict_agent(A)
    engine.rewind_agent(B, 1)
    assert feed(engine, B, 11)[1].reused_hot_tokens == 600
    for ref in (A, B):
        engine.delete_agent(ref)
    assert engine.stats().hot_bytes == 0


def test_timelines_of_few_warm_agents_stay_in_ram(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmem.memory.lookup.WARM_KEPT", 2)
    refs = [AgentRef("default", f"agent-{n}") for n in range(6)]
    for ref in refs:
        feed(engine, ref, 5, 6, 7)
        engine.evict_agent(ref)
    kept = engine._context.memory._agents
    assert len(kept) <= 3
    assert refs[-1] in kept
    assert feed(engine, refs[0], 8)[1].reused_warm_tokens == 3 + 6

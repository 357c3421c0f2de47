"""The demo's cast: texts and facts fit the embedded model, and right answers are told from wrong ones."""

from __future__ import annotations

import json
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import agentmem_daemon.cli.demo as command
import pytest
from agentmem_client import AgentInfo, Reply, Timings, Usage
from agentmem_daemon.demo.cast import CAST, Character
from agentmem_daemon.demo.measure import Answer, Restored, lesson_turns, why_anew
from agentmem_daemon.demo.play import Outcome
from tokenizers import Tokenizer

from tests.cli.conftest import Agentmem

TOKENIZER = Tokenizer.from_str((files("agentmem") / "model" / "embedded" / "tokenizer.json").read_text("utf-8"))


def tokens(text: str) -> int:
    return len(TOKENIZER.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("character", CAST, ids=lambda character: character.name)
def test_texts_fit_the_context(character: Character) -> None:
    assert character.text.isascii()
    assert 1200 <= tokens(character.text) <= 1350
    assert sum(tokens(message) for message in character.lesson()) <= 250
    # No text gives an answer away.
    assert not [fact.value for fact in character.facts if fact.value.lower() in character.text.lower()]


@pytest.mark.parametrize("character", CAST, ids=lambda character: character.name)
def test_each_fact_is_told_and_asked_for_once(character: Character) -> None:
    told = " ".join(character.lesson())
    assert all(told.count(fact.value) == 1 for fact in character.facts)
    assert {character.fact_to_ask(n) for n in range(4)} == set(character.facts)
    assert character.fact_to_ask(5) == character.fact_to_ask(1)


def test_only_the_value_asked_for_is_right() -> None:
    planner = CAST[0]
    fact, other = planner.facts[0], planner.facts[1]
    assert planner.is_right(f"It is {fact.value}.", fact)
    assert not planner.is_right(f"It is {other.value}.", fact)
    assert not planner.is_right(f"It is {fact.value} or {other.value}.", fact)
    assert not planner.is_right("I don't know.", fact)


def an_info(turn: int, tokens: int = 1300, model_matches: bool = True) -> AgentInfo:
    return AgentInfo(
        name="planner", namespace="default", id="i", turn=turn, tokens=tokens, residency="WARM",
        model_matches=model_matches, state_id="s", create_time=None, last_used_time=None, disk_bytes=0, ram_bytes=0,
        exactness="EXACT", pinned=False, expire_time=None, share="NAMESPACE", unsaved_turns=0,
        blocks=(),
    )  # fmt: skip


def test_who_begins_anew() -> None:
    planner, lesson = CAST[0], lesson_turns(CAST[0])
    assert why_anew(planner, an_info(lesson), 2048) is None
    assert why_anew(planner, None, 2048) is not None
    assert "broke off" in (why_anew(planner, an_info(lesson - 1), 2048) or "")
    assert "another model" in (why_anew(planner, an_info(lesson, model_matches=False), 2048) or "")
    assert "no room" in (why_anew(planner, an_info(lesson, tokens=2040), 2048) or "")


def a_reply(text: str, **usage: int) -> Reply:
    counts = dict.fromkeys((f.name for f in fields(Usage)), 0) | {"exactness": "EXACT", "misses": ()} | usage
    return Reply(
        text=text, turn=4, finish_reason="STOP", stop_sequence="", usage=Usage(**counts),
        timings=Timings(0, 0, 0, 0.5, 0, 0), durable=True, warnings=(), seed=0, repeated_result=False, request_id="",
        token_ids=(),
    )  # fmt: skip


def restored(text: str, cold_prefill: int = 1310, **usage: int) -> Restored:
    planner = CAST[0]
    cold = a_reply("", prompt_tokens=1310, prefill_tokens=cold_prefill)
    return Restored(Answer(planner, planner.facts[0], a_reply(text, prompt_tokens=1310, **usage)), 1300, 0, cold)


def test_what_the_demo_complains_about() -> None:
    right, wrong = CAST[0].facts[0].value, CAST[0].facts[1].value
    assert restored(right, reused_warm_tokens=1300).complaints() == []
    assert restored(right, reused_warm_tokens=1000, reused_hot_tokens=300).complaints() == []
    assert "not 'cedar-42'" in restored(wrong, reused_warm_tokens=1300).complaints()[0]
    assert "1000 were reused" in restored(right, reused_warm_tokens=1000).complaints()[0]
    assert "300 recomputed" in restored(right, reused_warm_tokens=1000, recomputed_tokens=300).complaints()[0]
    assert "says nothing" in restored(right, cold_prefill=10, reused_warm_tokens=1300).complaints()[0]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_demo_that_went_wrong_fails(
    agentmem: Agentmem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    right, wrong = CAST[0].facts[0].value, CAST[0].facts[1].value
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    for said, complaints in ((right, []), (wrong, ["planner was wrong"])):
        outcome = Outcome([], [restored(said, reused_warm_tokens=1300)], complaints)
        monkeypatch.setattr(command, "_run", lambda *_, outcome=outcome: outcome)
        result = agentmem("demo", "--state", str(tmp_path / said), *(["--json"] if as_json else []))
        assert result.code == (1 if complaints else 0)
        assert ("error: planner was wrong" in result.err) is bool(complaints)
        if as_json:
            document = json.loads(result.out)
            assert (document["ok"], document["agents"][0]["right"]) == (not complaints, not complaints)

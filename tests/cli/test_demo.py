"""The demo's cast: texts and facts fit the embedded model, and right answers are told from wrong ones."""

from __future__ import annotations

from importlib.resources import files

import pytest
from agentmem_daemon.demo.cast import CAST, Character
from tokenizers import Tokenizer

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

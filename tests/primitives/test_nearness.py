"""Similarity means the same for every query, and what is not near runs no plan of the pool."""

from __future__ import annotations

import math

import pytest

from agentmem.primitives import knowledge
from agentmem.primitives.knowledge import KnowledgePool
from agentmem.primitives.nearness import FLOOR, LEAST, OWN, PASSING, UNKNOWN, Holders, Nearness
from agentmem.primitives.organizer import DEFAULT, NOTHING_NEAR, PlanSource, choose
from tests.primitives.plans import plan

REPORT = (
    "The committee met on Tuesday and heard evidence from several farmers about the price of milk. Two of them said "
    "that their costs had doubled in a year, while the shops had paid the same. The minister answered that a market "
    "cannot be told what to pay, and that help was on its way for small farms. A report is expected in spring. "
    "Meanwhile the dairies have begun to buy from abroad, where the law is different; unions warn of closing villages."
)
CODE = (
    "def merge(a, b): out = [] while a and b: out.append(a.pop(0) if a[0] < b[0] else b.pop(0)) return out + a + b "
    "class Tree: def insert(self, key): node = self while node: node = node.left if key < node.key else node.right"
)
NEAR = {
    "Review this pull request and look for bugs in the diff": "code-review",
    f"Review this code for bugs: {CODE}": "code-review",
    f"{CODE} Write unit tests for it": "write-tests",
    "Why does this script crash with a KeyError? Traceback below": "bug-hunt",
    "Write a Python function that merges two sorted lists": "write-function",
    "Refactor this class and remove the duplication": "refactor",
    "Explain what this regular expression does": "explain-code",
    "Make this loop faster, here is the profile": "speed-up",
    "Write the README for this tool": "technical-docs",
    "Please summarise the following article for me": "summarise",
    "Summarise": "summarise",
    "Summarize this report": "summarise",
    "Translate into German": "translate",
    f"{REPORT} Translate the text above into French.": "translate",
    "Write a haiku about the sea": "story",
    "Draft a polite reply to this complaint": "email",
    "Solve the equation 3x + 5 = 20": "equation",
    "Prove it by induction": "proof",
    "How many piano tuners are there in Chicago?": "estimate",
    "Convert 5 cups of flour to grams": "unit-conversion",
    "Plan a three-day trip to Lisbon on a small budget": "travel-plan",
    "Which is true? A) ... B) ... C) ... D) multiple choice": "multiple-choice",
    "What are the risks in this rental contract?": "contract",
    "Compare these two versions of the contract": "compare-documents",
    "Brainstorm names for a coffee shop": "product-text",
    "Design an A/B test for the new checkout page": "experiment",
    "Is this claim true: vaccines cause autism?": "fact-check",
    "Give me the SQL for the ten best customers": "sql-query",
    "Answer as JSON that follows this schema": "json-output",
    "Grade this exam answer by the rubric": "grade",
    "Prepare me for my salary negotiation": "negotiation",
    "Make a quiz with solutions about photosynthesis": "lesson",
    "My car makes a noise, what are possible causes? List symptoms and diagnosis": "diagnosis",
}
"""What the pool has something for, and the entry that a person would choose."""

SHARES_A_COMMON_WORD = [
    "Who wrote the code of Hammurabi?",
    "Which code do I dial for Portugal?",
    "Nice code",
    "Any questions?",
    "What is the answer?",
    "What is the point of life?",
    "What happened in Berlin in 1989?",
    "Name of the actor in the film with the shark",
    "What is the best way to remove red wine from a carpet?",
    "My cat keeps stealing my socks",
    "How do bees find their way home?",
    "What does my neighbour's dog bark at all day?",
    "My phone does not turn on since the update",
    "How is the team?",
    "Who is the author?",
    REPORT,
]
FAR = [
    *SHARES_A_COMMON_WORD,
    "How old is the universe?",
    "Why is the sky blue?",
    "Recommend me a good film for tonight",
    "I feel a bit lonely this evening",
    "How do I boil an egg?",
    "Tell me a joke",
    "What should I cook with leeks and potatoes?",
    "Can you help me?",
    "What do you think about the weather?",
    "Where did I leave my keys?",
    "Is it safe to eat raw mushrooms?",
    "Who won the football match last night?",
    "The meeting is at three in the main building",
    "I need new shoes for running in the rain",
    "How long does it take to drive from Oslo to Bergen?",
    "How deep is the ocean?",
    "Do fish feel pain when they are caught?",
    "When was the first bridge over the Thames built?",
    "My train was late again today and I am cross",
    "What colour goes with dark green curtains?",
    "Is there life on Mars?",
    "Remind me what we talked about yesterday",
    "What is the difference between a crow and a raven?",
    "Should I paint the kitchen before or after the floor is laid?",
    "What is the meaning of the word serendipity?",
    "How many legs has a spider?",
    "A table for two at eight",
    "That is a problem",
    "I had a long conversation with my landlord",
    "Continue",
    "Yes please",
    "And then?",
    "go on with the second one",
]
"""What one agent answers."""


@pytest.mark.parametrize("query", SHARES_A_COMMON_WORD)
def test_one_common_word_makes_no_entry_near(pool: KnowledgePool, query: str) -> None:
    matches = pool.nearest(query)
    assert matches
    found = choose(query, pool.nearest)
    assert (found.source, found.entry_id, found.why) == (PlanSource.DEFAULT, "", NOTHING_NEAR)
    assert [node.type for node in found.plan.nodes] == ["answer"]
    assert found.matches == tuple(matches)  # told of, all the same


def test_the_floor_lies_between_what_is_near_and_what_is_far(pool: KnowledgePool) -> None:
    chosen = {query: choose(query, pool.nearest).entry_id for query in (*NEAR, *FAR)}
    lost = [query for query, wanted in NEAR.items() if chosen[query] != wanted]
    kept = [query for query in FAR if chosen[query]]
    assert len(lost) <= len(NEAR) // 20, lost
    assert len(kept) <= len(FAR) // 10, kept


def test_similarity_says_how_much_of_the_query_an_entry_covers(pool: KnowledgePool) -> None:
    asked = ("write unit tests", "write unit tests for zebras and giraffes", "write tests for zebras and giraffes")
    best = [pool.nearest(query, 1)[0] for query in asked]
    assert {match.entry.id for match in best} == {"write-tests"}
    assert 1 > best[0].similarity > best[1].similarity > best[2].similarity > 0
    (whole,) = pool.nearest("Grade this exam answer by the rubric", 1)
    assert whole.similarity == 1


def test_words_of_any_request_change_nothing(pool: KnowledgePool) -> None:
    plain = pool.nearest("summarise article")
    assert pool.nearest("Could you please help me to summarise the following article, so that I know it now?") == plain


def test_a_query_that_was_recorded_is_near_itself_however_long(pool: KnowledgePool) -> None:
    for query in ("zebra husbandry", f"Zebra husbandry: {REPORT}", f"{CODE} {REPORT} {CODE}"):
        learned = pool.record(query, plan("vote"), 1.0)
        assert choose(query, pool.nearest).entry_id == learned.id


@pytest.mark.parametrize("query", ["Translate this", "Summarize this", "Proofread", "Solve it", "REVIEW: diff"])
def test_a_query_that_was_recorded_is_as_near_itself_as_can_be_however_short(pool: KnowledgePool, query: str) -> None:
    learned = pool.record(query, plan("vote"), 1.0)
    found = choose(query, pool.nearest)
    assert (found.entry_id, found.matches[0].similarity) == (learned.id, 1)
    longer = f"{query} sonnets"
    (match,) = [m for m in pool.nearest(longer, 100) if m.entry.id == learned.id]
    assert match.similarity < 1


@pytest.mark.parametrize(
    "kind", ["Summarise the meeting notes of {}", "Review this pull request by {}", "Reconcile the ledger of {}"]
)
def test_learning_does_not_make_the_pool_forget(pool: KnowledgePool, kind: str) -> None:
    """However often a kind of task comes, the next one is as near those recorded, and what is shipped is as near it."""
    query = kind.format("Zork")

    def similarities() -> tuple[dict[str, float], set[float]]:
        matches = pool.nearest(query, 100)
        learned = {m.similarity for m in matches if m.entry.source == "learned"}
        return {m.entry.id: m.similarity for m in matches if m.entry.source == "shipped"}, learned

    shipped, _ = similarities()
    for number in range(60):
        pool.record(kind.format(f"Name{number}"), DEFAULT, 1.0)
        if number in (0, 30, 59):
            now, (learned,) = similarities()
            assert now == shipped
            assert learned > FLOOR
            assert choose(query, pool.nearest).entry_id.startswith("learned-")


@pytest.mark.parametrize(
    "query",
    ["Where is the ledger?", "Show me the ledger", "My train in March was late again", "How long are the minutes?"],
)
def test_one_word_of_a_learned_entry_makes_it_not_near(pool: KnowledgePool, query: str) -> None:
    """Be it one that a shipped entry has in its description, such as minutes."""
    pool.record("Reconcile the ledger of March", DEFAULT, 1.0)
    pool.record("Minutes of the tennis club", DEFAULT, 1.0)
    assert choose("Reconcile the ledger of April", pool.nearest).source is PlanSource.POOL
    assert not choose(query, pool.nearest).entry_id.startswith("learned-")


def test_what_is_far_stays_far_from_whatever_else_was_recorded(pool: KnowledgePool) -> None:
    for query in FAR:
        pool.record(query, DEFAULT, 1.0)
    for query in FAR:
        matches = [m for m in pool.nearest(query, 100) if m.entry.source == "learned" and m.similarity >= FLOOR]
        assert {m.entry.description for m in matches} <= {query}


def test_a_shipped_entry_is_looked_at_however_many_learned_ones_are_nearer(
    pool: KnowledgePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans that failed for a kind of task, again and again, do not keep one from being tried that has not."""
    monkeypatch.setattr(knowledge, "CANDIDATES", 5)
    query = "Summarise the meeting notes of {}"
    wanted = choose(query.format("Zork"), pool.nearest).entry_id
    assert wanted
    for number in range(12):
        for _ in range(8):
            pool.record(query.format(f"Name{number}"), plan("vote"), 0.0)
    assert choose(query.format("Zork"), pool.nearest).entry_id == wanted


def test_the_most_similar_learned_entries_are_looked_at(pool: KnowledgePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those that stand first by bm25: a short one of a rare word, which only says what the task is about."""
    monkeypatch.setattr(knowledge, "CANDIDATES", 5)
    learned = pool.record("Write the code that reads a ledger line by line and notes whatever differs", DEFAULT, 1.0)
    for word in ("harpsichord", "pelican", "monsoon", "quarry"):
        for number in range(2):
            pool.record(f"{word} {number}", DEFAULT, 1.0)
    assert choose("Write code: harpsichord, pelican, monsoon, quarry", pool.nearest).entry_id == learned.id


def test_how_much_words_weigh() -> None:
    """Of three shipped entries and a learned one: what all have least, what none has by UNKNOWN, what only the learned
    one has by OWN for it; in passing half; the better end counts."""
    holders = {
        "all": Holders(frozenset({1, 2, 3, 4}), frozenset({1})),
        "one": Holders(frozenset({2}), frozenset({2})),
        "none": Holders(),
        "own": Holders(frozenset({4}), frozenset({4})),
        "passing": Holders(frozenset({1, 4}), frozenset({4})),
    }
    every, one, none = math.log(2), math.log(4), math.log(7)

    def similarity(number: int, *ends: list[str]) -> float:
        return Nearness(ends, holders, frozenset({1, 2, 3})).similarity(number)

    many = ["one"] * 9
    assert similarity(2, many) == 1
    assert similarity(3, many) == 0
    weight = 9 * one + every + UNKNOWN * none
    assert similarity(2, [*many, "all", "none"]) == pytest.approx((9 * one + PASSING * every) / weight)
    assert similarity(1, [*many, "all", "none"]) == pytest.approx(every / weight)
    assert similarity(2, ["one"]) == pytest.approx(one / (LEAST * none))  # too little to be a whole
    assert similarity(2, ["all", "none"], ["one"]) == similarity(2, ["one"], ["none"]) == similarity(2, ["one"])
    assert similarity(1) == 0
    weight = 9 * OWN * none + UNKNOWN * none
    assert similarity(4, ["own"] * 9 + ["none"]) == pytest.approx(9 * OWN * none / weight)
    assert similarity(1, ["own"] * 9 + ["all"]) == pytest.approx(every / (every + 9 * UNKNOWN * none))
    assert similarity(4, ["own"]) == pytest.approx(OWN / LEAST)
    assert similarity(4, ["passing"]) == pytest.approx(OWN * one / (LEAST * none))
    assert similarity(1, ["passing"]) == pytest.approx(PASSING * one / (LEAST * none))
    assert similarity(4, ["own"]) < FLOOR < similarity(4, ["own"] * 2)
    assert 0 < FLOOR < 1

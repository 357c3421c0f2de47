"""The pool's answers: nearness, recorded scores, export and import."""

from __future__ import annotations

import io
import json
import logging
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives import knowledge, pooldb
from agentmem.primitives.entry import Entry, Outcomes
from agentmem.primitives.knowledge import PRIOR, KnowledgePool, expected_score
from agentmem.primitives.plan import Plan
from tests.primitives.plans import document, node, plan

REVIEW, VOTE = plan("review"), plan("vote", solvers=5)
SEPARATORS = "line\u2028two\x85three\x0bfour\r\nfive"
"""What str.splitlines would cut."""


def refused(reason: Reason, call: object, *args: object) -> AgentmemError:
    with pytest.raises(AgentmemError) as caught:
        call(*args)  # type: ignore[operator]
    assert caught.value.reason is reason
    return caught.value


def ids(pool: KnowledgePool, query: str, k: int = 5) -> list[str]:
    return [m.entry.id for m in pool.nearest(query, k)]


def test_matches_come_best_first(pool: KnowledgePool) -> None:
    found = pool.nearest("review this pull request, look for bugs", 5)
    assert len(found) == 5
    assert [m.rank for m in found] == sorted((m.rank for m in found), reverse=True)
    assert all(0 < m.similarity <= 1 and m.rank == m.similarity * PRIOR for m in found)


@pytest.mark.parametrize("query", ["", " ", "?!", "\x00\ud800", '"', "' OR 1=1 --", "* ^ NEAR( ) :", "zzzyzx"])
def test_a_query_that_shares_no_word_finds_nothing(pool: KnowledgePool, query: str) -> None:
    assert pool.nearest(query) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200))
def test_any_text_may_be_asked_for(pool: KnowledgePool, query: str) -> None:
    assert len(pool.nearest(query, 3)) <= 3


@pytest.mark.parametrize("k", [0, -1, 101])
def test_k_has_a_range(pool: KnowledgePool, k: int) -> None:
    refused(Reason.INPUT_INVALID, pool.nearest, "code", k)


def test_learned_entries_are_found_in_any_script(pool: KnowledgePool) -> None:
    for query, later in [
        ("请帮我审查这段代码", "审查代码"),
        ("コードをレビューしてください", "レビュー"),
        ("проверь мой перевод", "ПРОВЕРЬ"),
        ("ช่วยแปลข้อความนี้", "แปลข้อความ"),
        ("résumé übersetzen", "resume"),
    ]:
        entry = pool.record(query, VOTE, 0.9)
        assert ids(pool, later)[0] == entry.id


def test_scores_decide_between_matches_alike(path: Path) -> None:
    with KnowledgePool(path, shipped=False) as pool:
        good, bad = pool.record("sort the list", VOTE, 1.0), pool.record("sort the list", REVIEW, 0.0)
        found = pool.nearest("sort a list")
        assert [m.entry.id for m in found] == [good.id, bad.id]
        assert found[0].similarity == found[1].similarity
        assert [m.rank / m.similarity for m in found] == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
        for _ in range(20):
            pool.record("sort the list", VOTE, 0.0)
        assert ids(pool, "sort a list") == [bad.id, good.id]


def test_a_plan_that_keeps_failing_gives_way_to_one_that_is_less_similar(pool: KnowledgePool) -> None:
    query = "please review the code of my pull request for bugs"
    learned = pool.record(query, VOTE, 0.5)
    assert ids(pool, query)[0] == learned.id
    for _ in range(30):
        pool.record(query, VOTE, 0.0)
    assert ids(pool, query)[0] == "code-review"


def test_an_outcome_counts_for_the_entry_that_the_plan_came_from(pool: KnowledgePool) -> None:
    source = pool.get("code-review")
    assert source is not None
    learned = pool.record("look at my diff", source.plan, 0.25, entry=source.id)
    pool.record("look at my diff", source.plan, 0.75, entry=learned.id)
    pool.record("look at my diff", source.plan, 0.5, entry="gone")
    assert pool.get(source.id) == source.model_copy(update={"outcomes": Outcomes(count=1, mean=0.25)})
    again = pool.get(learned.id)
    assert again is not None
    assert again.outcomes == Outcomes(count=3, mean=0.5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200))
@settings(max_examples=50)
def test_the_mean_is_the_mean_and_stays_in_range(scores: list[float]) -> None:
    outcomes = Outcomes()
    for score in scores:
        outcomes = Outcomes.model_validate_json(outcomes.with_score(score).model_dump_json())
    assert outcomes.count == len(scores)
    assert outcomes.mean == pytest.approx(math.fsum(scores) / len(scores), abs=1e-12)
    assert 0 < expected_score(outcomes) < 1


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan, math.inf])
def test_a_score_out_of_range_is_refused(pool: KnowledgePool, score: float) -> None:
    before = list(pool.export_lines())
    refused(Reason.INPUT_INVALID, pool.record, "query", VOTE, score)
    assert list(pool.export_lines()) == before


@pytest.mark.parametrize("query", ["", " \n", "my PIN is 1234 \ud800"])
def test_a_query_that_is_none_cannot_be_recorded(pool: KnowledgePool, query: str) -> None:
    error = refused(Reason.INPUT_INVALID, pool.record, query, VOTE, 0.5)
    assert "1234" not in f"{error.message}{error.__cause__}"


def test_recorded_outcomes_are_there_after_reopening(path: Path) -> None:
    with KnowledgePool(path) as pool:
        recorded = pool.record("a" * 10_000, VOTE, 0.3)
        lines = list(pool.export_lines())
    with KnowledgePool(path) as pool:
        assert pool.get(recorded.id) == recorded
        assert list(pool.export_lines()) == lines


def test_the_oldest_learned_entry_makes_room(pool: KnowledgePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "MAX_LEARNED", 3)
    made = [pool.record(f"query number {i}", VOTE, 0.5).id for i in range(3)]
    pool.record("query number 1", VOTE, 0.5)
    assert all(pool.get(id) for id in made)
    pool.record("query number 3", VOTE, 0.5)
    assert [pool.get(id) is not None for id in made] == [False, True, True]
    assert pool.get("code-review") is not None


def test_what_is_forgotten_is_not_in_the_file(path: Path) -> None:
    with KnowledgePool(path) as pool:
        kept = pool.record("keepsake of mine", VOTE, 0.5)
        secret = pool.record("xylophone passphrase is swordfish", VOTE, 0.5)
        assert b"swordfish" in b"".join(p.read_bytes() for p in path.parent.iterdir())
        assert pool.forget(secret.id)
        assert not pool.forget(secret.id)
        assert not pool.forget("code-review")
        assert pool.get(kept.id) == kept
        assert ids(pool, "xylophone passphrase swordfish") == []
        for file in path.parent.iterdir():
            assert b"swordfish" not in file.read_bytes()
            assert b"xylophon" not in file.read_bytes()


def test_a_query_is_neither_stored_nor_logged_by_asking(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), KnowledgePool(path) as pool:
        pool.nearest("review the swordfish code")
        for file in path.parent.iterdir():
            assert b"swordfish" not in file.read_bytes()
        pool.record("review the swordfish code", VOTE, 0.5)
    assert "swordfish" not in caplog.text


def filled(pool: KnowledgePool) -> list[Entry]:
    found = [pool.record(q, p, 0.1) for q in ("first", SEPARATORS, "审查 😀") for p in (VOTE, REVIEW)]
    pool.record("first", VOTE, 0.7, entry="essay")
    return found


@pytest.mark.parametrize("shipped", [True, False])
def test_an_export_makes_another_pool_the_same(tmp_path: Path, pool: KnowledgePool, shipped: bool) -> None:
    filled(pool)
    text = "".join(pool.export_lines())
    with KnowledgePool(tmp_path / "other", shipped=shipped) as other:
        assert other.import_lines(io.StringIO(text)) > 0
        assert "".join(other.export_lines()) == text
        assert other.import_lines(io.StringIO(text)) == 0
        assert "".join(other.export_lines()) == text
        assert [m.entry for m in other.nearest("审查", 3)] == [m.entry for m in pool.nearest("审查", 3)]


def test_an_import_keeps_the_outcomes_that_are_more(tmp_path: Path, pool: KnowledgePool) -> None:
    few = pool.record("query", VOTE, 0.2, entry="essay")
    lines = list(pool.export_lines())
    with KnowledgePool(tmp_path / "other") as other:
        other.record("query", VOTE, 0.9)
        many = other.record("query", VOTE, 0.9)
        assert other.import_lines(lines) == 1
        assert other.get(few.id) == many
        assert (other.get("essay") or few).outcomes == Outcomes(count=1, mean=0.2)
        pool.import_lines(list(other.export_lines()))
    assert pool.get(few.id) == many


LINE = json.dumps({"id": "learned-x", "title": "t", "description": "PIN 1234", "source": "learned",
                   "plan": json.loads(document(node("a")))})  # fmt: skip


@pytest.mark.parametrize(
    ("change", "line", "why"),
    [
        (lambda lines: [], 1, "header"),
        (lambda lines: lines[1:], 1, "header"),
        (lambda lines: lines[:-1], 1, "fewer"),
        (lambda lines: lines + [LINE], 1, "more"),
        (lambda lines: ['{"format":2,"entries":1}', LINE], 1, "format"),
        (lambda lines: [lines[0], *lines[1:-1], lines[-1][:-9]], -1, "not JSON"),
        (lambda lines: [lines[0], lines[1], *lines[1:-1]], 3, "another line"),
        (lambda lines: [*lines[:-1], LINE.replace('"answer"', '"guess"')], -1, "plan.nodes.0: 'type'"),
        (lambda lines: [*lines[:-1], LINE.replace('"output": "a"', '"output": "b"')], -1, "output 'b' is no node"),
        (lambda lines: [*lines[:-1], LINE.replace('"title": "t"', '"title": ""')], -1, "title: string must have"),
        (lambda lines: [*lines[:-1], LINE.replace('"title": "t"', '"title": 5')], -1, "title"),
        (lambda lines: [*lines[:-1], LINE.replace("learned-x", "x")], -1, "begin with learned-"),
        (lambda lines: [*lines[:-1], LINE[:-1] + ', "stars": 5}'], -1, "'stars' is not a field"),
        (lambda lines: [*lines[:-1], LINE[:-1] + ', "tags": ["No Tag"]}'], -1, "tags.0"),
        (lambda lines: [*lines[:-1], LINE[:-1] + ', "outcomes": {"count": 0, "mean": 0.5}}'], -1, "mean of no scores"),
        (lambda lines: [*lines[:-1], LINE[:-1] + ', "outcomes": {"count": 1, "mean": 1.5}}'], -1, "mean"),
        (lambda lines: [*lines[:-1], LINE.replace("learned-x", "essay").replace('"learned"', '"shipped"')], 0, ""),
        (lambda lines: [*lines[:-1], "\ud800"], -1, "Unicode"),
    ],
)
def test_a_bad_import_names_its_line_and_changes_nothing(pool, change, line, why) -> None:  # type: ignore[no-untyped-def]
    mine = filled(pool)[-1]
    lines = [text for text in pool.export_lines() if '"id":"essay"' not in text]
    lines[0] = lines[0].replace(str(json.loads(lines[0])["entries"]), str(len(lines) - 1))
    for place, text in enumerate(lines):  # the good lines have something to add
        lines[place] = text.replace('"count":1', '"count":9')
    before = list(pool.export_lines())
    if not why:
        pool.import_lines(change(lines))
        assert (pool.get("essay") or mine).description != "PIN 1234"
        return
    error = refused(Reason.IMPORT_INVALID, pool.import_lines, change(lines))
    assert why in error.message
    assert error.metadata["line"] == str(len(lines) if line < 0 else line)
    assert "1234" not in f"{error.message}{error.__cause__}"
    assert list(pool.export_lines()) == before


def test_an_import_does_not_replace_a_learned_entry_by_another(pool: KnowledgePool) -> None:
    mine = pool.record("query", VOTE, 0.5)
    other = LINE.replace("learned-x", mine.id)
    before = list(pool.export_lines())
    lines = ['{"format":1,"entries":2}', LINE, other]
    assert refused(Reason.IMPORT_INVALID, pool.import_lines, lines).metadata["line"] == "3"
    assert list(pool.export_lines()) == before


def test_an_import_that_is_not_utf_8_is_refused(tmp_path: Path, pool: KnowledgePool) -> None:
    (tmp_path / "file").write_bytes(b'{"format":1,"entries":1}\n\xff\n')
    with (tmp_path / "file").open(encoding="utf-8") as file:
        refused(Reason.IMPORT_INVALID, pool.import_lines, file)


def test_a_new_versions_entries_replace_the_texts_and_not_the_outcomes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with KnowledgePool(path) as pool:
        pool.record("query", VOTE, 0.25, entry="essay")
        learned = pool.nearest("query")[0].entry
    entries = [
        e.model_copy(update={"title": "Dissertation"}) if e.id == "essay" else e for e in knowledge.shipped_entries()
    ]
    monkeypatch.setattr(knowledge, "shipped_entries", lambda: entries)
    with KnowledgePool(path) as pool:
        found = pool.nearest("dissertation")[0].entry
        assert (found.id, found.outcomes) == ("essay", Outcomes(count=1, mean=0.25))
        assert pool.get(learned.id) == learned


def test_the_same_query_and_plan_are_one_entry(path: Path) -> None:
    with KnowledgePool(path, shipped=False) as pool:
        same = Plan.parse(json.dumps({"output": "one", "version": 1, "nodes": [{"type": "review", "id": "one"}]}))
        assert same == REVIEW
        assert pool.record("query", REVIEW, 1).id == pool.record("query", same, 0).id
        assert pool.record("Query", REVIEW, 1).id != pool.record("query", REVIEW, 1).id
        assert len(list(pool.export_lines())) == 1 + 2


def test_a_repeated_request_counts_once(pool: KnowledgePool, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pool.record("query", VOTE, 0.5, entry="essay", request_id="once")
    assert not pool.has_recorded("other")
    assert pool.has_recorded("once")
    assert pool.record("query", VOTE, 0.9, entry="essay", request_id="once") == first
    assert (essay := pool.get("essay")) is not None
    assert essay.outcomes == Outcomes(count=1, mean=0.5)
    refused(Reason.REQUEST_ID_REUSED, lambda: pool.record("other", VOTE, 0.5, request_id="once"))
    assert pool.record("query", VOTE, 0.5).outcomes.count == 2  # without an id each call is one of its own
    assert pool.record("query", VOTE, 0.5).outcomes.count == 3
    monkeypatch.setattr(pooldb, "REMEMBERED_S", 0.0)
    assert pool.record("query", VOTE, 0.5, request_id="once").outcomes.count == 4


def test_what_was_forgotten_is_not_remembered_by_its_request(pool: KnowledgePool) -> None:
    learned = pool.record("query", VOTE, 0.5, request_id="once")
    assert pool.forget(learned.id)
    assert not pool.has_recorded("once")


def test_pages_follow_each_other_to_the_end(pool: KnowledgePool) -> None:
    pool.record("query", VOTE, 0.5)
    seen: list[Entry] = []
    after = 0
    while page := pool.page(after, 7):
        assert len(page) <= 7
        seen += [entry for _, entry in page]
        after = page[-1][0]
    assert [e.id for e in seen] == [e.id for e in knowledge.shipped_entries()] + [seen[-1].id]
    assert seen[-1].source == "learned"

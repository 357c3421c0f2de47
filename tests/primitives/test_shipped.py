"""The entries that are shipped: enough, varied, well-formed, and found by queries that nobody wrote them for."""

from __future__ import annotations

from collections import Counter

from agentmem.primitives.knowledge import KnowledgePool, shipped_entries


def test_they_are_many_and_each_says_why() -> None:
    entries = shipped_entries()
    assert len(entries) >= 40
    assert all(e.source == "shipped" and e.outcomes.count == 0 for e in entries)
    assert all(len(e.why) >= 30 and len(e.description) >= 40 and len(e.tags) >= 3 for e in entries)
    for field in ("id", "title", "description", "why"):
        assert len({getattr(e, field) for e in entries}) == len(entries)


def test_their_plans_vary() -> None:
    """Every primitive and medium is used, alone and composed; most plans are of one or two nodes, none is large."""
    plans = [e.plan for e in shipped_entries()]
    types = Counter(n.type for p in plans for n in p.nodes)
    assert set(types) == {"answer", "review", "vote", "plan_execute"}
    assert min(types.values()) >= 10
    assert {n.params.medium for p in plans for n in p.nodes} == {"latent", "text", "both"}
    assert len({tuple(n.type for n in p.order()) for p in plans}) >= 10
    assert max(p.calls for p in plans) <= 16


HELD_OUT = {
    "Is there anything wrong with the diff below? Be picky about error handling": "code-review",
    "Show that there are infinitely many primes": "proof",
    "If 3 shirts cost 42 dollars, what is the price of 7 after a 10 percent discount?": "word-problem",
    "Put this letter into Spanish": "translate",
    "Get every date and amount out of this contract as JSON": "extract-fields",
    "Five houses in a row, each clue says who lives where; use the clues": "logic-puzzle",
    "Our service had an outage at 3 am. Root cause? Logs attached": "log-analysis",
    "Fix the grammar of my cover letter": "proofread",
    "Compose a rhyme about autumn": "story",
    "Which vendor's offer should we choose, by price and support?": "decision",
    "Verify this headline against the evidence": "fact-check",
    "Audit the endpoint for injection": "security-audit",
    "Budget trip to Rome, four days, itinerary please": "travel-plan",
    "Weigh the arguments for and against a four-day week policy": "debate",
    "JOIN orders to customers and GROUP BY month in SQL": "sql-query",
    "Evaluate the integral of sin(x)/x": "equation",
    "Combine these eight reports into an overview": "summarise-many",
    "Property-based tests for my sorting code": "write-tests",
    "Is this email spam?": "classify",
    "Peer review of the attached manuscript": "paper-review",
}
"""Queries written after the entries, which were not changed for them; the entry that a person would choose."""


def test_most_held_out_queries_find_their_kind(pool: KnowledgePool) -> None:
    """Words are compared, not meanings: "infinitely many primes" shares none with any entry, and finds nothing."""
    places = Counter[int]()
    for query, wanted in HELD_OUT.items():
        ids = [m.entry.id for m in pool.nearest(query, 3)]
        places[ids.index(wanted) if wanted in ids else 3] += 1
    assert places[0] >= 17, places
    assert places[3] <= 1, places

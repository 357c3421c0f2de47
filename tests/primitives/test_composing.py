"""Whatever a model writes under the grammar is a valid plan, and any number of nodes can be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agentmem.model import loader
from agentmem.model.loader import LoadedModel
from agentmem.primitives.composing import EXAMPLES, NODES, brief, prompt, schema
from agentmem.primitives.knowledge import KnowledgePool, shipped_entries
from agentmem.primitives.plan import Plan
from tests.helpers.checkpoints import ALL, write
from tests.primitives.plans import document, node

QUERY = "Review this pull request and look for bugs in the diff"


@pytest.fixture(scope="module", params=["embedded", "tiny"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder: Path = tmp_path_factory.mktemp("model")
    return loader.load(None if request.param == "embedded" else str(write(folder, ALL[0])))


def written(model: LoadedModel, seed: int) -> str:
    """By a model that finds all tokens equally likely."""
    draws, reply, detokenizer = np.random.default_rng(seed), model.grammars.document(TEXT), model.text.detokenizer()
    while (token := int(draws.choice(np.nonzero(reply.allowed())[0]))) not in model.text.eos_ids:
        detokenizer.add_token(token)
        reply.accept(token)
    detokenizer.finalize()
    return str(detokenizer.text)


TEXT = json.dumps(schema())


def test_all_that_it_lets_through_are_plans(model: LoadedModel) -> None:
    plans = [Plan.parse(written(model, seed)) for seed in range(30)]
    assert {1, NODES} <= {len(plan.nodes) for plan in plans} <= set(range(1, NODES + 1))
    assert {n.type for plan in plans for n in plan.nodes} == {"answer", "review", "vote", "plan_execute"}
    assert any(not n.inputs for plan in plans for n in plan.nodes[1:])  # nodes side by side
    assert any(n.inputs for plan in plans for n in plan.nodes[1:-1])
    assert len({plan.json_text() for plan in plans}) > 15


def test_examples_are_the_entries_plans_as_the_model_is_to_write_them() -> None:
    for entry in shipped_entries():
        plan, told = entry.plan, Plan.parse(brief(entry.plan))
        ordered = plan.order()
        place = {n.id: f"n{number}" for number, n in enumerate(ordered, 1)}
        assert [(n.id, n.type, list(n.inputs), n.calls) for n in told.nodes] == [
            (place[n.id], n.type, [place[id] for id in n.inputs], n.calls) for n in ordered
        ]
        assert told.output == place[plan.output]


def test_a_plan_is_told_in_the_form_of_the_grammar(model: LoadedModel) -> None:
    """So the example that a model copies is one that it may write."""
    plan = Plan.parse(document(node("z"), node("b", type="vote", solvers=5), node("c", "z", "b", type="review")))
    reply = model.grammars.document(TEXT)
    for token in model.text.encode_text(brief(plan), empty=False).ids:
        reply.accept(token)
    assert set(np.nonzero(reply.allowed())[0]) == set(model.text.eos_ids)


def test_the_prompt_ends_with_the_task(tmp_path: Path) -> None:
    with KnowledgePool(tmp_path / "pool") as pool:
        text = prompt(QUERY, pool.nearest(QUERY, 5))
    assert text.endswith(f"Task: {QUERY}\nPlan:")
    assert text.count("Plan: ") == EXAMPLES


def test_a_long_query_is_read_at_both_ends() -> None:
    text = prompt(f"begin {'x' * 100_000} end", [])
    assert len(text) < 3000
    assert "begin" in text
    assert text.endswith("end\nPlan:")

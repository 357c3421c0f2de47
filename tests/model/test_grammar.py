"""Grammars on the tokenizers in use: the embedded model's and those of the tests' checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.model import grammar, loader
from agentmem.model.grammar import Grammars
from agentmem.model.loader import LoadedModel
from agentmem.primitives.plan import schema as plan_schema
from tests.helpers.checkpoints import ALL, RECURRENT, write

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"text": {"type": "string", "maxLength": 9}, "n": {"type": "number"}, "b": {"type": "boolean"}},
        "required": ["text", "b"],
        "additionalProperties": False,
    }
)


@pytest.fixture(scope="module", params=["embedded", ALL[0], ALL[1], RECURRENT], ids=str)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    spec = request.param
    return loader.load(None if spec == "embedded" else str(write(tmp_path_factory.mktemp("ck"), spec)))


def random_document(model: LoadedModel, seed: int, most: int) -> tuple[list[int], bool]:
    """Any tokens that may follow each other; and whether it came to an end."""
    draws, document, ids = np.random.default_rng(seed), model.grammars.document(SCHEMA), []
    while len(ids) < most:
        allowed = document.allowed()
        assert allowed.shape == (model.vocab_size,)
        token = int(draws.choice(np.nonzero(allowed)[0]))
        if token in model.text.eos_ids:
            return ids, True
        ids.append(token)
        document.accept(token)
    return ids, False


@pytest.mark.parametrize("seed", range(8))
def test_any_tokens_that_may_follow_spell_a_document(model: LoadedModel, seed: int) -> None:
    ids, ended = random_document(model, seed, most=400)
    detokenizer = model.text.detokenizer()
    for token in ids:
        detokenizer.add_token(token)
    detokenizer.finalize()
    if ended:
        assert set(json.loads(detokenizer.text)) >= {"text", "b"}
    else:  # the number went on and on
        assert detokenizer.text.startswith("{")


def test_each_document_is_its_own(model: LoadedModel) -> None:
    first, second = model.grammars.document(SCHEMA), model.grammars.document(SCHEMA)
    (brace,) = model.text.encode_text("{", empty=False).ids
    before = second.allowed()
    first.accept(brace)
    assert (second.allowed() == before).all()
    assert not (first.allowed() == before).all()


def test_a_token_that_may_not_come_is_refused(model: LoadedModel) -> None:
    document = model.grammars.document(SCHEMA)
    with pytest.raises(AgentmemError) as caught:
        document.accept(min(model.text.eos_ids))
    assert caught.value.reason is Reason.SCHEMA_UNFULFILLABLE


def test_the_plans_schema_can_be_enforced(model: LoadedModel) -> None:
    model.grammars.check(json.dumps(plan_schema()))


def test_a_tokenizer_that_cannot_be_read_says_so() -> None:
    class Slow:
        is_fast = False

    class Wrapper:
        _tokenizer = Slow()

    with pytest.raises(AgentmemError) as caught:
        Grammars(Wrapper(), frozenset({4}), 512).check(SCHEMA)
    assert caught.value.reason is Reason.SCHEMA_UNSUPPORTED


def test_only_so_many_schemas_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar, "KEPT", 2)
    grammars = loader.load(str(write(tmp_path, ALL[0]))).grammars
    for n in range(4):
        grammars.check(json.dumps({"const": n}))
    assert len(grammars._compiled) == 2
    assert grammars.document(json.dumps({"const": 0})).allowed().any()

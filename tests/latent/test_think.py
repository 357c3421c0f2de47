"""Latent steps and the embeddings that they feed."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from agentmem.kv.state import AgentState
from agentmem.latent.pieces import Pieces
from agentmem.latent.space import EmbeddingSpace, Projection, ridge
from agentmem.model.forward import embed, feed, feed_embeddings, last_logits
from agentmem.model.loader import LoadedModel
from tests.latent.reference import error
from tests.latent.states import ids, same, think


def _begun(model: LoadedModel, seed: int, count: int) -> tuple[AgentState, mx.array]:
    state = AgentState(model.layout)
    return state, feed_embeddings(model, [state], embed(model, ids(seed, count))[None])


@pytest.mark.reference
@pytest.mark.parametrize("cuts", [pytest.param((), marks=pytest.mark.slow), (1, 255, 256, 400)])
def test_embeddings_of_tokens_are_the_tokens(model: LoadedModel, cuts: tuple[int, ...]) -> None:
    tokens = ids(1, 600)
    by_ids, by_rows = AgentState(model.layout), AgentState(model.layout)
    feed(model, by_ids, tokens)
    for begin, end in zip((0, *cuts), (*cuts, 600), strict=True):
        feed_embeddings(model, [by_rows], embed(model, tokens[begin:end])[None])
    assert same(by_ids, by_rows)
    assert mx.array_equal(last_logits(model, by_ids, tokens[:3]), last_logits(model, by_rows, tokens[:3]))


@pytest.mark.reference
@pytest.mark.parametrize("projection", list(Projection))
def test_latent_steps_are_a_prefill_of_what_they_fed(model: LoadedModel, projection: Projection) -> None:
    space = EmbeddingSpace(model)
    state, hidden = _begun(model, 2, 250)
    again, _ = _begun(model, 2, 250)
    thought = think(model, space, [state], hidden, 12, projection)
    assert state.offset == 262
    assert mx.array_equal(feed_embeddings(model, [again], thought.embeddings), thought.hidden)
    assert same(state, again)
    norms = mx.linalg.norm(thought.embeddings, axis=-1)
    assert error(norms, mx.full(norms.shape, space.mean_norm)) < 1e-5
    table = model.network.model.embed_tokens.weight
    assert error(np.array(space.mean_norm), np.linalg.norm(np.array(table), axis=1).mean()) < 1e-5


@pytest.mark.reference
@pytest.mark.parametrize("projection", [pytest.param(Projection.RIDGE, marks=pytest.mark.slow), Projection.SOFTMAX])
def test_a_batch_thinks_as_each_alone(one: LoadedModel, projection: Projection) -> None:
    space = EmbeddingSpace(one)
    lengths = (5, 300, 255)
    alone = [_begun(one, seed, count) for seed, count in enumerate(lengths)]
    group = [_begun(one, seed, count) for seed, count in enumerate(lengths)]
    together = think(one, space, [s for s, _ in group], mx.concatenate([h for _, h in group]), 6, projection)
    for place, ((state, hidden), (there, _)) in enumerate(zip(alone, group, strict=True)):
        thought = think(one, space, [state], hidden, 6, projection)
        assert mx.array_equal(thought.embeddings[0], together.embeddings[place])
        assert same(state, there)


@pytest.mark.reference
def test_restored_latent_positions_go_on_bit_for_bit(one: LoadedModel) -> None:
    state, hidden = _begun(one, 4, 250)
    thought = think(one, EmbeddingSpace(one), [state], hidden, 12)
    restored = AgentState(one.layout)
    restored.extend([state.read(0, 256), state.read(256, 262)])
    space = EmbeddingSpace(one)
    further = [think(one, space, [s], thought.hidden, 3).embeddings for s in (state, restored)]
    assert mx.array_equal(*further)
    assert same(state, restored)


def test_thinking_may_go_on(one: LoadedModel) -> None:
    space = EmbeddingSpace(one)
    (whole, hidden), (parts, _) = _begun(one, 3, 20), _begun(one, 3, 20)
    think(one, space, [whole], hidden, 5)
    first = think(one, space, [parts], hidden, 2)
    think(one, space, [parts], first.hidden, 3)
    assert same(whole, parts)


def _table(seed: int, rows: int = 512, width: int = 64) -> nn.Embedding:
    table = nn.Embedding(rows, width)
    table.weight = mx.random.normal((rows, width), key=mx.random.key(seed))
    return table


def _ridge(inputs: nn.Module, outputs: nn.Module) -> mx.array:
    return Pieces(lambda: ridge(inputs, outputs)).whole


def test_ridge_is_the_identity_on_tied_weights() -> None:
    table = _table(1)
    assert error(_ridge(table, table), mx.eye(64)) < 1e-5


@pytest.mark.parametrize("rows", [64, 100, 8192])
def test_ridge_solves_the_normal_equation(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmem.latent.space.ROWS", rows)
    wi, wo = _table(1), _table(2)
    i, o = (np.array(t.weight, np.float64) for t in (wi, wo))
    left = (o.T @ o + 1e-5 * np.eye(64)) @ np.array(_ridge(wi, wo), np.float64)
    assert error(left, o.T @ i) < 1e-4


@pytest.mark.parametrize("steps", [1, 3])
def test_a_table_has_the_same_bits_whoever_makes_its_pieces(
    model: LoadedModel, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentmem.latent.space.ROWS", 100)
    alone, shared = EmbeddingSpace(model), EmbeddingSpace(model)
    makers = [shared.making(projection) for projection in (Projection.RIDGE, Projection.SOFTMAX, Projection.RIDGE)]
    turns = 0
    while makers:
        one = makers[turns % len(makers)]
        turns += 1
        for _ in range(steps):
            if next(one, "made") == "made":
                makers.remove(one)
                break
            mx.eval(model.network.model.embed_tokens(mx.array([[turns]])))  # others compute something between
    pieces = -(-model.network.model.embed_tokens.weight.shape[0] // 100)
    assert turns * steps > pieces
    assert list(shared.making(Projection.RIDGE)) == []
    assert shared._mean_norm._steps is shared._ridge._steps is None  # nobody has begun anew
    assert shared.mean_norm == alone.mean_norm
    if not alone.is_tied:
        assert np.array(shared.ridge).tobytes() == np.array(alone.ridge).tobytes()


def test_what_fails_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    wi, wo = _table(1), _table(2)
    made = Pieces(lambda: ridge(wi, wo))
    with monkeypatch.context() as patch:
        patch.setattr(mx, "eye", _fails)
        with pytest.raises(MemoryError):
            list(made.making())
    assert np.array(made.whole).tobytes() == np.array(_ridge(wi, wo)).tobytes()


def _fails(*_: object) -> None:
    raise MemoryError


def test_ridge_is_of_a_models_own_tables(model: LoadedModel) -> None:
    space = EmbeddingSpace(model)
    hidden = mx.random.normal((3, 128))
    if not hasattr(model.network, "lm_head"):
        assert space.ridge is None
        return
    o, i = (np.array(t, np.float64) for t in (model.network.lm_head.weight, model.network.model.embed_tokens.weight))
    want = np.array(hidden, np.float64) @ np.linalg.solve(o.T @ o + 1e-5 * np.eye(128), o.T @ i)
    want *= space.mean_norm / np.linalg.norm(want, axis=1, keepdims=True)
    assert error(space.project(hidden, Projection.RIDGE), want) < 1e-4
    assert error(space.project(hidden, Projection.IDENTITY), want) > 0.1


def test_softmax_is_the_expected_embedding(model: LoadedModel) -> None:
    hidden = mx.random.normal((3, 128))
    network = model.network
    inputs = network.model.embed_tokens.weight
    outputs = network.lm_head.weight if hasattr(network, "lm_head") else inputs
    want = np.array(mx.softmax(hidden @ outputs.T, axis=-1) @ inputs, np.float64)
    space = EmbeddingSpace(model)
    want *= space.mean_norm / np.linalg.norm(want, axis=1, keepdims=True)
    assert error(space.project(hidden, Projection.SOFTMAX), want) < 1e-5


def test_quantised_tables_are_dequantised() -> None:
    wi, wo = _table(1), _table(2)
    qi, qo = wi.to_quantized(32, 8), wo.to_quantized(32, 4)
    for plain, quantised, bits in ((wi, qi, 8), (wo, qo, 4)):
        plain.weight = mx.dequantize(*mx.quantize(plain.weight, 32, bits), group_size=32, bits=bits)
        assert quantised.weight.shape != plain.weight.shape
    assert error(_ridge(qi, qo), _ridge(wi, wo)) < 1e-5

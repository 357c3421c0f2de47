"""Blend: between a splice and a full prefill."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import mlx.core as mx
import numpy as np
import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.kv import attention, fused
from agentmem.kv.state import AgentState
from agentmem.latent import blend as blend_module
from agentmem.latent.blend import Blended, blending
from agentmem.latent.frequencies import frequencies
from agentmem.latent.splice import splice
from agentmem.model.forward import embed, feed
from agentmem.model.loader import LoadedModel
from agentmem.types import PrefillPath
from tests.latent.reference import block_diagonal, causal, error, forward
from tests.latent.states import fingerprint, ids, logits, part, prefilled, result

LENGTHS = (37, 60, 230, 70)
TEXT = ids(9, 8)


def _runs() -> list[list[int]]:
    return [ids(seed, length) for seed, length in enumerate(LENGTHS)]


def _blended(model: LoadedModel, ratio: float, layer: int = 1) -> Blended:
    prefix, *runs = _runs()
    parts = [part(model, prefilled(model, run)) for run in runs]
    contents = [embed(model, run) for run in runs]
    return result(blending(model, frequencies(model), prefilled(model, prefix), parts, contents, ratio, layer))


@pytest.mark.parametrize("path", [PrefillPath.REFERENCE, PrefillPath.FUSED])
def test_fp_all_computed_anew_is_a_full_prefill(unquantised: LoadedModel, path: PrefillPath) -> None:
    unquantised = replace(unquantised, prefill=path)
    tokens = [*chain(*_runs()), *TEXT]
    want, _ = forward(unquantised, tokens, causal(len(tokens)))
    got = _blended(unquantised, 1)
    assert got.recomputed.tolist() == list(range(37, sum(LENGTHS)))
    assert error(logits(unquantised, got.state, TEXT), want[-len(TEXT) :]) < 1e-5
    assert error(logits(unquantised, _blended(unquantised, 0).state, TEXT), want[-len(TEXT) :]) > 0.1


@pytest.mark.reference
def test_none_computed_anew_is_the_splice(model: LoadedModel) -> None:
    prefix, *parts = (prefilled(model, run) for run in _runs())
    spliced = splice(model, frequencies(model), prefix, [part(model, p) for p in parts])
    got = _blended(model, 0)
    assert len(got.recomputed) == 0
    assert np.array_equal(logits(model, got.state, TEXT), logits(model, spliced.state, TEXT))


@pytest.mark.parametrize("path", [PrefillPath.REFERENCE, PrefillPath.FUSED])
@pytest.mark.parametrize("layer", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_fp_some_computed_anew_are_those_that_miss_most_and_see_the_others(
    unquantised: LoadedModel, layer: int, path: PrefillPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blend_module, "ROWS", 50)  # so that most passes lie between others, and the last is short
    unquantised = replace(unquantised, prefill=path)
    model, end, tokens = unquantised, sum(LENGTHS), [*chain(*_runs()), *TEXT]
    _, apart = forward(model, tokens, block_diagonal(LENGTHS, len(TEXT)))
    _, joint = forward(model, tokens, causal(len(tokens)))
    got = _blended(model, 0.3, layer)
    assert len(got.recomputed) == 108  # of 360, rounded up
    if layer:
        away = np.array(mx.linalg.norm((joint[1][0] - apart[1][0])[0].swapaxes(0, 1).flatten(1), axis=1))[37:end]
        least = np.sort(away)[-108]
        assert away[got.recomputed - 37].min() > least * 0.999
        assert set(np.nonzero(away > least * 1.001)[0] + 37) <= set(got.recomputed)
    kept = np.ones(len(tokens), bool)
    kept[got.recomputed] = kept[end:] = False
    want, _ = forward(model, tokens, causal(len(tokens)), rows=apart, kept=kept)
    assert error(logits(model, got.state, TEXT), want[-len(TEXT) :]) < 1e-5


@pytest.mark.reference
def test_q4_the_error_shrinks_with_the_ratio(one: LoadedModel) -> None:
    want = logits(one, prefilled(one, list(chain(*_runs()))), TEXT)
    away = [error(logits(one, _blended(one, ratio).state, TEXT), want) for ratio in (0, 0.5, 1)]
    assert away[2] < 0.5 * away[0]


@pytest.mark.reference
def test_how_many_rows_a_pass_takes_changes_no_bit(one: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _blended(one, 0.6)
    monkeypatch.setattr(blend_module, "CHUNK", 50)
    monkeypatch.setattr(blend_module, "ROWS", 37)
    parts = _blended(one, 0.6)
    assert np.array_equal(whole.recomputed, parts.recomputed)
    assert np.array_equal(logits(one, whole.state, TEXT), logits(one, parts.state, TEXT))


def test_both_passes_go_the_way_of_prefill_and_none_attends_in_the_check_layer(
    one: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers, seen = len(one.network.layers), []
    for module in (attention, fused):
        attend = module.attend
        monkeypatch.setattr(
            module, "attend", lambda q, *given, a=attend, m=module: seen.append((m, q.shape[::2])) or a(q, *given)
        )
    for path, module in ((PrefillPath.REFERENCE, attention), (PrefillPath.FUSED, fused)):
        model = replace(one, prefill=path)
        runs = [prefilled(model, run) for run in _runs()]
        parts, contents = [part(model, run) for run in runs[1:]], [embed(model, run) for run in _runs()[1:]]
        seen.clear()
        result(blending(model, frequencies(model), runs[0], parts, contents, 0.3, 1))
        assert seen == [(module, (1, 360)), *[(module, (1, 108))] * layers]


@pytest.mark.reference
def test_what_it_is_made_of_stays_as_it_is(one: LoadedModel) -> None:
    root = prefilled(one, ids(1, 300))
    solvers = [root.fork() for _ in range(2)]
    for seed, solver in enumerate(solvers):
        feed(one, solver, ids(5 + seed, 40))
    before = [fingerprint(state) for state in (root, *solvers)]
    contents = [embed(one, ids(5 + seed, 40)) for seed in range(2)]
    for ratio in (0.2, 1):
        got = result(blending(one, frequencies(one), root, [part(one, s, 300) for s in solvers], contents, ratio))
        logits(one, got.state, TEXT)
    assert [fingerprint(state) for state in (root, *solvers)] == before


@pytest.mark.reference
def test_no_prefix_is_an_empty_one(one: LoadedModel) -> None:
    runs = _runs()[1:]
    parts, contents = [part(one, prefilled(one, run)) for run in runs], [embed(one, run) for run in runs]
    got = [
        result(blending(one, frequencies(one), prefix, parts, contents, 0.3))
        for prefix in (None, AgentState(one.layout))
    ]
    assert np.array_equal(got[0].recomputed, got[1].recomputed)
    assert np.array_equal(*(logits(one, blended.state, TEXT) for blended in got))


def test_what_cannot_be_is_refused(one: LoadedModel) -> None:
    state = prefilled(one, ids(1, 9))
    rows = embed(one, ids(1, 9))
    for ratio, layer, contents in ((1.1, 1, rows), (-0.1, 1, rows), (0.5, 2, rows), (0.5, 1, rows[:8])):
        with pytest.raises(AgentmemError) as caught:
            result(
                blending(one, frequencies(one), AgentState(one.layout), [part(one, state)], [contents], ratio, layer)
            )
        assert caught.value.reason is Reason.INPUT_INVALID

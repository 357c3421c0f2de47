"""The prefill path: who chooses it, what is kept of a measurement, and how far it moves what comes out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.kv.layout import AttentionLayout
from agentmem.kv.state import AgentState
from agentmem.model import forward, loader, numerics, prefill
from agentmem.model.prefill import LOGIT_TOLERANCE
from agentmem.types import AgentRef, PrefillPath
from benchmarks.numerics import distance, goes_on, trace
from tests.engine.runs import feed
from tests.helpers.checkpoints import ALL, RECURRENT, WINDOWED, Spec, write

LAYOUT = AttentionLayout(layers=2, kv_heads=2, head_dim=64, group_size=64, dtype=mx.float32)
SPECS = tuple(
    replace(spec, layers=4, extra=tuple(extra.items()))
    for spec, extra in (
        (ALL[0], {}),
        (ALL[5], {}),
        (WINDOWED, {"layer_types": ("sliding_attention", "full_attention") * 2, "sliding_window": 100}),
        (RECURRENT, {"layer_types": ("conv", "full_attention") * 2}),
    )
)
"""Deeper than one layer of attention behind another, so that the path shows in keys, values and logits."""


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.architecture}-{spec.kind}")
def test_fused_prefill_stays_within_the_stated_tolerance(spec: Spec, tmp_path: Path) -> None:
    """Teacher-forced: 700 tokens prefilled by either path, then 32 one by one."""
    model = loader.load(str(write(tmp_path, spec)), prefill=PrefillPath.REFERENCE)
    ids = [int(i) for i in np.random.default_rng(1).integers(5, model.vocab_size, 732)]
    reference, fused = (
        trace(replace(model, prefill=path), ids[:700], ids[700:]) for path in (PrefillPath.REFERENCE, PrefillPath.FUSED)
    )
    found = distance(reference, fused)
    assert found.logits < LOGIT_TOLERANCE, found
    assert found.flips < found.levels / 1000, found
    assert not np.array_equal(reference.logits, fused.logits), "the path made no difference: was it taken?"


def test_another_division_of_a_prompt_stays_within_the_tolerance(tmp_path: Path) -> None:
    """Fused, bits may move with it; nothing else does."""
    model = loader.load(str(write(tmp_path, SPECS[0])), prefill=PrefillPath.FUSED)
    ids = [int(i) for i in np.random.default_rng(2).integers(5, model.vocab_size, 420)]
    state = AgentState(model.layout)
    for begin, end in ((0, 90), (90, 97), (97, 330), (330, 400)):
        for _ in forward.prefill(model, state, ids[begin:end]):
            pass
    found = distance(trace(model, ids[:400], ids[400:]), goes_on(model, state, ids[400:]))
    assert found.logits < LOGIT_TOLERANCE, found
    assert found.flips < found.levels / 1000, found


def test_level_flips_are_counted(tmp_path: Path) -> None:
    model = loader.load(str(write(tmp_path, ALL[0])))
    one = trace(model, list(range(5, 305)), [7, 8])
    assert (found := distance(one, one)).flips == found.choices == found.logits == 0
    assert found.levels == 2 * 2 * 2 * 64 * 302, "layers, keys and values, heads, head dim, positions"
    words = one.words.copy()
    words[3] ^= 0xF0F  # two levels of one word
    words[9] ^= 1 << 31
    logits = one.logits.copy()
    logits[1, logits[1].argmin()] = logits[1].max() + 1
    found = distance(one, replace(one, words=words, logits=logits))
    assert (found.flips, found.choices) == (3, 1)
    assert found.logits == pytest.approx((logits[1].max() - one.logits[1].min()) / one.logits[1].std())


def counted(monkeypatch: pytest.MonkeyPatch, fused_s: float = 0.1) -> list[int]:
    """Measurements from now on."""
    calls: list[int] = []
    monkeypatch.setattr(
        prefill, "measure", lambda heads, _: calls.append(heads) or {"reference_s": 0.2, "fused_s": fused_s}
    )
    return calls


def test_auto_keeps_the_reference_where_exactness_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, kept = counted(monkeypatch), tmp_path / "prefill.json"
    assert prefill.choose(PrefillPath.AUTO, 4, LAYOUT, numerics.REFERENCE, kept) is PrefillPath.REFERENCE
    for path in (PrefillPath.REFERENCE, PrefillPath.FUSED):
        for in_force in (numerics.REFERENCE, numerics.FAST):
            assert prefill.choose(path, 4, LAYOUT, in_force, kept) is path
    assert calls == []
    assert not kept.exists()


@pytest.mark.parametrize(("fused_s", "path"), [(0.1, PrefillPath.FUSED), (0.3, PrefillPath.REFERENCE)])
def test_auto_takes_the_faster_one_and_measures_once(
    fused_s: float, path: PrefillPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, kept = counted(monkeypatch, fused_s), tmp_path / "prefill.json"
    for _ in range(3):
        assert prefill.choose(PrefillPath.AUTO, 4, LAYOUT, numerics.FAST, kept) is path
    assert calls == [4]
    assert kept.stat().st_mode & 0o777 == 0o600
    prefill.choose(PrefillPath.AUTO, 8, LAYOUT, numerics.FAST, kept)
    prefill.choose(PrefillPath.AUTO, 4, replace(LAYOUT, head_dim=128), numerics.FAST, kept)
    monkeypatch.setattr(numerics, "preloaded_blas", lambda: "libother.so")
    prefill.choose(PrefillPath.AUTO, 4, LAYOUT, numerics.FAST, kept)
    monkeypatch.setattr(numerics, "version", lambda name: "9.9")
    prefill.choose(PrefillPath.AUTO, 4, LAYOUT, numerics.FAST, kept)
    assert calls == [4, 8, 4, 4, 4], "other heads, layout, BLAS and MLX are each measured"
    assert len(json.loads(kept.read_text())) == 5


@pytest.mark.parametrize(
    "damage",
    ["", "[]", "{", "\xff", "[" * 5000, "null", "1", '{"reference_s": 0.2}', '{"reference_s": 0.2, "fused_s": "x"}']
    + [f'{{"reference_s": 0.2, "fused_s": {wrong}}}' for wrong in ("0", "-1.0", "NaN", "true")],
)
def test_what_is_damaged_is_measured_again(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole file, and what it says of this device."""
    calls, kept = counted(monkeypatch), tmp_path / "prefill.json"
    prefill.choose(PrefillPath.AUTO, 4, LAYOUT, numerics.FAST, kept)
    (key,) = json.loads(kept.read_text())
    for text in (damage, f"{{{json.dumps(key)}: {damage or 'true'}}}"):
        kept.write_text(text, encoding="latin-1")
        for _ in range(2):
            assert prefill.choose(PrefillPath.AUTO, 4, LAYOUT, numerics.FAST, kept) is PrefillPath.FUSED
    assert len(calls) == 3


def test_nothing_is_kept_where_nothing_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    for kept in (None, tmp_path / "no folder" / "prefill.json"):
        assert prefill.choose(PrefillPath.AUTO, 4, LAYOUT, numerics.FAST, kept) is PrefillPath.FUSED
    assert len(calls) == 2


def test_a_measurement_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefill, "MOST_S", 0.0)
    assert all(0 < seconds < 5 for seconds in prefill.measure(4, LAYOUT).values())


def test_fused_by_request_is_fast_numerics_everywhere(tmp_path: Path) -> None:
    """In the model's description and in block files; the state stays of use to either path."""
    checkpoint, state = str(write(tmp_path / "ck", Spec(layers=1))), tmp_path / "state"
    found = {}
    for path in (PrefillPath.FUSED, PrefillPath.REFERENCE):
        engine = Engine.open(EngineSettings(state, checkpoint, prefill_path=path))
        found[path] = engine.model_info()
        first = {PrefillPath.FUSED: 7, PrefillPath.REFERENCE: 8}[path]  # nothing to share
        feed(engine, AgentRef("default", path.value), first, *range(5, 305))
        if path is PrefillPath.REFERENCE:
            _, usage = feed(engine, AgentRef("default", "fused"), 9)
            assert (usage.recomputed_tokens, usage.reused_warm_tokens) == (0, 307)
        engine.close()
    fused, reference = found.values()
    assert (fused.numerics, fused.prefill_path, fused.logit_tolerance) == ("fast", "fused", LOGIT_TOLERANCE)
    assert reference.prefill_path == "reference"
    assert reference.numerics == numerics.path(mx.float32)
    assert reference.logit_tolerance == (0 if reference.numerics == "reference" else LOGIT_TOLERANCE)
    assert fused.state_id == reference.state_id
    heads = [file.read_bytes()[:4096] for file in state.glob("blocks/**/*.safetensors")]
    assert {b'"numerics":"fast"' in head for head in heads} == {True, reference.numerics == "fast"}

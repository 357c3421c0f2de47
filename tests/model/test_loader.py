"""What is loaded, what it is called, and what is refused and why."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.model import identity, loader
from benchmarks.numerics import trace
from tests.helpers.checkpoints import ALL, Spec, with_other_weights, write


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ck"), Spec(layers=1))


def _with_config(folder: Path, to: Path, **changes: object) -> Path:
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, **changes}))
    return to


@pytest.mark.parametrize("spec", ALL, ids=lambda s: s.name)
def test_layout_is_the_models_own(spec: Spec, tmp_path: Path) -> None:
    model = loader.load(str(write(tmp_path, spec)))
    assert (model.layout.full.layers, model.layout.full.kv_heads, model.layout.full.head_dim) == (2, 2, spec.head_dim)
    assert model.layout.full.group_size == 64
    assert model.context_limit == 4096


def test_state_id_changes_with_what_changes_numbers(plain: Path, tmp_path: Path) -> None:
    base = loader.load(str(plain))
    assert loader.load(str(plain)).state_id == base.state_id
    other = loader.load(str(with_other_weights(plain, tmp_path / "w", Spec(layers=1))))
    assert other.state_id != base.state_id
    assert other.tokenizer_id == base.tokenizer_id
    theta = loader.load(str(_with_config(plain, tmp_path / "t", rope_theta=5000.0)))
    assert theta.state_id != base.state_id
    longer = loader.load(str(_with_config(plain, tmp_path / "l", max_position_embeddings=8192)))
    assert longer.state_id != base.state_id  # longrope scales by it


def test_every_bit_of_every_weight_file_counts(tmp_path: Path) -> None:
    files = [tmp_path / f"model-{n}.safetensors" for n in (1, 2)]
    for file in files:
        file.write_bytes(bytes(300_000))
    ids = {identity.state_id(files, {}, "float32", "layout")}
    for file in files:
        for at in (0, 150_000, -1):
            data = bytearray(300_000)
            data[at] ^= 1
            file.write_bytes(data)
            ids.add(identity.state_id(files, {}, "float32", "layout"))
        file.write_bytes(bytes(300_000))
    assert len(ids) == 1 + 2 * 3


def test_chat_template_is_in_neither_id(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "c")
    file = tmp_path / "c" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": "{{ messages[0]['content'] }}"}))
    a, b = loader.load(str(plain)), loader.load(str(tmp_path / "c"))
    assert (a.state_id, a.tokenizer_id) == (b.state_id, b.tokenizer_id)


def _refusal(folder: Path) -> AgentmemError:
    with pytest.raises(AgentmemError) as caught:
        loader.load(str(folder))
    return caught.value


def test_uncovered_models_are_refused_by_layer_and_reason(plain: Path, tmp_path: Path) -> None:
    gemma = _refusal(_with_config(plain, tmp_path / "g", model_type="gemma2"))
    assert gemma.reason is Reason.MODEL_UNSUPPORTED
    assert "layer 0" in gemma.message
    assert "gemma2" in gemma.message
    window = _refusal(_with_config(plain, tmp_path / "s", layer_types=["sliding_attention"], sliding_window=8))
    assert "all layers" in window.message
    assert "sliding_attention" in window.message
    odd = _refusal(_with_config(plain, tmp_path / "o", layer_types=["full_attention", "conv"]))
    assert "layer 1" in odd.message
    assert "conv" in odd.message
    dynamic = _refusal(_with_config(plain, tmp_path / "d", rope_scaling={"type": "dynamic", "factor": 2.0}))
    assert "dynamic RoPE" in dynamic.message


def test_head_dim_without_a_group_size_is_refused(tmp_path: Path) -> None:
    refusal = _refusal(write(tmp_path, replace(Spec(layers=1), head_dim=80)))
    assert refusal.reason is Reason.MODEL_UNSUPPORTED
    assert "head dim 80" in refusal.message


def test_head_dim_96_gets_groups_of_32(tmp_path: Path) -> None:
    assert loader.load(str(write(tmp_path, replace(Spec(layers=1), head_dim=96)))).layout.full.group_size == 32


def test_what_is_no_checkpoint_is_not_found(tmp_path: Path) -> None:
    assert _refusal(tmp_path).reason is Reason.MODEL_NOT_FOUND


@pytest.mark.reference
@pytest.mark.parametrize("spec", ALL[::2], ids=lambda s: s.name)
def test_how_weights_lie_in_memory_changes_no_bit(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, traces = str(write(tmp_path, spec)), []
    for lay_out in (loader._lay_out, lambda network: None):
        monkeypatch.setattr(loader, "_lay_out", lay_out)
        traces.append(trace(loader.load(folder), list(range(5, 305)), [7, 8, 9]))
    assert np.array_equal(traces[0].logits, traces[1].logits)
    assert np.array_equal(traces[0].words, traces[1].words)

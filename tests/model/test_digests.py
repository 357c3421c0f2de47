"""Weights are read once: a file that is the same is not hashed again, one that changed is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.model.digests import FileDigests
from tests.helpers.checkpoints import Spec, with_other_weights, write


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    return file


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read from now on."""
    read: list[str] = []
    real = hashlib.file_digest

    def spy(stream, name):  # type: ignore[no-untyped-def]
        read.append(os.path.basename(stream.name))
        return real(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", spy)
    return read


def test_a_file_that_is_the_same_is_not_read_again(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, cache = hashed(monkeypatch), tmp_path / "cache.json"
    wanted = hashlib.sha256(b"weights").digest()
    assert [FileDigests(cache)(weights) for _ in range(3)] == [wanted] * 3
    assert read == ["model.safetensors"]
    assert cache.stat().st_mode & 0o777 == 0o600
    assert FileDigests()(weights) == wanted
    assert len(read) == 2, "without a cache nothing is remembered"


@pytest.mark.parametrize("change", ["edited", "replaced", "edited with its old times"])
def test_a_file_that_changed_is_read_again(weights: Path, tmp_path: Path, change: str) -> None:
    cache, before = tmp_path / "cache.json", weights.stat()
    old = FileDigests(cache)(weights)
    if change == "replaced":
        (tmp_path / "other").write_bytes(b"WEIGHTS")
        os.replace(tmp_path / "other", weights)
    else:
        with weights.open("r+b") as stream:
            stream.write(b"WEIGHTS")
        if change != "edited":
            os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert FileDigests(cache)(weights) == hashlib.sha256(b"WEIGHTS").digest() != old


@pytest.mark.parametrize("text", ["", "[]", "{", '{"1": 2}', '{"1": "zz"}', '{"1": "00"}', "\xff"])
def test_a_damaged_cache_is_no_cache(weights: Path, tmp_path: Path, text: str) -> None:
    cache = tmp_path / "cache.json"
    cache.write_text(text, encoding="latin-1")
    assert FileDigests(cache)(weights) == hashlib.sha256(b"weights").digest()
    assert FileDigests(cache)(weights) == hashlib.sha256(b"weights").digest()


def test_a_cache_that_cannot_be_written_hurts_nobody(weights: Path, tmp_path: Path) -> None:
    assert FileDigests(tmp_path / "no folder" / "cache.json")(weights) == hashlib.sha256(b"weights").digest()


def test_the_engine_remembers_and_finds_other_weights_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec(layers=1)
    folder = write(tmp_path / "model", spec)
    settings = EngineSettings(tmp_path / "state", str(folder))
    read, ids = hashed(monkeypatch), []
    for _ in range(2):
        engine = Engine.open(settings)
        ids.append(engine.model_info().state_id)
        engine.close()
    assert read == ["model.safetensors"]
    other = with_other_weights(folder, tmp_path / "other", spec)
    os.replace(other / "model.safetensors", folder / "model.safetensors")
    engine = Engine.open(settings)
    ids.append(engine.model_info().state_id)
    engine.close()
    assert ids[0] == ids[1] != ids[2]
    assert len(read) == 2

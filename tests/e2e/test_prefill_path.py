"""The prefill path that was asked for is in force, and said, together with what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.checkpoints import Spec, write
from tests.helpers.forked import ForkedDaemon


@pytest.mark.parametrize(("path", "numerics", "tolerance"), [("fused", "fast", 0.1), ("auto", "reference", 0.0)])
@pytest.mark.reference
def test_status_says_what_is_in_force(path: str, numerics: str, tolerance: float, tmp_path: Path) -> None:
    checkpoint = write(tmp_path / "ck", Spec(layers=1))
    daemon = ForkedDaemon(tmp_path, checkpoint, options=("--prefill-path", path))
    try:
        with daemon.start() as client:
            model = client.status().model
            assert model is not None
            assert (model.numerics, model.logit_tolerance) == (numerics, tolerance)
            assert model.prefill_path == ("fused" if path == "fused" else "reference")
            client.agent("a").append(token_ids=list(range(5, 305)))
        heads = [file.read_bytes()[:4096] for file in daemon.state.glob("blocks/**/*.safetensors")]
        assert heads
        assert all(f'"numerics":"{numerics}"'.encode() in head for head in heads)
    finally:
        daemon.stop()

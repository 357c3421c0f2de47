"""An engine in this process, on a tiny checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from tests.engine.runs import SPEC
from tests.helpers.checkpoints import write


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ck"), SPEC)


@pytest.fixture
def engine(checkpoint: Path, tmp_path: Path) -> Iterator[Engine]:
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint)))
    yield engine
    engine.close()

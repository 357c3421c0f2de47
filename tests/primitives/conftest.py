from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.primitives import pooldb
from agentmem.primitives.knowledge import KnowledgePool
from tests.helpers.checkpoints import ALL, write
from tests.primitives.engines import names


@pytest.fixture(autouse=True)
def no_waiting_for_the_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooldb, "PRAGMAS", (*pooldb.PRAGMAS, "synchronous=OFF"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "knowledge.sqlite"


@pytest.fixture
def pool(path: Path) -> Iterator[KnowledgePool]:
    """With the entries that are shipped."""
    with KnowledgePool(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("flows")
    spec = replace(ALL[0], heads=2, kv_heads=2, context=2500)
    engine = Engine.open(EngineSettings(folder / "state", str(write(folder / "model", spec))))
    yield engine
    engine.close()


@pytest.fixture
def nothing_is_left(engine: Engine) -> Iterator[None]:
    """Whatever ends a run, its agents are gone."""
    yield
    assert [name for name in names(engine) if name.startswith("run-")] == []

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentmem.primitives import pooldb
from agentmem.primitives.knowledge import KnowledgePool


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

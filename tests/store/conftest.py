from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentmem.store import files
from agentmem.store.store import Store


@pytest.fixture(autouse=True)
def no_waiting_for_the_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power; that everything is synced, and in which order, `test_files` checks."""
    monkeypatch.setattr(files, "_flush", lambda descriptor: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    opened = Store.open(folder)
    yield opened
    opened.close()

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentmem.store import files
from agentmem.store import folder as state
from agentmem.store.catalog import schema
from agentmem.store.store import Store
from tests.store.samples import MASTER_KEY


@pytest.fixture(autouse=True)
def no_waiting_for_the_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power; that all is synced, and in which order, `test_files` and `test_open` check."""
    monkeypatch.setattr(files, "_flush", lambda descriptor: None)
    monkeypatch.setattr(schema, "PRAGMAS", (*schema.PRAGMAS, "synchronous=OFF"))


@pytest.fixture(scope="module", params=["plain", pytest.param("encrypted", marks=pytest.mark.slow)])
def sealing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs a module's tests twice: whatever opens a folder without a key gets none, and then the same one always."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "encrypted":
            prepare = state.prepare
            patch.setattr(
                state, "prepare", lambda files, folder, key=None, **rest: prepare(files, folder, MASTER_KEY, **rest)
            )
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    opened = Store.open(folder)
    yield opened
    opened.close()

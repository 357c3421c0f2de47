from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agentmem_client import Client

from .scripted import ScriptedDaemon


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own settings only, whatever the developer's shell exports."""
    for name in ("AGENTMEM_STATE", "AGENTMEM_SOCKET", "AGENTMEM_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    # The space is on purpose: macOS keeps state in "Application Support".
    return tmp_path / "run dir" / "agentmem.sock"


@pytest.fixture
def daemon(socket: Path) -> Iterator[ScriptedDaemon]:
    scripted = ScriptedDaemon(socket)
    scripted.start()
    yield scripted
    scripted.stop()


@pytest.fixture
def client(daemon: ScriptedDaemon) -> Iterator[Client]:
    with Client(socket=daemon.socket) as client:
        yield client

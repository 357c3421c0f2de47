from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from agentmem_daemon.cli.app import run

from tests.client.scripted import ScriptedDaemon


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Agentmem = Callable[..., Result]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own settings only, whatever the developer's shell exports."""
    for name in ("AGENTMEM_STATE", "AGENTMEM_SOCKET", "AGENTMEM_TOKEN", "AGENTMEM_MODEL", "AGENTMEM_ENCRYPT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    scripted = ScriptedDaemon(tmp_path / "run" / "agentmem.sock")
    scripted.start()
    yield scripted
    scripted.stop()


@pytest.fixture
def agentmem(daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Agentmem:
    """Runs `agentmem ARGUMENTS...` in this process, against the scripted daemon, with `stdin` piped in."""

    def call(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "argv", ["agentmem", "--socket", str(daemon.socket), *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run()
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call

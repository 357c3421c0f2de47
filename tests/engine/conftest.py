"""An engine in this process, on a tiny checkpoint. Modules make other `settings`, or another `disk`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from tests.engine.disks import Disk
from tests.engine.runs import SPEC
from tests.helpers.checkpoints import write


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ck"), SPEC)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def settings(checkpoint: Path, state: Path) -> EngineSettings:
    return EngineSettings(state, str(checkpoint))


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def engine(settings: EngineSettings, disk: Disk) -> Iterator[Engine]:
    engine = Engine.open(settings, files=disk)
    yield engine
    disk.slow = disk.full = False
    engine.close()

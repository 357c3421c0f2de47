"""Tiny checkpoints, and real daemons on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from agentmem_client import Client

from tests.helpers.checkpoints import ALL, Spec, write
from tests.helpers.daemon import Daemon
from tests.helpers.forked import ForkedDaemon


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Spec], Path]:
    """Writes a checkpoint once and gives its folder."""
    root, made = tmp_path_factory.mktemp("checkpoints"), {}

    def get(spec: Spec) -> Path:
        if spec not in made:
            made[spec] = write(root / f"{len(made)}-{spec.name}", spec)
        return made[spec]

    return get


@pytest.fixture
def daemon_on(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons on a checkpoint, which start fast; those that still run are killed at the end."""
    made: list[Daemon] = []

    def make(
        model: Path | None = None, name: str = "d", log_level: str = "DEBUG", options: Sequence[str] = ()
    ) -> Daemon:
        (tmp_path / name).mkdir(exist_ok=True)
        made.append(ForkedDaemon(tmp_path / name, model, log_level, options))
        return made[-1]

    yield make
    for daemon in made:
        daemon.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One running daemon for all tests of a module that kill nothing; each uses agents or a `space` of its own."""
    folder = tmp_path_factory.mktemp("shared")
    daemon = Daemon(folder, write(folder / "model", ALL[0]))
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def client(shared: Daemon) -> Iterator[Client]:
    """A client of the shared daemon, which is still there afterwards."""
    with shared.client() as client:
        yield client
        assert shared.alive


@pytest.fixture
def space(request: pytest.FixtureRequest) -> str:
    """A namespace that no other test uses."""
    return request.node.name

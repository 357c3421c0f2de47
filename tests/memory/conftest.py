"""Memory without an engine: the test's thread is the one that owns MLX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentmem.memory.memory import Memory
from agentmem.model import loader
from agentmem.model.digests import FileDigests
from agentmem.model.loader import LoadedModel
from agentmem.store.store import Store
from tests.engine.disks import Disk
from tests.helpers.checkpoints import KINDS, write
from tests.memory.turns import Turn

Opened = Callable[..., Memory]


@pytest.fixture(scope="session", params=KINDS, ids=lambda spec: spec.kind)
def every_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return _load(tmp_path_factory.mktemp("ck"), request.param)


_SLOW = [pytest.param(spec, marks=pytest.mark.slow) for spec in KINDS[1:]]


@pytest.fixture(scope="session", params=[KINDS[0], *_SLOW], ids=lambda spec: spec.kind)
def each_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return _load(tmp_path_factory.mktemp("ck"), request.param)


@pytest.fixture(scope="session")
def full_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return _load(tmp_path_factory.mktemp("ck"), KINDS[0])


def _load(folder: Path, spec: object) -> LoadedModel:
    return loader.load(str(write(folder, spec)), FileDigests(folder / "weights.json"))  # type: ignore[arg-type]


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def opened(tmp_path: Path, disk: Disk) -> Iterator[Opened]:
    """Opens a memory: of a model, with budgets."""
    all_: list[Memory] = []
    stores: list[Store] = []

    def open_(model: LoadedModel, ram: int = 1 << 40, disk_budget: int = 1 << 40, **options: object) -> Memory:
        stores.append(Store.open(tmp_path / f"state{len(stores)}", disk))
        all_.append(Memory(stores[-1], model, ram, disk_budget, **options))  # type: ignore[arg-type]
        return all_[-1]

    yield open_
    disk.slow = disk.full = False
    while Turn.begun:
        Turn.begun.pop().cancel()
    for memory, store in zip(all_, stores, strict=True):
        memory.close()
        store.close()

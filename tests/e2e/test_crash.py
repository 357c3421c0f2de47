"""SIGKILL under load, at random moments and at injected stops: what was acknowledged is there, and nothing else.

The daemons are real ones, forked from a process that has everything imported, so that a kill costs about a second.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agentmem_client import Client

from tests.helpers.checkpoints import Spec
from tests.helpers.forked import ForkedDaemon
from tests.helpers.load import EVERYTHING, Worker
from tests.helpers.stops import FILE_POINTS, POINTS, Stop
from tests.helpers.survivors import check_goes_on, check_tidy, look

NAMESPACES = ("first", "second", "third")


@pytest.fixture
def daemon(checkpoint: Callable[[Spec], Path], tmp_path: Path) -> Iterator[ForkedDaemon]:
    daemon = ForkedDaemon(tmp_path, checkpoint(Spec(layers=1)), log_level="INFO")
    yield daemon
    daemon.stop()


@pytest.mark.reference
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "kills", [10, pytest.param(50, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.soak)]
)
def test_acknowledged_turns_survive_kills(kills: int, daemon: ForkedDaemon, tmp_path: Path) -> None:
    rng = random.Random(kills)
    workers = [Worker(name, rng.randrange(1 << 32), tmp_path) for name in NAMESPACES]
    done = stopped = 0
    while done < kills:
        daemon.stop_at = _stop(rng) if rng.random() < 0.6 else None
        daemon.armed.clear()
        at_start = daemon.stop_at is not None and rng.random() < 0.1
        if at_start:
            daemon.armed.set()
        try:
            client = daemon.start()
        except RuntimeError:
            assert at_start, daemon.log.read_text()[-3000:]
            done, stopped = done + 1, stopped + 1
            continue
        done += 1
        with client:
            if at_start:
                daemon.kill()
                continue
            _settle(client, daemon, workers, rng)
            daemon.armed.set()
            stopped += _load_until_killed(client, daemon, workers, rng.uniform(0.02, 0.6))
    daemon.stop_at = None
    with daemon.start() as client:
        _settle(client, daemon, workers, rng)
        for worker in workers:
            for name, mind in worker.world.items():
                check_goes_on(client, worker.namespace, name, mind)
    answered = sum(worker.answered for worker in workers)
    print(f"{kills} kills, {stopped} of them at injected stops; {answered} calls were answered")
    assert answered > kills
    assert stopped >= kills // 4
    if kills >= 50:
        assert set().union(*(worker.kinds for worker in workers)) == EVERYTHING


def _stop(rng: random.Random) -> Stop:
    point = rng.choice(POINTS)
    return Stop(point, rng.randint(1, 30 if point in FILE_POINTS else 8))


def _load_until_killed(client: Client, daemon: ForkedDaemon, workers: list[Worker], seconds: float) -> bool:
    """Whether it died by itself, at its stop."""
    stop = threading.Event()
    threads = [threading.Thread(target=worker.work, args=(client, stop), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    died = daemon.died(2.0 if daemon.stop_at is not None else seconds)
    daemon.kill()
    stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return died


def _settle(client: Client, daemon: ForkedDaemon, workers: list[Worker], rng: random.Random) -> None:
    """All that must hold after a crash."""
    for worker in workers:
        worker.settle(client, lambda name=worker.namespace: look(client, daemon.state, name))  # type: ignore[misc]
    check_tidy(client, daemon.state)
    worker = rng.choice(workers)
    if worker.world:
        name = rng.choice(sorted(worker.world))
        check_goes_on(client, worker.namespace, name, worker.world[name])

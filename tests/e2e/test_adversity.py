"""What a machine does to a daemon: no room, no rights, no folder, somebody else's lock."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from agentmem_client import Client, Unavailable

from tests.helpers.checkpoints import Spec
from tests.helpers.daemon import Daemon
from tests.helpers.survivors import check_tidy

pytestmark = pytest.mark.reference

IDS = [5 + i % 470 for i in range(600)]


@pytest.fixture
def daemon(checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]) -> Daemon:
    # The default is a share of what is free: here the disk itself is to be the limit.
    return daemon_on(checkpoint(Spec(layers=1)), options=("--disk-budget", "1GB"))


@pytest.fixture
def small(daemon: Daemon) -> Iterator[Path]:
    """A file system of 1 MiB where the daemon keeps its state.

    To mount one takes rights that neither macOS nor an unprivileged runner gives. Nothing stays untested there: the
    engine meets a full, a read-only and a slow disk in tests/engine/test_full_disk.py, at its way to the files.
    """
    daemon.state.mkdir(mode=0o700)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(daemon.state)], capture_output=True
    )
    if made.returncode:
        pytest.skip("no right to mount a small file system; tests/engine/test_full_disk.py needs none")
    yield daemon.state
    daemon.stop()
    subprocess.run(["umount", str(daemon.state)], check=True)


def said(client: Client, name: str, ids: list[int]) -> tuple[tuple[int, ...], bool]:
    reply = client.agent(name).generate(token_ids=ids, max_tokens=4, include_token_ids=True)
    return reply.token_ids, reply.durable


def test_a_full_disk(daemon: Daemon, small: Path) -> None:
    """A real one, catalog included. What was durable stays; agents go on in RAM until there is room."""
    client = daemon.start()
    durable = []
    for number in range(100):
        reply = said(client, "a", [number + 5] * 200)
        if not reply[1]:
            break
        durable.append(reply)
    assert 3 < len(durable) < 100
    beyond = [reply, said(client, "a", [3])]
    assert not beyond[1][1]
    with pytest.raises(Unavailable) as caught:
        client.agent("a").fork("b")
    assert caught.value.reason == "STORE_UNWRITABLE"
    assert len(client.agent("a").turns()) == len(durable)
    assert daemon.alive
    subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
    assert said(client, "a", [4])[1]
    check_tidy(client, small)
    assert len(client.agent("a").turns()) == len(durable) + 3
    daemon.kill()
    client = daemon.start()
    assert len(client.agent("a").turns()) == len(durable) + 3
    assert client.agent("a").prefetch().recomputed_tokens == 0


def test_a_full_disk_at_the_start_and_at_the_end(daemon: Daemon, small: Path) -> None:
    client = daemon.start()
    assert said(client, "a", IDS)[1]
    assert daemon.terminate() == 0
    filler = small / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    code, sentence = daemon.refusal()
    assert (code, "Traceback" in sentence) == (1, False)
    assert "cannot be written to" in sentence
    filler.unlink()
    client = daemon.start()
    assert client.agent("a").prefetch().warm_tokens == len(IDS) + 4


def test_a_read_only_folder_is_refused(daemon: Daemon, small: Path) -> None:
    client = daemon.start()
    assert said(client, "a", IDS)[1]
    daemon.kill()
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    code, sentence = daemon.refusal()
    assert (code, "Traceback" in sentence) == (1, False)
    assert "Read-only file system" in sentence
    subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    client = daemon.start()
    assert client.agent("a").prefetch().recomputed_tokens == 0


def test_a_deleted_folder(daemon: Daemon) -> None:
    client = daemon.start()
    assert said(client, "a", IDS)[1]
    shutil.rmtree(daemon.state)
    assert not said(client, "a", [3])[1]
    with pytest.raises(Unavailable) as caught:
        client.agent("b").create()
    assert caught.value.reason == "STORE_UNWRITABLE"
    assert "deleted or moved" in str(caught.value)
    assert daemon.alive
    assert daemon.terminate() == 0
    assert not daemon.state.exists()
    assert "1 turns of agent 'a' are lost" in daemon.log.read_text()
    assert list(daemon.start().agents()) == []


@pytest.mark.slow
def test_a_locked_catalog(daemon: Daemon) -> None:
    """With the wait that users have: 5 s for a turn, which is in RAM then, and saved later."""
    client = daemon.start()
    assert said(client, "a", IDS)[1]
    with closing(sqlite3.connect(daemon.state / "catalog.sqlite", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert not said(client, "a", [3])[1]
        assert 5 <= time.monotonic() - began < 20
        assert [agent.name for agent in client.agents()] == ["a"]
        db.execute("ROLLBACK")
    assert said(client, "a", [4])[1]
    assert [turn.number for turn in client.agent("a").turns()] == [1, 2, 3]

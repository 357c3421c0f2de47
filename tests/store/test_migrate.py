"""A store written by an earlier format is opened, migrated, and goes on.

format-N.tar.gz was written by the code of format N (1: commit b272175, 2: 660f293, 3: 8835ff9), with the samples of
this folder.
Namespace "default": alice and bob, whose request ids were r-alice and r-bob, both with positions 0..255 and ids 1, 2
behind them; alice has a second turn that adds 3. "empty" has no turn, and from format 2 on is private and pinned.
Namespace "other": carol's ids 1, 2, 3, rebuilt under state-2. From format 3 on, namespace "latent": dora's ids 0, 1, 2
and two latent positions behind them.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from agentmem.errors import Reason
from agentmem.store.files import Files
from agentmem.store.folder import FORMAT
from agentmem.store.keys import beginning
from agentmem.store.records import BlockUse
from agentmem.store.store import Store
from agentmem.types import Exactness, Share
from tests.store.samples import STATE_ID, Crash, expect, files_below, make_block, make_record, unpack
from tests.store.test_latents import timeline


@pytest.fixture(params=[1, 2, 3])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def old(folder: Path, version: int) -> Path:
    folder.mkdir(mode=0o700)
    unpack(version, folder)
    return folder


def schema(folder: Path) -> list[tuple]:
    db = sqlite3.connect(folder / "catalog.sqlite")
    found = sorted(db.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
    db.close()
    return found


def test_everything_is_there_and_goes_on(old: Path, version: int) -> None:
    on_disk = files_below(old / "blocks", "") + files_below(old / "turns", "")
    store = Store.open(old)
    assert files_below(old / "blocks", "") + files_below(old / "turns", "") == on_disk
    alice, bob, empty = store.agents("default")
    (carol,) = store.agents("other")
    assert [agent.name for agent in (alice, bob, empty, carol)] == ["alice", "bob", "empty", "carol"]
    assert {(agent.share, agent.pinned, agent.expires) for agent in (alice, carol)} == {(Share.NAMESPACE, False, None)}
    assert (empty.share, empty.pinned) == ((Share.PRIVATE, True) if version >= 2 else (Share.NAMESPACE, False))
    assert store.history(alice.id).ids().tolist() == [*range(256), 1, 2, 3]
    assert store.history(alice.id).ids(1).tolist() == store.history(bob.id).ids().tolist() == [*range(256), 1, 2]
    assert store.history(carol.id).ids().tolist() == [1, 2, 3]
    assert [message.end for message in store.history(carol.id).messages()] == [3], (
        "REBUILD does not repeat the messages"
    )
    request = store.find_request("default", "r-bob")
    assert request is None or request.agent_name == "bob"
    for agent in (alice, bob, carol):
        for use in store.history(agent.id).timeline():
            assert store.blocks.read(agent.namespace, use.key)[0].tokens == use.used

    assert store.branches.rewind("default", "alice", 1).turn == 3
    assert store.branches.fork("default", "bob", "twin").tokens == 258
    fourth = make_block([4], secret=store.namespace("default").secret)
    store.commit(make_record(empty, [4], [BlockUse(fourth.key, 1)]), [fourth])
    store.close()


def test_what_an_older_version_would_not_understand_is_there(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    unpack(3, folder)
    store = Store.open(folder)
    (dora,) = store.agents("latent")
    ids, latents = timeline(3, 1, 2)
    assert (store.history(dora.id).ids().tolist(), store.history(dora.id).latents()) == (ids.tolist(), latents)
    (use,) = store.history(dora.id).timeline()
    assert store.blocks.read("latent", use.key)[0].latents == latents
    assert store.history(dora.id).record(1).exactness is Exactness.LATENT
    store.close()


@pytest.mark.parametrize("known", [1, 2, 3])
def test_a_version_that_knows_only_older_formats_touches_nothing(
    old: Path, version: int, known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it that the marker says so, or the catalog alone."""
    Store.open(old).close()
    before = {path: path.read_bytes() for path in files_below(old, "")}
    monkeypatch.setattr("agentmem.store.folder.FORMAT", known)
    monkeypatch.setattr("agentmem.store.catalog.schema.VERSION", known)
    with expect(Reason.STORE_TOO_NEW):
        Store.open(old)
    assert {path: path.read_bytes() for path in files_below(old, "")} == before
    (old / "format.json").write_text(json.dumps({"format": known}))
    with expect(Reason.STORE_TOO_NEW):
        Store.open(old)
    assert set(files_below(old, "")) == before.keys()


def test_old_blocks_are_found_whole(old: Path, version: int) -> None:
    store = Store.open(old)
    alice, *_ = store.agents("default")
    full, longer = store.history(alice.id).timeline()
    assert store.blocks.shared(full.key)
    assert store.blocks.shared(longer.key)
    secret = store.namespace("default").secret
    begins = store.blocks.beginning(beginning(secret, b"", STATE_ID, np.arange(256, dtype=np.int32)), 9)
    assert begins == ([full.key] if version >= 3 else [])
    store.close()


def test_the_schema_is_that_of_a_new_store(old: Path, tmp_path: Path) -> None:
    Store.open(old).close()
    Store.open(tmp_path / "new").close()
    assert schema(old) == schema(tmp_path / "new")
    assert json.loads((old / "format.json").read_text())["format"] == FORMAT


def test_a_crash_while_migrating(old: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is marked, so that older versions refuse it, and the catalog is migrated when it is opened again."""

    class NoSync(Files):
        def rename(self, source: Path, target: Path) -> None:
            super().rename(source, target)
            raise Crash

    with pytest.raises(Crash):
        Store.open(old, NoSync())
    assert json.loads((old / "format.json").read_text())["format"] == FORMAT
    db = sqlite3.connect(old / "catalog.sqlite")
    assert db.execute("PRAGMA user_version").fetchone() == (version,)
    db.close()
    monkeypatch.setattr("agentmem.store.catalog.schema.migrate", _half_done)
    with pytest.raises(Crash):
        Store.open(old)
    monkeypatch.undo()
    test_old_blocks_are_found_whole(old, version)


def _half_done(db: sqlite3.Connection, version: int) -> None:
    db.execute("ALTER TABLE agents RENAME TO old_agents")
    raise Crash

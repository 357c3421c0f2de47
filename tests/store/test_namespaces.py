"""Namespaces that are removed: whole, with all that hangs on them, and nothing of them comes back."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.store.files import Files
from agentmem.store.folder import FORGOTTEN
from agentmem.store.rebuild import rebuild
from agentmem.store.store import Store
from agentmem.store.verify import verify
from tests.store.samples import add_turn, expect, files_below, read_all

NAME = "Xteam"


@pytest.fixture
def team(store: Store) -> bytes:
    """The secret of a namespace with two agents that share a block, one of them pinned; there is another namespace."""
    add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    agent, _ = add_turn(store, store.create_agent(NAME, "Xalice", "create-1"), [1, 2, 3], request_id="turn-1")
    add_turn(store, store.create_agent(NAME, "Xbob", pinned=True), [1, 2, 3])
    add_turn(store, agent, [4])
    return store.namespace(NAME).secret


def names(store: Store) -> list[str]:
    return [name for name, *_ in store.namespaces()]


def whole(folder: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in files_below(folder, ""))


def test_one_that_has_agents_is_refused(store: Store, folder: Path, team: bytes) -> None:
    before = files_below(folder, "")
    for dry_run in (True, False):
        with expect(Reason.NAMESPACE_NOT_EMPTY):
            store.pruning.namespace(NAME, "r", dry_run=dry_run)
    assert (names(store), files_below(folder, "")) == ([NAME, "default"], before)
    for name in ("Xalice", "Xbob"):
        store.pruning.delete(NAME, name)
    gone = store.pruning.namespace(NAME, "r")
    assert (gone.agents, gone.freed_bytes, names(store)) == (0, 0, ["default"])


def test_nothing_of_it_stays(store: Store, folder: Path, team: bytes) -> None:
    before = store.total_bytes()
    would = store.pruning.namespace(NAME, force=True, dry_run=True)
    assert store.total_bytes() == before
    assert store.pruning.namespace(NAME, "r", force=True) == would
    assert (would.agents, before - store.total_bytes()) == (2, would.freed_bytes)
    assert not {word for word in (b"Xteam", b"Xalice", b"Xbob", team) if word in whole(folder)}
    with expect(Reason.NAMESPACE_NOT_FOUND):
        store.pruning.namespace(NAME, force=True)
    store.close()
    assert read_all(folder, [NAME, "default"]) == {("default", "alice"): [1, 2, 3]}


def test_one_of_the_same_name_begins_anew(store: Store, folder: Path, team: bytes) -> None:
    store.pruning.delete(NAME, "Xbob", "delete-1")
    store.pruning.namespace(NAME, force=True)
    store.create_agent(NAME, "Xbob", "delete-1")  # the ids of its requests are free again
    agent = store.create_agent(NAME, "Xalice", "create-1")
    agent, _ = add_turn(store, agent, [5], request_id="turn-1")
    secret = store.namespace(NAME).secret
    assert secret != team
    store.close()
    store = Store.open(folder)
    assert store.namespace(NAME).secret == secret
    assert store.history(agent.id).ids().tolist() == [5]
    store.close()


def test_a_repeat_gets_the_first_result_and_removes_nothing(store: Store, folder: Path, team: bytes) -> None:
    with expect(Reason.REQUEST_ID_REUSED):
        store.pruning.namespace(NAME, "turn-1", force=True)
    first = store.pruning.namespace(NAME, "r", force=True)
    assert store.pruning.namespace(NAME, "r") == first
    add_turn(store, store.create_agent(NAME, "carol"), [6])
    store.close()
    store = Store.open(folder)
    for dry_run in (True, False):
        assert store.pruning.namespace(NAME, "r", force=True, dry_run=dry_run) == first
    with expect(Reason.REQUEST_ID_REUSED):
        store.pruning.namespace("default", "r", force=True)
    assert store.agent(NAME, "carol") is not None
    store.close()


def test_deleting_and_verifying_bring_none_back(store: Store, team: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = store.namespaces()
    store.pruning.namespace(NAME, force=True)
    with expect(Reason.AGENT_NOT_FOUND):
        store.pruning.delete(NAME, "Xalice", "again")
    monkeypatch.setattr(store, "namespaces", lambda: listed)  # it was there when the verification began
    assert verify(store).problems == ()
    assert not store.has_namespace(NAME)


def test_a_removal_that_failed_leaves_all_of_it(
    store: Store, folder: Path, team: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AgentmemError(Reason.STORE_UNWRITABLE, "The catalog cannot be written to.")

    with monkeypatch.context() as patch:
        patch.setattr(store._core.catalog, "write", fail)
        with expect(Reason.STORE_UNWRITABLE):
            store.pruning.namespace(NAME, force=True)
    assert files_below(folder / "namespaces", FORGOTTEN) == []
    agent = store.agent(NAME, "Xbob")
    assert agent is not None
    add_turn(store, agent, [9])
    store.close()
    assert read_all(folder, [NAME, "default"])[NAME, "Xbob"] == [1, 2, 3, 9]


def test_one_that_is_gone_from_the_catalog_is_gone_at_once(
    store: Store, folder: Path, team: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails behind the transaction: files that are left are removed by the next open."""

    def fail() -> None:
        raise AgentmemError(Reason.STORE_UNWRITABLE, "The catalog cannot be cleared.")

    with monkeypatch.context() as patch:
        patch.setattr(store._core.catalog, "scrub", fail)
        with expect(Reason.STORE_UNWRITABLE):
            store.pruning.namespace(NAME, "r", force=True)
    assert (names(store), store.has_namespace(NAME), team in whole(folder)) == (["default"], False, False)
    assert store.pruning.namespace(NAME, "r", force=True).agents == 2
    assert NAME.encode() not in whole(folder)


def test_on_a_full_disk_its_blocks_make_room(folder: Path) -> None:
    class Full(Files):
        full = False

        def create(self, path: Path, data: bytes) -> None:
            if self.full and files_below(folder / "blocks", ""):
                raise OSError(errno.ENOSPC, "No space left on device")
            super().create(path, data)

    store = Store.open(folder, files := Full())
    add_turn(store, store.create_agent(NAME, "Xalice"), [1, 2, 3])
    files.full = True
    assert store.pruning.namespace(NAME, force=True).agents == 1
    store.close()
    assert read_all(folder, [NAME]) == {}


@pytest.mark.parametrize("with_agents", [True, False])
def test_a_rebuild_brings_back_only_what_had_agents(folder: Path, with_agents: bool) -> None:
    """The mark alone says nothing: a removal may have failed, and what was marked been used since."""
    store = Store.open(folder)
    store.create_agent(NAME, "empty")
    if with_agents:
        add_turn(store, store.create_agent(NAME, "alice"), [1, 2])
    store.close()
    (secret,) = files_below(folder / "namespaces", "secret")
    secret.with_name(FORGOTTEN).touch()
    (folder / "catalog.sqlite").unlink()
    rebuild(folder)
    assert read_all(folder, [NAME]) == ({(NAME, "alice"): [1, 2]} if with_agents else {})
    store = Store.open(folder)
    assert names(store) == ([NAME] if with_agents else [])
    store.close()

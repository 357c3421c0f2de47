"""State folders that are not what one expects: shared with other files, behind a link, or another user's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentmem.errors import Reason
from agentmem.store.rebuild import rebuild
from agentmem.store.store import Store
from agentmem.store.verify import verify
from tests.store.samples import add_turn, expect, files_below, make_block

NOT_OURS = (
    "notes.txt", "data.sqlite", "catalog.db", "catalog.old.sqlite", "model.safetensors", ".hidden", "x.tmp",
    ".0123456789abcde.tmp",
    "blocks/README.md", "blocks/ab/photo.jpg", "blocks/ab/cd/weights.safetensors", "blocks/ab/cd/x.tmp",
    "turns/plan.json", "turns/00000001.json", "turns/diary/00000001.json", "turns/diary/private.txt",
    "namespaces/readme", "namespaces/mine/secret.txt", "quarantine/why.json", "quarantine/old/00000001.json",
    "deep/er/still/00000001.json",
)  # fmt: skip


def test_files_of_others_are_left_alone(folder: Path) -> None:
    for name in NOT_OURS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (folder / "link").symlink_to("/etc/hostname")
    (folder / "nowhere").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "blocks" / "pipe")
    store = Store.open(folder)
    alice, _ = add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    bob, _ = add_turn(store, store.create_agent("default", "bob"), [4, 5])
    orphan = store._core.folder.block(make_block([9]).key)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"an orphan of ours")
    assert len(store.pruning.orphans()) == 1
    assert not orphan.exists()
    assert verify(store).problems == ()
    store.pruning.delete("default", "alice")
    store.close()
    assert rebuild(folder).agents == 1
    store = Store.open(folder)
    assert store.history(bob.id).ids().tolist() == [4, 5]
    assert store.disk_usage().orphaned_bytes == 0
    store.close()
    for name in NOT_OURS:
        assert (folder / name).read_bytes() == name.encode()
    assert os.readlink(folder / "link") == "/etc/hostname"
    assert (folder / "nowhere").is_symlink()
    assert not (folder / "turns" / alice.id).exists()


@pytest.mark.parametrize(
    "name", ["blocks", "turns", "namespaces", "quarantine", "catalog.sqlite", "lock", "format.json"]
)
def test_something_else_of_our_name_is_refused(folder: Path, name: str) -> None:
    """A file where a folder should be, or the other way round."""
    path = folder / name
    folder.mkdir()
    if "." in name or name == "lock":
        path.mkdir()
    else:
        path.write_text("not ours")
    reason = Reason.STORE_UNREADABLE if name == "format.json" else Reason.STORE_UNWRITABLE
    for _ in range(2):
        with expect(reason):
            Store.open(folder)
    assert path.is_dir() or path.read_text() == "not ours"
    path.rmdir() if path.is_dir() else path.unlink()
    Store.open(folder).close()


def test_a_link_to_a_folder_is_that_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    folder.symlink_to(tmp_path / "real")
    store = Store.open(folder)
    add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    with expect(Reason.STORE_LOCKED):
        Store.open(tmp_path / "real")
    store.close()
    assert folder.is_symlink()
    store = Store.open(tmp_path / "real")
    with expect(Reason.STORE_LOCKED):
        Store.open(folder)
    agent = store.agent("default", "alice")
    assert agent is not None
    assert store.history(agent.id).ids().tolist() == [1, 2, 3]
    orphan = store._core.folder.block(make_block([9]).key)
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"x")
    store.close()
    Store.open(folder).close()
    assert not orphan.exists()


def test_a_link_to_another_place_is_not_taken_for_the_same(folder: Path, tmp_path: Path) -> None:
    """The link is set to another folder while the store is open."""
    for name in ("real", "other"):
        (tmp_path / name).mkdir()
    folder.symlink_to(tmp_path / "real")
    store = Store.open(folder)
    folder.unlink()
    folder.symlink_to(tmp_path / "other")
    with expect(Reason.STORE_UNWRITABLE):
        store.create_agent("default", "alice")
    store.close()
    assert list((tmp_path / "other").iterdir()) == []


def test_a_link_to_nothing_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.symlink_to(tmp_path / "nothing")
    with expect(Reason.STORE_UNWRITABLE):
        Store.open(folder)
    assert not (tmp_path / "nothing").exists()


@contextmanager
def somebody_else() -> Iterator[None]:
    """This process has the rights of an unprivileged user, whoever runs the tests."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


@pytest.mark.parametrize("rights", [0o000, 0o500, 0o700])
def test_another_users_folder_is_refused_and_unchanged(tmp_path_factory: pytest.TempPathFactory, rights: int) -> None:
    """Who is no superuser can have no other user's folder, but one without rights."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "state"
    store = Store.open(folder)
    add_turn(store, store.create_agent("default", "alice"), [1, 2, 3])
    store.close()
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    folder.chmod(rights if os.geteuid() == 0 else 0)
    for path in (home, home.parent):
        path.chmod(0o755)
    try:
        with somebody_else(), expect(Reason.STORE_UNWRITABLE):
            Store.open(folder)
    finally:
        folder.chmod(0o700)
    assert {path: path.lstat().st_mtime_ns for path in folder.rglob("*")} == before
    Store.open(folder).close()
    assert len(files_below(folder / "turns", ".json")) == 1

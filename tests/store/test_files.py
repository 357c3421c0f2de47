"""Durable writes: private, whole, and synced in the right order."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from agentmem.store import files as files_module
from agentmem.store.files import Files, read_file, write_durably
from agentmem.store.store import Store
from tests.store.samples import FailingFiles, add_turn

_flush = files_module._flush  # as it is, before the fixture of this folder makes it do nothing


class LoggedFiles(Files):
    """Notes every operation; temporary files by their folder's name."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []

    def create(self, path: Path, data: bytes) -> None:
        self.log.append(("create", path.suffix))
        super().create(path, data)

    def sync(self, path: Path) -> None:
        self.log.append(("sync", path.suffix or path.name))
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        self.log.append(("rename", target.name))
        super().rename(source, target)

    def make_folder(self, path: Path) -> None:
        self.log.append(("make_folder", path.name))
        super().make_folder(path)


def test_a_write_is_synced_before_and_after_its_rename(tmp_path: Path) -> None:
    files = LoggedFiles()
    assert write_durably(files, tmp_path / "a" / "b" / "file", b"data") == 4
    assert files.log == [
        ("make_folder", "a"),
        ("sync", tmp_path.name),
        ("make_folder", "b"),
        ("sync", "a"),
        ("create", ".tmp"),
        ("sync", ".tmp"),
        ("rename", "file"),
        ("sync", "b"),
    ]
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


def test_sync_reaches_the_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(files_module, "_flush", flushed.append)
    write_durably(Files(), tmp_path / "file", b"data")
    assert len(flushed) == 2


def test_a_flush_is_the_strongest_that_the_system_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[tuple[int, ...]] = []
    if sys.platform == "darwin":
        monkeypatch.setattr(files_module.fcntl, "fcntl", lambda *given: flushed.append(given))
        wanted: tuple[int, ...] = (files_module.fcntl.F_FULLFSYNC,)
    else:
        monkeypatch.setattr(os, "fsync", lambda *given: flushed.append(given))
        wanted = ()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    _flush(descriptor)
    os.close(descriptor)
    assert flushed == [(descriptor, *wanted)]


def test_a_commit_writes_blocks_before_the_record(folder: Path) -> None:
    files = LoggedFiles()
    store = Store.open(folder, files)
    agent = store.create_agent("default", "alice")
    files.log.clear()
    _, block = add_turn(store, agent, [1, 2])
    renames = [name for operation, name in files.log if operation == "rename"]
    assert renames == [f"{block.key.hex()}.safetensors", "00000001.json"]
    assert files.log[-1] == ("sync", agent.id), "the record's folder is synced before the catalog is told"
    store.close()


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    for step in (1, 2, 3):
        files = FailingFiles(OSError(28, "No space left on device"))
        files.fail_at = step
        with pytest.raises(OSError, match="No space"):
            write_durably(files, path, b"new data")
        assert path.read_bytes() == b"old"


def test_a_large_file_is_written_whole(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    write_durably(Files(), tmp_path / "file", data)
    assert read_file(tmp_path / "file", len(data)) == data


def test_reading_minds_the_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    assert read_file(path, 4) == b"data"
    for size in (0, 3, 5):
        with pytest.raises(ValueError, match="bytes"):
            read_file(path, size)
    with pytest.raises(ValueError, match="regular"):
        read_file(tmp_path, 4)

"""The socket's place: private, locked, free of orphans."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from agentmem_daemon.errors import StartError
from agentmem_daemon.sockets import check_path, claim_socket, prepare_folder


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def test_folder_is_made_private(folder: Path) -> None:
    prepare_folder(folder / "new" / "run")
    assert (folder / "new" / "run").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_folder_that_others_can_write_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(StartError, match="Other users can write"):
        prepare_folder(folder)


def test_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(StartError, match="another user"):
        prepare_folder(folder)


def test_file_in_the_folders_place_is_refused(folder: Path) -> None:
    (folder / "run").write_text("")
    with pytest.raises(StartError, match="cannot be made"):
        prepare_folder(folder / "run")


def test_long_paths_are_refused() -> None:
    check_path(Path("/" + "a" * 102))
    for name in ("a" * 103, "é" * 52):
        with pytest.raises(StartError, match="103"):
            check_path(Path("/" + name))


def test_stale_socket_goes_and_nothing_is_left(folder: Path) -> None:
    path = folder / "a.sock"
    bind(path)
    with claim_socket(path):
        assert not path.exists()
        bind(path)
    assert os.listdir(folder) == ["a.sock.lock"]


def test_second_claim_names_the_first(folder: Path) -> None:
    path = folder / "a.sock"
    with claim_socket(path):
        bind(path)
        with pytest.raises(StartError, match=f"pid {os.getpid()}"), claim_socket(path):
            pass
        assert path.is_socket()
    with claim_socket(path):
        pass


def test_second_claim_without_a_known_pid(folder: Path) -> None:
    path = folder / "a.sock"
    with claim_socket(path):
        (folder / "a.sock.pid").write_text("?")
        with pytest.raises(StartError, match="Another agentmem daemon already"), claim_socket(path):
            pass


def test_other_files_are_never_removed(folder: Path) -> None:
    path = folder / "precious"
    path.write_text("keep")
    with pytest.raises(StartError, match="not a socket"), claim_socket(path):
        pass
    assert path.read_text() == "keep"

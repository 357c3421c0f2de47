"""Where the master key comes from: a file that only its owner can read, or the keychain; and what is no key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from keyring.errors import KeyringLocked

from agentmem.errors import Reason
from agentmem.store.masterkey import ACCOUNT, KEYCHAIN, SERVICE, create, load
from tests.store.samples import expect


class InMemory(KeyringBackend):
    """A keychain that works."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password


class Locked(InMemory):
    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("the user said no")


class Broken(InMemory):
    def get_password(self, service: str, username: str) -> str | None:
        raise ConnectionError("an error of the backend's own")


class ReadOnly(InMemory):
    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked("the user said no")


@pytest.fixture(autouse=True)
def keychain() -> Iterator[InMemory]:
    before, backend = keyring.get_keyring(), InMemory()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


def write(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_a_key_file_is_made_once(tmp_path: Path) -> None:
    file = tmp_path / "key"
    create(file)
    assert file.stat().st_mode & 0o777 == 0o600
    key = load(str(file))
    assert (len(key), key.hex()) == (32, file.read_text().strip())
    with expect(Reason.ENCRYPTION_KEY_EXISTS):
        create(file)
    assert load(file) == key
    create(tmp_path / "other")
    assert load(tmp_path / "other") != key


def test_bytes_or_digits(tmp_path: Path) -> None:
    key = bytes(range(32))
    for data in (key, key.hex().encode(), key.hex().upper().encode() + b"\r\n"):
        assert load(write(tmp_path / "key", data)) == key
    assert load(write(tmp_path / "key", key, 0o400)) == key


@pytest.mark.parametrize("data", [b"", b"x" * 31, b"x" * 33, b"x" * 64, b"0" * 63, b"0" * 65, b"0" * 5000])
def test_what_is_no_key(tmp_path: Path, data: bytes) -> None:
    with expect(Reason.ENCRYPTION_KEY_INVALID):
        load(write(tmp_path / "key", data))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_can_read(tmp_path: Path, mode: int) -> None:
    with expect(Reason.ENCRYPTION_KEY_INVALID):
        load(write(tmp_path / "key", bytes(32), mode))


def test_no_file(tmp_path: Path) -> None:
    with expect(Reason.ENCRYPTION_KEY_MISSING):
        load(tmp_path / "none")
    with expect(Reason.ENCRYPTION_KEY_INVALID):
        load(tmp_path)
    os.mkfifo(tmp_path / "fifo", 0o600)
    with expect(Reason.ENCRYPTION_KEY_INVALID):
        load(tmp_path / "fifo")


def test_the_keychain(keychain: InMemory) -> None:
    with expect(Reason.ENCRYPTION_KEY_MISSING):
        load(KEYCHAIN)
    create(KEYCHAIN)
    key = load(KEYCHAIN)
    assert keychain.entries == {(SERVICE, ACCOUNT): key.hex()}
    with expect(Reason.ENCRYPTION_KEY_EXISTS):
        create(KEYCHAIN)
    assert load(KEYCHAIN) == key
    keychain.entries[SERVICE, ACCOUNT] = "no key"
    with expect(Reason.ENCRYPTION_KEY_INVALID):
        load(KEYCHAIN)


@pytest.mark.parametrize("backend", [fail.Keyring(), Locked(), Broken()], ids=["none", "locked", "broken"])
def test_no_keychain(backend: KeyringBackend) -> None:
    keyring.set_keyring(backend)
    with expect(Reason.KEYCHAIN_UNAVAILABLE):
        load(KEYCHAIN)
    with expect(Reason.KEYCHAIN_UNAVAILABLE):
        create(KEYCHAIN)


@pytest.mark.parametrize("backend", [null.Keyring(), ReadOnly()], ids=["forgets", "read-only"])
def test_a_keychain_that_keeps_nothing(backend: KeyringBackend) -> None:
    keyring.set_keyring(backend)
    with expect(Reason.KEYCHAIN_UNAVAILABLE):
        create(KEYCHAIN)

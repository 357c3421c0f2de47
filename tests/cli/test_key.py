"""`key create`, and `doctor` on an encrypted state folder."""

from __future__ import annotations

from pathlib import Path

import keyring
import pytest
from keyring.backends import fail

from agentmem.store import masterkey
from agentmem.store.store import Store
from tests.cli.conftest import Agentmem


def test_a_key_file(agentmem: Agentmem, tmp_path: Path) -> None:
    file = tmp_path / "key"
    made = agentmem("key", "create", str(file))
    assert (made.code, made.out) == (0, "")
    assert file.read_text().strip() not in made.err
    assert str(file) in made.err
    again = agentmem("key", "create", str(file))
    assert (again.code, again.err.endswith("[ENCRYPTION_KEY_EXISTS]\n")) == (1, True)
    nowhere = agentmem("key", "create", str(tmp_path / "no" / "key"))
    assert (nowhere.code, nowhere.err.endswith("[FILE_UNWRITABLE]\n")) == (1, True)


def test_no_keychain(agentmem: Agentmem) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    try:
        result = agentmem("key", "create", "keychain")
    finally:
        keyring.set_keyring(before)
    assert (result.code, result.err.endswith("[KEYCHAIN_UNAVAILABLE]\n")) == (1, True)
    assert "agentmem key create FILE" in result.err


def test_the_doctor_needs_the_key(agentmem: Agentmem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, state = tmp_path / "key", tmp_path / "state"
    masterkey.create(file)
    store = Store.open(state, key=masterkey.load(file))
    store.namespace("default")
    store.close()
    rebuild = ("doctor", "--rebuild", "--state", str(state))
    refused = agentmem(*rebuild)
    assert (refused.code, refused.err.endswith("[ENCRYPTION_KEY_MISSING]\n")) == (1, True)
    assert "--encrypt" in refused.err
    assert agentmem(*rebuild, "--encrypt", str(file)).code == 0
    monkeypatch.setenv("AGENTMEM_ENCRYPT", str(file))
    assert agentmem(*rebuild).code == 0
    masterkey.create(tmp_path / "other")
    wrong = agentmem(*rebuild, "--encrypt", str(tmp_path / "other"))
    assert (wrong.code, wrong.err.endswith("[ENCRYPTION_KEY_WRONG]\n")) == (1, True)

"""Encrypted stores: whose key opens them, and what can be read without one."""

from __future__ import annotations

import base64
import itertools
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agentmem.errors import Reason
from agentmem.store.blockfile import Block
from agentmem.store.latents import id_bytes
from agentmem.store.rebuild import rebuild
from agentmem.store.store import Store
from tests.store.encrypted import IDS, OTHER_KEY, SAID, Seen, agent_of, only_block, refused, reopened, say
from tests.store.samples import (
    MASTER_KEY,
    add_turn,
    expect,
    files_below,
    make_block,
    unpack,
)


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    opened = Store.open(folder, key=MASTER_KEY)
    yield opened
    opened.close()


def findings(data: bytes, block: Block) -> set[str]:
    """What of a turn stands in some bytes, or in base64 in them."""
    pieces = {"text": SAID.encode(), "ids": id_bytes(np.array(IDS))}
    pieces |= {name: tensor.data.tobytes()[:24] for name, tensor in block.tensors.items()}
    texts = [data, *(_decoded(part) for part in re.findall(rb"[A-Za-z0-9+/]{16,}={0,2}", data))]
    return {name for name, piece in pieces.items() if any(piece in text for text in texts)}


def _decoded(text: bytes) -> bytes:
    return base64.b64decode(text[: len(text) // 4 * 4])


def live(folder: Path, key: bytes | None) -> tuple[set[str], bytes]:
    """A store's life: turns, forks, damage, quarantine, export, import, deletion. What is found, and the secret."""
    seen = Seen()
    store = Store.open(folder, seen, key)
    secret = store.namespace("default").secret
    block = say(store, "alice")
    add_turn(store, agent_of(store, "alice"), [5])
    store.branches.fork("default", "alice", "fork", at_turn=1)
    exported = b"".join(store.transfers.export("default", "alice"))
    store.transfers.take_in([exported], "default", "copy", "", lambda record: None)
    with expect(Reason.IMPORT_INVALID):
        store.transfers.take_in([exported[:-1]], "default", "broken", "", lambda record: None)
    store.blocks.quarantine(only_block(store, "fork"), "TEST")
    found = set()

    def look() -> None:
        for path in files_below(folder, ""):
            found.update(findings(path.read_bytes(), block))

    look()  # with the catalog's log as it stands
    store.pruning.delete("default", "copy")
    store.pruning.history("default", "alice")
    store.close()
    rebuild(folder, seen, key)
    look()
    for content in seen.contents:
        found |= findings(content, block)
        assert key is None or secret not in content
    return found, secret


def test_nothing_can_be_read_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count()
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: (dir / f"temporary-{next(numbers)}").open("w+b"))
    found, secret = live(tmp_path / "state", MASTER_KEY)
    assert found == set()
    assert not any(secret in path.read_bytes() for path in files_below(tmp_path / "state", ""))
    assert next(numbers) == 2, "temporary files that are left there"
    plain, secret = live(tmp_path / "plain", None)
    assert plain == {"text", "ids", *make_block([1]).tensors}, "what would be found"
    assert any(secret in path.read_bytes() for path in files_below(tmp_path / "plain", ""))


def test_an_export_is_readable_and_equal(store: Store, tmp_path: Path) -> None:
    say(store, "alice")
    exported = b"".join(store.transfers.export("default", "alice"))
    assert SAID.encode() in exported
    plain = Store.open(tmp_path / "plain")
    plain.transfers.take_in([exported], "default", "bob", "", lambda record: None)
    assert plain.history(agent_of(plain, "bob").id).ids().tolist() == IDS
    back = b"".join(plain.transfers.export("default", "bob"))
    plain.close()
    store.transfers.take_in([back[:1000], back[1000:]], "default", "bob", "", lambda record: None)
    block, _ = store.blocks.read("default", only_block(store, "bob"))
    assert block.ids.tolist() == IDS


@pytest.mark.parametrize("marker", ["there", "lost"])
def test_a_store_opens_with_its_key_alone(store: Store, folder: Path, marker: str) -> None:
    say(store, "alice")
    store.close()
    if marker == "lost":
        (folder / "format.json").unlink()
    refused(folder, None, Reason.ENCRYPTION_KEY_MISSING)
    refused(folder, OTHER_KEY, Reason.ENCRYPTION_KEY_WRONG)
    assert reopened(folder, MASTER_KEY) == IDS
    refused(folder, None, Reason.ENCRYPTION_KEY_MISSING)  # the marker is there again


@pytest.mark.parametrize("marker", ["there", "lost"])
def test_a_plain_store_is_not_opened_with_a_key(folder: Path, marker: str) -> None:
    store = Store.open(folder)
    say(store, "alice")
    store.close()
    if marker == "lost":
        (folder / "format.json").unlink()
    refused(folder, MASTER_KEY, Reason.STORE_NOT_ENCRYPTED)
    assert reopened(folder, None) == IDS


def test_a_store_of_an_earlier_format_is_plain(folder: Path) -> None:
    unpack(2, folder)
    (folder / "lock").touch()
    refused(folder, MASTER_KEY, Reason.STORE_NOT_ENCRYPTED)
    Store.open(folder).close()


@pytest.mark.parametrize("damage", ["{", '{"format": 3, "encryption": {}}', '{"format": 3, "encryption": 1}', "[]"])
def test_a_damaged_marker_is_mended_with_the_right_key_only(store: Store, folder: Path, damage: str) -> None:
    say(store, "alice")
    store.close()
    (folder / "format.json").write_text(damage)
    with expect(Reason.STORE_UNREADABLE):
        Store.open(folder, key=MASTER_KEY)
    for key, reason in ((None, Reason.ENCRYPTION_KEY_MISSING), (OTHER_KEY, Reason.ENCRYPTION_KEY_WRONG)):
        with expect(reason):
            rebuild(folder, key=key)
    assert (folder / "format.json").read_text() == damage
    assert rebuild(folder, key=MASTER_KEY).problems == ()
    assert reopened(folder, MASTER_KEY) == IDS


def test_the_marker_holds_no_key(store: Store, folder: Path) -> None:
    text = (folder / "format.json").read_text()
    assert json.loads(text)["encryption"].keys() == {"cipher", "salt", "check"}
    assert MASTER_KEY.hex() not in text

"""Looks at an encrypted store: whose key opens it, and what is said in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.store.blockfile import Block
from agentmem.store.files import Files
from agentmem.store.rebuild import rebuild
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.types import Message, TurnMessage
from tests.store.samples import add_turn, files_below

SAID = "the marker that nobody may find"
IDS = [70_001, 70_002, 70_003]
OTHER_KEY = bytes(32)


class Seen(Files):
    """Keeps every content that a file ever had, temporary ones too."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def create(self, path: Path, data: bytes) -> None:
        self.contents.append(bytes(data))
        super().create(path, data)


def agent_of(store: Store, name: str) -> AgentRow:
    row = store.agent("default", name)
    assert row is not None
    return row


def say(store: Store, name: str, ids: list[int] = IDS) -> Block:
    """A turn of a new agent, in which the marker is said."""
    agent = store.create_agent("default", name)
    message = TurnMessage(Message("user", (SAID,)), 0, len(ids))
    return add_turn(store, agent, ids, messages=(message,))[1]


def only_block(store: Store, name: str) -> bytes:
    (use,) = store.history(agent_of(store, name).id).timeline()
    return use.key


def snapshot(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files_below(folder, "")}


def refused(folder: Path, key: bytes | None, reason: Reason) -> None:
    """Nobody opens the folder or rebuilds its catalog with this key, and nothing is touched."""
    before = snapshot(folder)
    for work in (lambda: Store.open(folder, key=key), lambda: rebuild(folder, key=key)):
        with pytest.raises(AgentmemError) as caught:
            work()
        assert caught.value.reason is reason
        assert str(folder) in caught.value.message
        assert snapshot(folder) == before


def reopened(folder: Path, key: bytes | None) -> list[int]:
    """Alice's ids."""
    store = Store.open(folder, key=key)
    ids = store.history(agent_of(store, "alice").id).ids().tolist()
    block, _ = store.blocks.read("default", only_block(store, "alice"))
    store.close()
    assert block.ids.tolist() == ids
    return ids

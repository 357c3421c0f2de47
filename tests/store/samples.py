"""Small blocks and records, a file seam that fails on demand, and looks at what lies on the disk."""

from __future__ import annotations

import re
import sqlite3
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

from agentmem.errors import AgentmemError, Reason
from agentmem.store.blockfile import Block
from agentmem.store.catalog.namespaces import folders as namespaces_kept
from agentmem.store.files import Files
from agentmem.store.keys import block_key
from agentmem.store.latents import id_bytes
from agentmem.store.layout import RawTensor
from agentmem.store.records import BlockUse, TurnRecord
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.types import BlockKind, Exactness, FinishReason, Message, Share, Timings, TurnKind, TurnMessage, Usage

SECRET = bytes(range(32))
MASTER_KEY = bytes(range(100, 132))
STATE_ID = "state-1"


class SameHash:
    """In place of blake2b: of whatever it is."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def digest(self) -> bytes:
        return b"\xff" * 4


def make_block(
    ids: list[int], *, parent: bytes = b"", secret: bytes = SECRET, start: int = 0, state_id: str = STATE_ID
) -> Block:
    """A block whose tensors' rows depend on their positions and ids alone, as real state depends on its inputs."""
    array = np.array(ids, dtype=np.int32)
    positions = np.arange(start, start + len(ids), dtype=np.uint32)
    lanes = np.arange(8, dtype=np.uint32).reshape(1, 2, 1, 4)
    rows = (array.astype(np.uint32) * 2654435761 + positions * 40503)[None, None, :, None] ^ lanes
    scales = (rows[..., :1] % 10_000 / 7).astype(np.float16)
    tensors = {
        "attn.k.weight": RawTensor("U32", rows.shape, rows),
        "attn.k.scales": RawTensor("F16", scales.shape, scales),
        "attn.k.biases": RawTensor("BF16", scales.shape, scales.view(np.uint16)),
        "attn.v.weight": RawTensor("F32", rows.shape, rows.astype(np.float32)),
    }
    key = block_key(secret, parent, state_id, BlockKind.TEXT, id_bytes(array))
    return Block(key, parent, state_id, BlockKind.TEXT, start, array, tensors, "reference", 64, 4)


def make_record(agent: AgentRow, ids: list[int], blocks: list[BlockUse], **changes: Any) -> TurnRecord:
    """The agent's next turn: `ids` follow its timeline."""
    message = Message("user", ("Grüße \U0001f30d", "second part"))
    record = TurnRecord(
        agent_id=agent.id,
        namespace=agent.namespace,
        agent_name=agent.name,
        number=agent.turn + 1,
        kind=TurnKind.GENERATE,
        start=agent.tokens,
        end=agent.tokens + len(ids),
        state_id=STATE_ID,
        tokenizer_id="tokenizer-1",
        base_blocks=0,
        blocks=tuple(blocks),
        ids=np.array(ids, dtype=np.int32),
        messages=(TurnMessage(message, agent.tokens, agent.tokens + len(ids)),),
        open=False,
        finish_reason=FinishReason.STOP,
        stop_sequence="",
        exactness=Exactness.EXACT,
        request_id="",
        created=1234.5,
        usage=Usage(prompt_tokens=len(ids)),
        timings=Timings(queue_s=0.1),
        seed=2**64 - 1,
        warnings=(),
    )
    return replace(record, **changes)


def add_turn(store: Store, agent: AgentRow, ids: list[int], **changes: Any) -> tuple[AgentRow, Block]:
    """Commits a turn whose whole timeline is one growing partial block, as an agent's first 256 positions are."""
    secret = store.namespace(agent.namespace).secret
    block = make_block([*store.history(agent.id).ids().tolist(), *ids], secret=secret)
    store.commit(make_record(agent, ids, [BlockUse(block.key, block.tokens)], **changes), [block])
    row = store.agent(agent.namespace, agent.name)
    assert row is not None
    return row, block


def reseal(data: bytes, header: bytes) -> bytes:
    """The file with another header and a checksum to match: what a hostile writer could make."""
    end = 8 + int.from_bytes(data[:8], "little")
    found = re.search(rb'"checksum":"([0-9a-f]{32})"', header)
    blank = header if found is None else header[: found.start(1)] + b"0" * 32 + header[found.end(1) :]
    length = len(header).to_bytes(8, "little")
    digest = xxhash.xxh3_128(length + blank + data[end:]).hexdigest().encode()
    return (
        length + (header if found is None else header[: found.start(1)] + digest + header[found.end(1) :]) + data[end:]
    )


@contextmanager
def expect(reason: Reason) -> Iterator[None]:
    """The work inside is refused for this reason."""
    with pytest.raises(AgentmemError) as caught:
        yield
    assert caught.value.reason is reason


def files_below(folder: Path, *suffixes: str) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name.endswith(suffixes))


def unpack(version: int, folder: Path) -> None:
    """Fills a folder with a store that the code of an earlier format wrote."""
    kwargs: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4 brought it
    with tarfile.open(Path(__file__).with_name(f"format-{version}.tar.gz")) as archive:
        archive.extractall(folder, **kwargs)


def read_all(
    folder: Path, namespaces: Iterable[str], *, blocks_may_be_missing: bool = False
) -> dict[tuple[str, str], list[int]]:
    """Opens the store and reads all of it as the engine would: ids by namespace and agent.

    Each block must be the one its timeline leads to, and no file may be there that isn't in use.
    """
    store = Store.open(folder)
    kept = store._core.catalog.read(namespaces_kept).values()
    for path in (folder / "namespaces").iterdir():  # of one that lost its secret the name stays
        there = {file.name for file in path.iterdir()}
        assert there - {"secret"} == {"name.json"}
        # A namespace may have been made anew under a catalog that had lost it.
        assert blocks_may_be_missing or ("secret" in there) == (path.name in kept)
    agents = [agent for namespace in namespaces for agent in store.agents(namespace, limit=1000)]
    keys = set()
    ids = {agent.id: store.history(agent.id).ids() for agent in agents}
    records = set()
    for agent in agents:
        numbers = [turn.number for turn in store.history(agent.id).page()]
        assert numbers == list(range(agent.turn + 1 - len(numbers), agent.turn + 1))
        for number in numbers:
            uses = store.history(agent.id).timeline(number)
            assert len(store.history(agent.id).ids(number)) == sum(use.used for use in uses)
            keys |= {use.key for use in uses}
            records.add(folder / "turns" / agent.id / f"{number:08d}.json")
        if agent.share is Share.PRIVATE:
            records.add(folder / "turns" / agent.id / "private")
        for index, use in enumerate(store.history(agent.id).timeline()):
            if not blocks_may_be_missing:
                block, _ = store.blocks.read(agent.namespace, use.key)
                expected = ids[agent.id][block.start :][: use.used]
                assert block.start == index * 256
                assert block.ids.tolist() == expected.tolist()
    assert set(files_below(folder / "turns", "")) == records
    on_disk = {bytes.fromhex(path.stem) for path in files_below(folder / "blocks", "")}
    assert on_disk <= keys
    assert blocks_may_be_missing or on_disk == keys
    assert files_below(folder, ".tmp") == []
    store.close()
    return {(agent.namespace, agent.name): ids[agent.id].tolist() for agent in agents}


_TABLES = {
    "namespaces": "name, folder",
    "agents": "id, namespace, name, turn, tokens, state_id, exactness, share",
    "turns": "*",
    "blocks": "key, bytes, tokens, beginning, seal",
    "timeline": "*",
    "requests": "namespace, request_id, operation, agent_name, turn",
}


def dump(folder: Path) -> dict[str, list[tuple]]:
    """What the catalog says, but for times and what only it knows."""
    db = sqlite3.connect(folder / "catalog.sqlite")
    rows = {table: sorted(db.execute(f"SELECT {columns} FROM {table}")) for table, columns in _TABLES.items()}
    db.close()
    return rows


class Crash(BaseException):
    """The process dies: nothing is cleaned up."""


class FailingFiles(Files):
    """Counts operations, and raises `error` instead of doing operation number `fail_at` (and any after it)."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.count = 0
        self.fail_at: int | None = None
        self.error = error

    def _step(self) -> None:
        self.count += 1
        if self.error is not None and self.fail_at is not None and self.count >= self.fail_at:
            raise self.error

    def create(self, path: Path, data: bytes) -> None:
        try:
            self._step()
        except BaseException:
            super().create(path, data[: len(data) // 2])
            raise
        super().create(path, data)

    def sync(self, path: Path) -> None:
        # A process that dies loses nothing that was written: there is no need to wait for the drive.
        self._step()

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)

    def make_folder(self, path: Path) -> None:
        self._step()
        super().make_folder(path)

    def remove_folder(self, path: Path) -> None:
        self._step()
        super().remove_folder(path)


class PowerLoss(FailingFiles):
    """Knows what the drive has for certain: contents of synced files, and entries of synced folders."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__(error)
        self._contents: set[int] = set()
        self._entries: set[tuple[Path, int]] = set()

    def trust(self, root: Path) -> None:
        """All that is there now is on the drive."""
        for path in (root, *root.rglob("*")):
            self._entries.add((path, path.lstat().st_ino))
            self._contents.add(path.lstat().st_ino)

    def create(self, path: Path, data: bytes) -> None:
        try:
            super().create(path, data)
        finally:
            self._contents.discard(path.lstat().st_ino)

    def sync(self, path: Path) -> None:
        super().sync(path)
        if path.is_dir():
            self._entries |= {(child, child.lstat().st_ino) for child in path.iterdir()}
        else:
            self._contents.add(path.lstat().st_ino)

    def left(self, root: Path, to: Path) -> None:
        """Copies what is left of a folder once the power is back. SQLite's own files are left out of the game."""
        to.mkdir(mode=0o700)
        for path in root.iterdir():
            sqlite = path.name.startswith("catalog.sqlite")
            if not sqlite and (path, path.lstat().st_ino) not in self._entries:
                continue
            if path.is_dir():
                self.left(path, to / path.name)
            elif not path.name.endswith("-shm"):
                data = path.read_bytes()
                (to / path.name).write_bytes(data if sqlite or path.lstat().st_ino in self._contents else b"")

"""What a disk may hold after the power went: a recording of file operations, and the states they may leave.

The model is what POSIX promises and no more. A file's data is safe once the file was synced; before, any of nothing, a
part, zeros or all of it may be there. An entry of a folder (made, renamed or removed) is safe once the folder was
synced; before, any subset of such changes may have happened, whatever their order.

SQLite writes past the seam. With synchronous=FULL it syncs its log before COMMIT returns, so the catalog's files are
copied as they stand at each operation of the seam; and where the log has grown since the last one, states with a torn
end of it are made as well. What a power cut does inside a checkpoint is left to SQLite's own tests.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from agentmem.store.files import Files

Tree = dict[PurePath, bytes | None]
"""Contents by path; None for a folder."""

MOST_CHANGES = 5
"""So many unsynced changes are combined in every way; of more, a choice."""


@dataclass(eq=False)
class Inode:
    """A file: `data` and whether it is synced. A folder: `entries` as synced, and the changes since."""

    data: bytes | None = None
    synced: bool = False
    entries: dict[str, Inode] = field(default_factory=dict)
    changes: list[dict[str, Inode | None]] = field(default_factory=list)

    def live(self) -> dict[str, Inode]:
        return _apply(self.entries, self.changes)


@dataclass(frozen=True)
class Catalog:
    """The catalog's files as copied: main file and log, b"" where there is none."""

    main: bytes = b""
    log: bytes = b""


@dataclass(frozen=True)
class State:
    """A disk after a cut. acked: how many steps had been acknowledged. committed: the catalog has moved on since."""

    tree: Tree
    acked: int
    committed: bool

    def write(self, folder: Path) -> None:
        folder.mkdir()
        for path, data in self.tree.items():
            if data is None:
                (folder / path).mkdir()
            else:
                (folder / path).write_bytes(data)


class RecordingFiles(Files):
    """Does everything but wait for the drive, and keeps the states the disk may be in before each operation."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._disk = Inode()
        self._acked = 0
        self._catalog = self._acked_catalog = Catalog()
        self._seen: set[bytes] = set()
        self.states: list[State] = []

    def acknowledge(self) -> None:
        """A step is done and its caller told so."""
        self._cut()
        self._acked += 1
        self._acked_catalog = self._catalog
        self._cut()

    def create(self, path: Path, data: bytes) -> None:
        self._cut()
        super().create(path, data)
        self._change(path.parent, {path.name: Inode(data)})

    def sync(self, path: Path) -> None:
        self._cut()
        if (inode := self._find(path)) is not None:
            inode.synced, inode.entries, inode.changes = True, inode.live(), []

    def rename(self, source: Path, target: Path) -> None:
        self._cut()
        inode = self._find(source)
        super().rename(source, target)
        if source.parent == target.parent:
            self._change(source.parent, {source.name: None, target.name: inode})
        else:
            self._change(target.parent, {target.name: inode})
            self._change(source.parent, {source.name: None})

    def unlink(self, path: Path) -> None:
        self._cut()
        super().unlink(path)
        self._remove(path)

    def make_folder(self, path: Path) -> None:
        self._cut()
        super().make_folder(path)
        self._change(path.parent, {path.name: Inode()})

    def remove_folder(self, path: Path) -> None:
        self._cut()
        super().remove_folder(path)
        self._remove(path)

    def _find(self, path: Path) -> Inode | None:
        if not path.is_relative_to(self._root):
            return None
        inode = self._disk
        for name in path.relative_to(self._root).parts:
            inode = inode.live()[name]
        return inode

    def _change(self, folder: Path, change: dict[str, Inode | None]) -> None:
        if (inode := self._find(folder)) is not None:
            inode.changes.append(change)

    def _remove(self, path: Path) -> None:
        folder = self._find(path.parent) if path.parent.is_dir() else None
        if folder is not None and path.name in folder.live():
            folder.changes.append({path.name: None})

    def _cut(self) -> None:
        """Adds the states that the disk may be in now and was not in before."""
        before, self._catalog = self._catalog, self._copy_catalog()
        catalogs = [self._catalog]
        if before.main == self._catalog.main and len(self._catalog.log) > len(before.log):
            catalogs += _torn(before, self._catalog)
        for tree, catalog in itertools.product(_trees(self._disk), catalogs):
            whole = tree | {PurePath("catalog.sqlite"): catalog.main, PurePath("catalog.sqlite-wal"): catalog.log}
            whole = {path: data for path, data in whole.items() if data != b"" or not path.name.startswith("catalog")}
            identity = _identity(whole, self._acked)
            if identity not in self._seen:
                self._seen.add(identity)
                self.states.append(State(whole, self._acked, catalog != self._acked_catalog))

    def _copy_catalog(self) -> Catalog:
        paths = (self._root / name for name in ("catalog.sqlite", "catalog.sqlite-wal"))
        return Catalog(*(path.read_bytes() if path.exists() else b"" for path in paths))


def _torn(before: Catalog, after: Catalog) -> list[Catalog]:
    """The log with its new end lost, cut, or full of zeros from some point on."""
    old, new = len(before.log), len(after.log)
    places = (old, old + (new - old) // 3, new - 100)
    return [Catalog(after.main, after.log[:place] + bytes(fill)) for place in places for fill in (0, new - place)]


def _apply(entries: dict[str, Inode], changes: list[dict[str, Inode | None]]) -> dict[str, Inode]:
    result: dict[str, Inode | None] = dict(entries)
    for change in changes:
        result |= change
    return {name: inode for name, inode in result.items() if inode is not None}


def _trees(disk: Inode) -> Iterator[Tree]:
    changes = [(folder, change) for folder in _folders(disk) for change in folder.changes]
    unsynced = any(not inode.synced for _, change in changes for inode in change.values() if inode) or any(
        not inode.synced for folder in _folders(disk) for inode in folder.entries.values() if inode.data is not None
    )
    for kept in _choices(len(changes)):
        happened: dict[int, list[dict[str, Inode | None]]] = {}
        for index in sorted(kept):
            folder, change = changes[index]
            happened.setdefault(id(folder), []).append(change)
        for variant in range(4 if unsynced else 1):
            yield _tree(disk, happened, variant)


def _folders(folder: Inode) -> Iterator[Inode]:
    """The folder and all below it that are there, or may be."""
    yield folder
    found = {id(inode): inode for state in (folder.entries, *folder.changes) for inode in state.values() if inode}
    for inode in found.values():
        if inode.data is None:
            yield from _folders(inode)


def _choices(count: int) -> Iterator[set[int]]:
    """Which of `count` changes happened."""
    everything = set(range(count))
    if count <= MOST_CHANGES:
        for size in range(count + 1):
            yield from map(set, itertools.combinations(everything, size))
        return
    yield from (set(), everything)
    for index in everything:
        yield from ({index}, everything - {index}, set(range(index)))


def _tree(folder: Inode, happened: dict[int, list[dict[str, Inode | None]]], variant: int) -> Tree:
    tree: Tree = {}
    for name, inode in _apply(folder.entries, happened.get(id(folder), [])).items():
        if inode.data is None:
            tree[PurePath(name)] = None
            tree |= {PurePath(name) / path: data for path, data in _tree(inode, happened, variant).items()}
        else:
            data = inode.data
            kinds = (data, b"", data[: len(data) // 2], bytes(len(data)))
            tree[PurePath(name)] = data if inode.synced else kinds[variant]
    return tree


def _identity(tree: Tree, acked: int) -> bytes:
    digest = hashlib.blake2b(str(acked).encode())
    for path, data in sorted(tree.items()):
        digest.update(f"\0{path}\0{-1 if data is None else len(data)}\0".encode() + (data or b""))
    return digest.digest()

"""What the state folder takes of the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable

from agentmem.store.folder import StateFolder
from agentmem.store.rows import DiskUsage, NamespaceUsage
from agentmem.store.sweep import files_below


def disk_usage(folder: StateFolder, namespaces: Iterable[NamespaceUsage], orphans: list[str]) -> DiskUsage:
    """namespaces: as the catalog counts them. orphans: files that nothing refers to."""
    known = set(files_below(folder.quarantine)).difference(orphans)
    database = map(str, folder.catalogs())
    return DiskUsage(tuple(namespaces), size_of(orphans), size_of(known), size_of(database))


def size_of(paths: Iterable[str]) -> int:
    """Bytes of files; what is gone meanwhile has none."""
    return sum(map(_size, paths))


def _size(path: str) -> int:
    """Bytes of a file, 0 if it is gone."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0

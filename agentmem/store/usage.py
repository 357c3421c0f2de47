"""What the state folder takes of the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from agentmem.store.catalog import usage as counted
from agentmem.store.catalog.thread import Catalog
from agentmem.store.folder import StateFolder
from agentmem.store.rows import DiskUsage
from agentmem.store.sweep import InUse, files_below


def disk_usage(
    folder: StateFolder, catalog: Catalog, in_use: Callable[[], InUse], unchanging: AbstractContextManager[object]
) -> DiskUsage:
    """unchanging: keeps the store from changing meanwhile."""
    # The files of a commit in progress look like orphans, so what looks like one is looked at again, in peace.
    suspects = list(in_use().orphans())
    with unchanging:
        used = in_use()
        orphaned = sum(_size(path) for path in suspects if used.orphaned(path))
        namespaces = tuple(catalog.read(counted.by_namespace))
    known = (path for path in files_below(folder.quarantine) if not used.orphaned(path))
    database = (str(path) for path in folder.root.glob("catalog.*"))
    return DiskUsage(namespaces, orphaned, sum(map(_size, known)), sum(map(_size, database)))


def _size(path: str) -> int:
    """Bytes of a file, 0 if it is gone."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0

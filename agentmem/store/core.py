"""What the parts of an open store share: its folder, its catalog, and the right to change both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from agentmem.store.ahead import Ahead
from agentmem.store.blockfiles import BlockFiles
from agentmem.store.catalog import blocks, turns
from agentmem.store.catalog.thread import Catalog
from agentmem.store.fairlock import FairLock
from agentmem.store.files import Files, unwritable
from agentmem.store.folder import StateFolder
from agentmem.store.history import History
from agentmem.store.namespaces import Namespaces
from agentmem.store.rows import AgentRow
from agentmem.store.sealing import Sealer
from agentmem.store.sweep import InUse
from agentmem.store.turnfiles import TurnFiles


class Core:
    """Thread-safe. `blocks` and `turns` know files only; the catalog says which are in use."""

    def __init__(self, files: Files, folder: StateFolder, catalog: Catalog, sealer: Sealer) -> None:
        self.files = files
        self.folder = folder
        self.catalog = catalog
        self.sealer = sealer
        self.blocks = BlockFiles(files, folder, sealer)
        self.turns = TurnFiles(files, folder, sealer)
        self.namespaces = Namespaces(files, folder.namespaces, catalog, sealer)
        self.ahead = Ahead()
        # Held while files and catalog change together, so that no file is removed while a commit comes to rely on it.
        self._changing = FairLock()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Holds the store still. What the disk refuses becomes STORE_UNWRITABLE."""
        with self._changing, unwritable(self.folder.root):
            yield

    @contextmanager
    def change(self) -> Iterator[None]:
        """Holds the store still for a change. Raises STORE_UNWRITABLE also if the folder is not in its place."""
        with self.still():
            self.catalog.check_in_place()
            yield

    def secret(self, namespace: str) -> bytes:
        return self.namespaces.get(namespace).secret

    def history(self, agent: AgentRow) -> History:
        return History(agent, self.catalog, self.turns, self.secret(agent.namespace))

    def in_use(self) -> InUse:
        used = in_use(self.folder, self.catalog)
        return replace(used, sizes={**used.sizes, **self.ahead.sizes})

    @contextmanager
    def orphans(self) -> Iterator[list[str]]:
        """Paths of files that nothing refers to, while the store is held still."""
        # Those of a commit in progress look like orphans, so what looks like one is looked at again, in peace; and
        # those of a turn that was let go have gone meanwhile.
        suspects = list(self.in_use().orphans())
        with self.change():
            yield [path for path in filter(self.in_use().orphaned, suspects) if os.path.lexists(path)]


def in_use(folder: StateFolder, catalog: Catalog) -> InUse:
    return InUse(folder, catalog.read(blocks.sizes), catalog.read(turns.listed))

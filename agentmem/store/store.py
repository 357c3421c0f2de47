"""The block store: memory on disk behind one thread-safe facade of blocking methods.

A change that adds a turn writes block files, then the turn record, then one catalog transaction. Whatever is
interrupted before the transaction leaves the previous turn as it was, and files nobody refers to; so does what is
interrupted after a transaction that drops something. The next open removes them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from agentmem.store import folder as state
from agentmem.store.blockfile import Block
from agentmem.store.blocks import Blocks
from agentmem.store.branch import Branches
from agentmem.store.catalog import agents, requests, turns, usage
from agentmem.store.catalog import namespaces as namespace_rows
from agentmem.store.catalog.thread import Catalog
from agentmem.store.core import Core, in_use
from agentmem.store.events import Events
from agentmem.store.files import Files, make_folders, unwritable
from agentmem.store.folder import StateFolder
from agentmem.store.history import History
from agentmem.store.namespaces import Namespace
from agentmem.store.prune import Pruning
from agentmem.store.quota import Quota
from agentmem.store.records import TurnRecord
from agentmem.store.rows import CREATE, UNCHANGED, UPDATE, AgentRow, DiskUsage, RequestRow, Standing, Unchanged
from agentmem.store.sweep import sweep
from agentmem.store.transfer import Transfers
from agentmem.store.usage import disk_usage
from agentmem.store.writer import TurnWriter
from agentmem.types import Share


class Store:
    """Made by `Store.open`. Parts are about blocks, branches, transfers, pruning, quota, events; the rest about agents.

    Thread-safe. Any method, of a part too, may raise STORE_UNREADABLE; those that change something, STORE_UNWRITABLE.
    """

    def __init__(self, core: Core, lock: FileLock) -> None:
        self._core = core
        self._lock = lock
        self._writer = TurnWriter(core)
        self._closed = False
        self.blocks = Blocks(core)
        self.branches = Branches(core, self._writer)
        self.transfers = Transfers(core, self.branches, self._writer)
        self.pruning = Pruning(core, self.branches, self._writer)
        self.events = Events(core.catalog)
        self.quota = Quota(core, self.events)

    @classmethod
    def open(cls, folder: Path, files: Files | None = None, key: bytes | None = None) -> Store:
        """Opens the store in a folder, made if need be. key: the master key of an encrypted one, 32 random bytes.

        Raises also STORE_LOCKED, STORE_TOO_NEW, ENCRYPTION_KEY_MISSING, ENCRYPTION_KEY_WRONG, STORE_NOT_ENCRYPTED.
        """
        files, folder = files or Files(), folder.absolute()
        paths = StateFolder(folder)
        with unwritable(folder):
            make_folders(files, folder)
            lock = state.lock(paths)
            try:
                sealer = state.prepare(files, paths, key)
                catalog = Catalog(paths, must_exist=paths.has_records())
            except BaseException:
                lock.release()
                raise
            try:
                catalog.write(requests.purge)
                sweep(files, in_use(paths, catalog), sealer)
                catalog.write(agents.make_private, paths.marked_private())
                return cls(Core(files, paths, catalog, sealer), lock)
            except BaseException:
                catalog.close()
                lock.release()
                raise

    def close(self) -> None:
        """Closes the catalog and lets go of the folder. Harmless when repeated."""
        with self._core.still():
            if not self._closed:
                self._closed = True
                self._core.catalog.write_soon()  # the last events
                self._core.catalog.close()
                self._lock.release()

    # Namespaces

    def namespace(self, name: str) -> Namespace:
        """The namespace, made on first use."""
        with unwritable(self._core.folder.root):
            return self._core.namespaces.get(name)

    def has_namespace(self, name: str) -> bool:
        return name in self._core.namespaces

    def namespaces(self) -> list[tuple[str, float, int]]:
        """Name, creation time and number of agents of each namespace, by name."""
        return self._core.catalog.read(namespace_rows.listed)

    # Agents

    def create_agent(
        self,
        namespace: str,
        name: str,
        request_id: str = "",
        *,
        share: Share = Share.NAMESPACE,
        pinned: bool = False,
        expires: float | None = None,
    ) -> AgentRow:
        """Makes an empty agent. A repeat of a non-empty request_id returns the agent it made.

        Raises AGENT_EXISTS, REQUEST_ID_REUSED.
        """
        core = self._core
        with core.change():
            core.namespaces.get(namespace)
            if core.catalog.read(requests.repeated, namespace, request_id, CREATE, name):
                return core.catalog.read(agents.get, namespace, name)
            core.catalog.read(agents.check_new, namespace, name, request_id)
            row = replace(AgentRow.new(namespace, name), share=share, pinned=pinned, expires=expires)
            if share is Share.PRIVATE:
                core.turns.set_private(row.id, True)
            core.catalog.write(agents.create, row, request_id)
            return row

    def agent(self, namespace: str, name: str) -> AgentRow | None:
        return self._core.catalog.read(agents.find, namespace, name)

    def agents(self, namespace: str, after: str = "", limit: int = 100) -> list[AgentRow]:
        """Those with names after `after`, in the order of their names' UTF-8 bytes."""
        return self._core.catalog.read(agents.page, namespace, after, limit)

    def count_agents(self) -> int:
        """Agents of all namespaces."""
        return self._core.catalog.read(agents.count)

    def set_agent(
        self,
        namespace: str,
        name: str,
        request_id: str = "",
        *,
        pinned: bool | None = None,
        expires: float | None | Unchanged = UNCHANGED,
        share: Share | None = None,
    ) -> AgentRow:
        """Pins or unpins an agent, lets it expire (Unix seconds; None: never), or sets who may use its blocks.

        A repeat of a non-empty request_id changes nothing, and returns the agent as it is now.
        Raises AGENT_NOT_FOUND, REQUEST_ID_REUSED.
        """
        core = self._core
        with core.change():
            agent = core.catalog.read(agents.get, namespace, name)
            if core.catalog.read(requests.repeated, namespace, request_id, UPDATE, name):
                return agent
            # Whatever happens in between, the agent is private then: the mark decides when the store is opened.
            if share is Share.PRIVATE:
                core.turns.set_private(agent.id, True)
            row = core.catalog.write(agents.update, namespace, name, request_id, pinned, expires, share)
            if share is Share.NAMESPACE:
                core.turns.set_private(agent.id, False)
            return row

    def touch(self, agent_id: str) -> None:
        """Notes that the agent was used now."""
        self._core.catalog.write(agents.touch, agent_id, time.time())

    # Turns

    def commit(self, record: TurnRecord, blocks: list[Block]) -> int:
        """Adds a turn to an agent, durably; bytes written. blocks: those of record.blocks that may not be there yet,
        and were not written ahead.

        Partial blocks of the previous timeline that a new block contains give way to it: the agent's turns that used
        them use the longer block's first positions.
        Raises AGENT_NOT_FOUND, TURN_MISMATCH, REQUEST_ID_REUSED; ValueError if record, blocks and timeline disagree.
        """
        with self._core.change():
            return self._writer.commit(record, blocks)

    def history(self, agent_id: str) -> History:
        """The agent's turns as they are listed now: records, timelines, ids, messages. Raises AGENT_NOT_FOUND."""
        return self._core.history(self._core.catalog.read(agents.by_id, agent_id))

    def turn_ends(self, namespace: str, low: int, high: int, limit: int) -> list[int]:
        """Positions in (low, high] at which turns of agents end that share their blocks, the last first."""
        return self._core.catalog.read(turns.ends, namespace, low, high, limit)

    def find_request(self, namespace: str, request_id: str) -> RequestRow | None:
        """What a request id did in the last 24 hours."""
        return self._core.catalog.read(requests.find, namespace, request_id)

    def repeated(self, namespace: str, request_id: str, operation: str, agent_name: str) -> RequestRow | None:
        """What this very request did, None if it is new. Raises REQUEST_ID_REUSED if the id did something else."""
        return self._core.catalog.read(requests.repeated, namespace, request_id, operation, agent_name)

    def remember(self, namespace: str, request_id: str, made: RequestRow) -> None:
        """Notes what a request did that changed nothing in the catalog. An empty id is not remembered."""
        if request_id:
            self._core.catalog.write(requests.remember, namespace, request_id, made)

    # Bytes

    def standings(self, agent_ids: Iterable[str]) -> dict[str, Standing]:
        """What each of the agents takes and lacks, by id."""
        return self._core.catalog.read(usage.standings, agent_ids)

    def total_bytes(self) -> int:
        """Bytes of all blocks and records."""
        return self._core.catalog.read(usage.total)

    def disk_usage(self) -> DiskUsage:
        """Who takes how much of the disk. Looks at every file."""
        with self._core.orphans() as orphans:
            return disk_usage(self._core.folder, self._core.catalog.read(usage.by_namespace), orphans)

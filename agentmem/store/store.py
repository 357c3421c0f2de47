"""The block store: memory on disk behind one thread-safe facade of blocking methods.

A change that adds a turn writes block files, then the turn record, then one catalog transaction. Whatever is
interrupted before the transaction leaves the previous turn as it was, and files nobody refers to; so does what is
interrupted after a transaction that drops something. The next open removes them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock

from agentmem.store import commit as rules
from agentmem.store import folder as state
from agentmem.store import transfer
from agentmem.store.blockfile import Block, BlockUnreadable, Unreadable
from agentmem.store.blocks import BlockFiles
from agentmem.store.branch import Branches
from agentmem.store.catalog import agents, requests, turns, usage
from agentmem.store.catalog import blocks as block_rows
from agentmem.store.catalog import namespaces as namespace_rows
from agentmem.store.catalog.thread import Catalog
from agentmem.store.files import Files, make_folders, unwritable
from agentmem.store.folder import StateFolder
from agentmem.store.history import History
from agentmem.store.keys import catalog_parent
from agentmem.store.namespaces import Namespace, Namespaces
from agentmem.store.prune import Pruner
from agentmem.store.records import BlockUse, TurnRecord
from agentmem.store.rows import UNCHANGED, AgentRow, Child, DiskUsage, Pruned, RequestRow, Unchanged
from agentmem.store.sweep import InUse, prune_orphans, sweep
from agentmem.store.turnfiles import TurnFiles
from agentmem.store.usage import disk_usage
from agentmem.store.writer import TurnWriter
from agentmem.types import Share, TurnKind, TurnMessage


class Store:
    """Made by `Store.open`. Any method may raise STORE_UNREADABLE; those that change something, STORE_UNWRITABLE."""

    def __init__(self, files: Files, folder: StateFolder, lock: FileLock, catalog: Catalog) -> None:
        self._files = files
        self._folder = folder
        self._lock = lock
        self._catalog = catalog
        self._blocks = BlockFiles(files, folder)
        self._records = TurnFiles(files, folder)
        self._namespaces = Namespaces(files, folder.namespaces, catalog)
        self._writer = TurnWriter(catalog, self._blocks, self._records, self._namespaces)
        self._branches = Branches(catalog, self._blocks, self._namespaces, self._writer)
        self._pruner = Pruner(
            files, folder, catalog, self._blocks, self._records, self._namespaces, self._branches, self._writer
        )
        # Held while files and catalog change together, so that no file is removed while a commit comes to rely on it.
        self._changing = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, folder: Path, files: Files | None = None) -> Store:
        """Opens the store in a folder, made if need be. Raises also STORE_LOCKED and STORE_TOO_NEW."""
        files, folder = files or Files(), folder.absolute()
        paths = StateFolder(folder)
        with unwritable(folder):
            make_folders(files, folder)
            lock = state.lock(paths)
            try:
                state.prepare(files, paths)
                catalog = Catalog(paths, must_exist=paths.has_records())
            except BaseException:
                lock.release()
                raise
            try:
                catalog.write(requests.purge)
                sweep(files, _in_use(paths, catalog))
                catalog.write(agents.make_private, paths.marked_private())
                return cls(files, paths, lock, catalog)
            except BaseException:
                catalog.close()
                lock.release()
                raise

    def close(self) -> None:
        """Closes the catalog and lets go of the folder. Harmless when repeated."""
        with self._changing:
            if not self._closed:
                self._closed = True
                self._catalog.close()
                self._lock.release()

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._changing, unwritable(self._folder.root):
            yield

    # Namespaces and agents

    def namespace(self, name: str) -> Namespace:
        """The namespace, made on first use."""
        with unwritable(self._folder.root):
            return self._namespaces.get(name)

    def namespaces(self) -> list[tuple[str, float, int]]:
        """Name, creation time and number of agents of each namespace, by name."""
        return self._catalog.read(namespace_rows.listed)

    def create_agent(self, namespace: str, name: str, request_id: str = "") -> AgentRow:
        """Makes an empty agent. Raises AGENT_EXISTS, unless the same non-empty request made the one that is there."""
        with self._change():
            self._namespaces.get(namespace)
            return self._catalog.write(agents.create, AgentRow.new(namespace, name), request_id)

    def agent(self, namespace: str, name: str) -> AgentRow | None:
        return self._catalog.read(agents.find, namespace, name)

    def agents(self, namespace: str, after: str = "", limit: int = 100) -> list[AgentRow]:
        """Those with names after `after`, in the order of their names' UTF-8 bytes."""
        return self._catalog.read(agents.page, namespace, after, limit)

    def count_agents(self) -> int:
        """Agents of all namespaces."""
        return self._catalog.read(agents.count)

    def touch(self, agent_id: str) -> None:
        """Notes that the agent was used now."""
        self._catalog.write(agents.touch, agent_id, time.time())

    def set_agent(
        self,
        namespace: str,
        name: str,
        *,
        pinned: bool | None = None,
        expires: float | None | Unchanged = UNCHANGED,
        share: Share | None = None,
    ) -> AgentRow:
        """Pins or unpins an agent, lets it expire (Unix seconds; None: never), or sets who may use its blocks.

        Raises AGENT_NOT_FOUND.
        """
        with self._change():
            agent = self._catalog.read(agents.get, namespace, name)
            # Whatever happens in between, the agent is private then: the mark decides when the store is opened.
            if share is Share.PRIVATE:
                self._records.set_private(agent.id, True)
            row = self._catalog.write(agents.update, namespace, name, pinned, expires, share)
            if share is Share.NAMESPACE:
                self._records.set_private(agent.id, False)
            return row

    def delete_agent(self, namespace: str, name: str, request_id: str = "", dry_run: bool = False) -> int:
        """Forgets an agent; its records and the blocks nobody else uses are gone from the disk. Bytes freed.

        Its name is gone from the catalog's files too, unless STORE_UNWRITABLE is raised because another process reads
        them: a repeat clears them. A repeat of a non-empty request_id returns the first result.
        Raises AGENT_NOT_FOUND, REQUEST_ID_REUSED.
        """
        with self._change():
            return self._pruner.delete(namespace, name, request_id, dry_run)

    # Turns

    def commit(self, record: TurnRecord, blocks: list[Block]) -> int:
        """Adds a turn to an agent, durably; bytes written. blocks: those of record.blocks that may not be there yet.

        Partial blocks of the previous timeline that a new block contains give way to it: the agent's turns that used
        them use the longer block's first positions.
        Raises AGENT_NOT_FOUND, TURN_MISMATCH, REQUEST_ID_REUSED; ValueError if record, blocks and timeline disagree.
        """
        with self._change():
            agent = self._catalog.read(agents.by_id, record.agent_id)
            secret = self._namespaces.get(agent.namespace).secret
            timeline = self._history(agent).timeline()
            kept, dropped = timeline[: record.base_blocks], timeline[record.base_blocks :]
            known = self._catalog.read(block_rows.known, {use.key for use in (*record.blocks, *dropped)})
            tokens = {key: row.tokens for key, row in known.items()} | {block.key: block.tokens for block in blocks}
            rules.check(record, agent, kept, tokens)
            rules.check_blocks(blocks, record, secret)
            self._catalog.read(requests.check_new, record.namespace, record.request_id)
            longer = rules.superseded({use.key: tokens[use.key] for use in dropped}, blocks, secret)
            needless, written = self._writer.add(record, blocks, partial(turns.add, superseded=longer))
            for key in needless:
                self._blocks.remove_quietly(key)
            return written

    def fork(
        self,
        namespace: str,
        source: str,
        new_name: str,
        at_turn: int | None = None,
        request_id: str = "",
        expect_turn: int | None = None,
    ) -> AgentRow:
        """Makes an agent that begins at the end of the source's turn (None: the last one); no block is copied.

        It holds all it needs: it outlives the source. It is as private as the source, and neither pinned nor expiring.
        A repeat of a non-empty request_id returns the agent it made. expect_turn: what the source's last turn must be.
        Raises AGENT_NOT_FOUND, AGENT_EXISTS, TURN_NOT_FOUND, TURN_MISMATCH, REQUEST_ID_REUSED; RecordUnreadable, or
        BlockUnreadable if the turn ends inside a block that cannot be read.
        """
        with self._change():
            if self._repeated(namespace, request_id, TurnKind.FORK, new_name):
                return self._catalog.read(agents.get, namespace, new_name)
            agent = self._catalog.read(agents.get, namespace, source)
            rules.check_expected(agent, expect_turn)
            number = agent.turn if at_turn is None else at_turn
            return self._branches.fork(self._history(agent), new_name, number, request_id)

    def rewind(
        self, namespace: str, name: str, to_turn: int, request_id: str = "", expect_turn: int | None = None
    ) -> AgentRow:
        """Adds a turn after which the timeline is what it was at the end of turn `to_turn` (0: empty).

        The turns between stay listed, and can be forked from and rewound to, until `prune_history`.
        Raises as `fork` does.
        """
        with self._change():
            agent = self._catalog.read(agents.get, namespace, name)
            if self._repeated(namespace, request_id, TurnKind.REWIND, name):
                return agent
            rules.check_expected(agent, expect_turn)
            return self._branches.rewind(self._history(agent), to_turn, request_id)

    def export_agent(self, namespace: str, name: str) -> Iterator[bytes]:
        """The agent as it stands, in one file. Raises AGENT_NOT_FOUND, RecordUnreadable; BlockUnreadable on the way."""
        return self._branches.export(self._history(self._catalog.read(agents.get, namespace, name)))

    def import_agent(
        self,
        chunks: Iterable[bytes],
        namespace: str,
        name: str | None,
        request_id: str,
        check: Callable[[TurnRecord], str | None],
    ) -> AgentRow:
        """A new agent from an export, under the name it had if none is given.

        check: is shown the record; returns the state id of the model that is to compute the blocks anew, None to take
        the file's, or raises. A repeat of a non-empty request_id returns the agent it made.
        Raises AGENT_EXISTS, REQUEST_ID_REUSED, IMPORT_INVALID; nothing is imported then.
        """
        with unwritable(self._folder.root), transfer.spooled(chunks, self._folder.root) as file:
            name = name or file.record.agent_name
            state_id = check(file.record)
            with self._changing:
                if self._repeated(namespace, request_id, TurnKind.FORK, name):
                    return self._catalog.read(agents.get, namespace, name)
                return self._branches.take_in(file, namespace, name, request_id, state_id)

    def _repeated(self, namespace: str, request_id: str, kind: TurnKind, agent_name: str) -> bool:
        return self._catalog.read(requests.repeated, namespace, request_id, kind.value, agent_name) is not None

    def turn(self, agent_id: str, number: int) -> TurnRecord:
        """A turn from its record, verified against the chain.

        Raises AGENT_NOT_FOUND, TURN_NOT_FOUND if it isn't listed (yet, or any more), RecordUnreadable.
        """
        return self._history_of(agent_id).record(number)

    def turns(self, agent_id: str, after: int = 0, limit: int = 100) -> list[TurnRecord]:
        """Turns after `after`, oldest first. Raises AGENT_NOT_FOUND, RecordUnreadable."""
        return self._history_of(agent_id).page(after, limit)

    def timeline(self, agent_id: str, number: int | None = None) -> list[BlockUse]:
        """The blocks of a turn's timeline, of the last turn's if no number is given; turn 0 has none.

        Raises AGENT_NOT_FOUND, TURN_NOT_FOUND.
        """
        return self._history_of(agent_id).timeline(number)

    def ids(self, agent_id: str, number: int | None = None) -> np.ndarray:
        """The token ids of a turn's timeline, int32 [tokens], from the records. Raises as `turn` does."""
        return self._history_of(agent_id).ids(number)

    def turn_at(self, agent_id: str, position: int) -> int:
        """The number of the turn that holds a position of the last timeline. Raises as `turn` does."""
        return self._history_of(agent_id).turn_at(position)

    def messages(self, agent_id: str, number: int | None = None) -> tuple[TurnMessage, ...]:
        """The messages of a turn's timeline, oldest first, from the records. Raises as `turn` does."""
        return self._history_of(agent_id).messages(number)

    def _history_of(self, agent_id: str) -> History:
        return self._history(self._catalog.read(agents.by_id, agent_id))

    def _history(self, agent: AgentRow) -> History:
        return History(agent, self._catalog, self._records, self._namespaces.get(agent.namespace).secret)

    def find_request(self, namespace: str, request_id: str) -> RequestRow | None:
        """What a request id did in the last 24 hours."""
        return self._catalog.read(requests.find, namespace, request_id)

    # Pruning: what was used or said long ago. Dry and real runs return the same list.

    def prune_history(self, namespace: str, name: str, *, dry_run: bool = False) -> list[Pruned]:
        """Drops all turns of an agent, and the blocks only they used; a FORK turn with the same timeline takes over.

        What goes, oldest first; the bytes of the new turn's record are not subtracted. Nothing if the agent is pinned
        or has one turn only. Raises AGENT_NOT_FOUND, RecordUnreadable.
        """
        with self._change():
            return self._pruner.history(self._history(self._catalog.read(agents.get, namespace, name)), dry_run)

    def prune(
        self, namespace: str, *, older_than_s: float | None = None, expired: bool = False, dry_run: bool = False
    ) -> list[Pruned]:
        """Forgets agents that were not used for so many seconds, and those that have expired; what goes, by name.

        Pinned agents stay.
        """
        with self._change():
            return self._pruner.agents(namespace, older_than_s, expired, dry_run)

    def prune_orphans(self, *, dry_run: bool = False) -> int:
        """Removes files that nothing refers to; their bytes. The next open would do it, too."""
        # The files of a commit in progress look like orphans, so what looks like one is looked at again, in peace.
        suspects = list(self._in_use().orphans())
        with self._change():
            return prune_orphans(self._files, self._in_use(), suspects, dry_run)

    def drop_blocks(self, agent_id: str, *, dry_run: bool = False) -> int:
        """Gives up the files of the blocks that this agent alone uses; bytes freed. They are computed again if needed.

        Raises AGENT_NOT_FOUND.
        """
        with self._change():
            return self._pruner.blocks(self._catalog.read(agents.by_id, agent_id), dry_run)

    def gave_up(self, agent_id: str) -> bool:
        """Whether something of the agent's timeline was dropped, and must be computed again."""
        return self._catalog.read(block_rows.given_up, agent_id)

    # Blocks and bytes

    def shares(self, key: bytes) -> bool:
        """Whether there is such a block that an agent shares with its namespace."""
        return self._catalog.read(block_rows.shared, key)

    def children(self, namespace: str, state_id: str, parent: bytes, limit: int = 64) -> list[Child]:
        """The blocks that follow `parent` (b"": that begin a timeline), newest use first.

        Only those that an agent shares with its namespace.
        """
        secret = self.namespace(namespace).secret
        return self._catalog.read(block_rows.children, catalog_parent(secret, parent, state_id), limit)

    def read_block(self, namespace: str, key: bytes) -> tuple[Block, int]:
        """A verified block, and the bytes read. Raises BlockUnreadable.

        MISSING may also mean that the agent's own next commit superseded it since its timeline was asked for.
        """
        row = self._catalog.read(block_rows.known, [key]).get(key)
        if row is None:
            raise BlockUnreadable(Unreadable.MISSING, "the catalog has no such block")
        if row.size == 0:
            raise BlockUnreadable(Unreadable.EVICTED, "its file was given up")
        return self._blocks.read(key, row.size, self.namespace(namespace).secret), row.size

    def block_bytes(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        """File sizes of those of the blocks that are known."""
        return {key: row.size for key, row in self._catalog.read(block_rows.known, keys).items()}

    def quarantine(self, key: bytes, reason: str) -> None:
        """Sets an unsound block's file aside, with a note of why; its users keep referring to it."""
        with self._change():
            self._blocks.quarantine(key, reason)

    def give_up(self, namespace: str, key: bytes) -> None:
        """Sets a block's file aside if it is unsound, and notes that it is to be computed again."""
        with self._change():
            try:
                self.read_block(namespace, key)
            except BlockUnreadable as error:
                self._blocks.quarantine(key, error.reason)
                self._catalog.write(block_rows.empty, [key])

    def replace_block(self, namespace: str, block: Block) -> int:
        """Writes a recomputed block in place of one that was lost; bytes written, 0 if nobody uses it any more."""
        with self._change():
            if block.key_of_prefix(self._namespaces.get(namespace).secret, block.tokens) != block.key:
                raise ValueError("a block with a wrong key")
            if not self._catalog.read(block_rows.known, [block.key]):
                return 0
            written = self._blocks.write(block)
            self._catalog.write(block_rows.resize, block.key, written)
            return written

    def disk_bytes(self, agent_id: str) -> int:
        """Bytes of the blocks, shared ones included, and records of an agent."""
        return self._catalog.read(usage.of_agent, agent_id)

    def total_bytes(self) -> int:
        """Bytes of all blocks and records."""
        return self._catalog.read(usage.total)

    def disk_usage(self) -> DiskUsage:
        """Who takes how much of the disk. Looks at every file."""
        return disk_usage(self._folder, self._catalog, self._in_use, self._changing)

    def _in_use(self) -> InUse:
        return _in_use(self._folder, self._catalog)


def _in_use(folder: StateFolder, catalog: Catalog) -> InUse:
    return InUse(folder, catalog.read(block_rows.keys), catalog.read(turns.listed))

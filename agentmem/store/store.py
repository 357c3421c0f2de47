"""The block store: memory on disk behind one thread-safe facade of blocking methods.

A commit writes block files, then the turn record, then one catalog transaction. Whatever is interrupted before the
transaction leaves the previous turn as it was, and files nobody refers to, which the next open removes.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from filelock import FileLock

from agentmem.errors import AgentmemError, Reason
from agentmem.store import commit as rules
from agentmem.store import folder as state
from agentmem.store import records
from agentmem.store.blockfile import Block, BlockUnreadable, Unreadable
from agentmem.store.blocks import BlockFiles
from agentmem.store.catalog import Catalog
from agentmem.store.files import Files, make_folders, unwritable
from agentmem.store.folder import StateFolder
from agentmem.store.namespaces import Namespace, Namespaces
from agentmem.store.records import BlockUse, TurnRecord
from agentmem.store.rows import DELETE, AgentRow, BlockRow, RequestRow
from agentmem.store.sweep import sweep
from agentmem.store.turnfiles import TurnFiles


class Store:
    """Made by `Store.open`. Any method may raise STORE_UNREADABLE; those that change something, STORE_UNWRITABLE."""

    def __init__(self, files: Files, folder: StateFolder, lock: FileLock, catalog: Catalog) -> None:
        self._root = folder.root
        self._lock = lock
        self._catalog = catalog
        self._blocks = BlockFiles(files, folder)
        self._turns = TurnFiles(files, folder)
        self._namespaces = Namespaces(files, folder.namespaces, catalog)
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
                catalog = Catalog(paths.catalog, must_exist=paths.has_records())
            except BaseException:
                lock.release()
                raise
            try:
                catalog.purge_requests()
                sweep(files, paths, catalog.block_keys(), catalog.agent_turns())
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

    # Namespaces and agents

    def namespace(self, name: str) -> Namespace:
        """The namespace, made on first use."""
        with unwritable(self._root):
            return self._namespaces.get(name)

    def create_agent(self, namespace: str, name: str, request_id: str = "") -> AgentRow:
        """Makes an empty agent. Raises AGENT_EXISTS, unless the same non-empty request made the one that is there."""
        self.namespace(namespace)
        return self._catalog.create_agent(secrets.token_hex(16), namespace, name, request_id)

    def agent(self, namespace: str, name: str) -> AgentRow | None:
        return self._catalog.agent(namespace, name)

    def agents(self, namespace: str, after: str = "", limit: int = 100) -> list[AgentRow]:
        """Those with names after `after`, in the order of their names' UTF-8 bytes."""
        return self._catalog.agents(namespace, after, limit)

    def count_agents(self) -> int:
        """Agents of all namespaces."""
        return self._catalog.count_agents()

    def touch(self, agent_id: str) -> None:
        """Notes that the agent was used now."""
        self._catalog.touch(agent_id)

    def delete_agent(self, namespace: str, name: str, request_id: str = "") -> int:
        """Forgets an agent; its records and the blocks nobody else uses are gone from the disk. Bytes freed.

        A repeat of a non-empty request_id returns the first result. Raises AGENT_NOT_FOUND, REQUEST_ID_REUSED.
        """
        with self._changing, unwritable(self._root):
            made = self._catalog.find_request(namespace, request_id) if request_id else None
            if made and (made.operation, made.agent_name) == (DELETE, name):
                return made.freed_bytes
            row = self.agent(namespace, name)
            if row is None:
                raise AgentmemError(Reason.AGENT_NOT_FOUND, f"There is no agent named {name!r}.", agent=name)
            self._turns.mark_forgotten(row.id)
            deleted = self._catalog.delete_agent(row, request_id)
            for key in deleted.keys:
                self._blocks.remove(key)
            self._turns.remove_all(row.id)
            return deleted.freed_bytes

    def _agent(self, agent_id: str) -> AgentRow:
        row = self._catalog.agent_by_id(agent_id)
        if row is None:
            raise AgentmemError(Reason.AGENT_NOT_FOUND, "There is no such agent any more.")
        return row

    # Turns

    def commit(self, record: TurnRecord, blocks: list[Block]) -> int:
        """Adds a turn to an agent, durably; bytes written. blocks: those of record.blocks that may not be there yet.

        Partial blocks of the previous timeline that a new block contains give way to it: the agent's turns that used
        them use the longer block's first positions.
        Raises AGENT_NOT_FOUND, TURN_MISMATCH, REQUEST_ID_REUSED; ValueError if record, blocks and timeline disagree.
        """
        with self._changing, unwritable(self._root):
            agent = self._agent(record.agent_id)
            secret = self._namespaces.get(agent.namespace).secret
            timeline = self.timeline(agent.id, agent.turn)
            kept, dropped = timeline[: record.base_blocks], timeline[record.base_blocks :]
            known = self._catalog.blocks({use.key for use in (*record.blocks, *dropped)})
            tokens = {key: row.tokens for key, row in known.items()} | {block.key: block.tokens for block in blocks}
            rules.check(record, agent, kept, tokens)
            rules.check_blocks(blocks, record, secret)
            self._check_request_id(record)
            longer = rules.superseded(
                {use.key: tokens[use.key] for use in dropped if use.key in tokens}, blocks, secret
            )

            previous = self._catalog.turn(agent.id, agent.turn)
            data, digest = records.encode(record, previous.digest if previous else b"", secret)
            rows, written = self._write_files(record, data, blocks, known, secret)
            # From here on nothing is cleaned up on failure: a COMMIT that reports an error may still have happened.
            for key in self._catalog.commit(record, len(data), digest, rows, longer):
                self._blocks.remove_quietly(key)
            return written

    def _check_request_id(self, record: TurnRecord) -> None:
        if record.request_id and self._catalog.find_request(record.namespace, record.request_id):
            raise AgentmemError(Reason.REQUEST_ID_REUSED, "The request id was used for another request.")

    def _write_files(
        self, record: TurnRecord, data: bytes, blocks: list[Block], known: dict[bytes, BlockRow], secret: bytes
    ) -> tuple[dict[bytes, BlockRow], int]:
        """The catalog rows of the blocks, and the bytes written. Removes what it wrote if it cannot write all."""
        rows: dict[bytes, BlockRow] = {}
        written = 0
        try:
            for block in blocks:
                size = known[block.key].bytes if block.key in known else None
                size, new = self._blocks.keep_or_write(block, size, secret)
                rows[block.key] = BlockRow(size, block.tokens)
                written += new
            return rows, written + self._turns.write(record.agent_id, record.number, data)
        except OSError:
            self._turns.remove_quietly(record.agent_id, record.number)
            for block in blocks:
                if block.key not in known:
                    self._blocks.remove_quietly(block.key)
            raise

    def turn(self, agent_id: str, number: int) -> TurnRecord:
        """A turn from its record, verified against the chain. Raises RecordUnreadable, AGENT_NOT_FOUND."""
        return self._record(self._agent(agent_id), number)

    def turns(self, agent_id: str, after: int = 0, limit: int = 100) -> list[TurnRecord]:
        """Turns after `after`, oldest first. Raises as `turn` does."""
        agent = self._agent(agent_id)
        last = min(agent.turn, after + limit)
        return [self._record(agent, number) for number in range(after + 1, last + 1)]

    def _record(self, agent: AgentRow, number: int) -> TurnRecord:
        secret = self._namespaces.get(agent.namespace).secret
        record = self._turns.read(agent.id, number, self._catalog.turn(agent.id, number), secret)
        # The record is authentic; a damaged catalog must not hand it to another agent.
        if (record.agent_id, record.namespace, record.agent_name) != (agent.id, agent.namespace, agent.name):
            raise AgentmemError(Reason.STORE_UNREADABLE, f"The catalog contradicts the record of turn {number}.")
        return record

    def timeline(self, agent_id: str, number: int | None = None) -> list[BlockUse]:
        """The blocks of a turn's timeline, of the last turn's if no number is given. Raises AGENT_NOT_FOUND."""
        number = self._agent(agent_id).turn if number is None else number
        if number == 0:
            return []
        row = self._catalog.turn(agent_id, number)
        uses = self._catalog.timeline(agent_id, number)
        if row is None or sum(use.used for use in uses) != row.tokens:
            raise AgentmemError(Reason.STORE_UNREADABLE, f"The catalog contradicts itself about turn {number}.")
        return uses

    def ids(self, agent_id: str) -> np.ndarray:
        """All token ids of the current timeline, int32 [tokens], from the records. Raises as `turn` does."""
        agent = self._agent(agent_id)
        pieces: list[np.ndarray] = []
        missing, number = agent.tokens, agent.turn
        # Backwards: what a turn says of positions that a later one begins before no longer holds.
        while missing:
            record = self._record(agent, number)
            if record.start < missing:
                pieces.append(record.ids[: missing - record.start])
                missing = record.start
            number -= 1
        return np.concatenate([np.empty(0, np.int32), *reversed(pieces)])

    def find_request(self, namespace: str, request_id: str) -> RequestRow | None:
        """What a request id did in the last 24 hours."""
        return self._catalog.find_request(namespace, request_id)

    # Blocks and bytes

    def read_block(self, namespace: str, key: bytes) -> tuple[Block, int]:
        """A verified block, and the bytes read. Raises BlockUnreadable.

        MISSING may also mean that the agent's own next commit superseded it since its timeline was asked for.
        """
        row = self._catalog.blocks([key]).get(key)
        if row is None:
            raise BlockUnreadable(Unreadable.MISSING, "the catalog has no such block")
        return self._blocks.read(key, row.bytes, self.namespace(namespace).secret), row.bytes

    def block_bytes(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        """File sizes of those of the blocks that are known."""
        return {key: row.bytes for key, row in self._catalog.blocks(keys).items()}

    def quarantine(self, key: bytes, reason: str) -> None:
        """Sets an unsound block's file aside, with a note of why; its users keep referring to it."""
        with self._changing, unwritable(self._root):
            self._blocks.quarantine(key, reason)

    def replace_block(self, namespace: str, block: Block) -> int:
        """Writes a recomputed block in place of one that was lost; bytes written, 0 if nobody uses it any more."""
        with self._changing, unwritable(self._root):
            if block.key_of_prefix(self._namespaces.get(namespace).secret, block.tokens) != block.key:
                raise ValueError("a block with a wrong key")
            if not self._catalog.blocks([block.key]):
                return 0
            written = self._blocks.write(block)
            self._catalog.resize_block(block.key, written)
            return written

    def disk_bytes(self, agent_id: str) -> int:
        """Bytes of the blocks, shared ones included, and records of an agent."""
        return self._catalog.disk_bytes(agent_id)

    def total_bytes(self) -> int:
        """Bytes of all blocks and records."""
        return self._catalog.total_bytes()

"""A new catalog from turn records, block files and namespace folders: no durable turn is lost with the old one.

Every turn whose records verify from the beginning of its agent's history on is entered as its commit entered it. A turn
that was recorded but whose catalog transaction did not happen cannot be told from one that did, and is entered too.
What only the catalog knew is gone: agents without turns, ids of requests that made no turn, pins, expiry and events.
Who may use an agent's blocks is not: those of a private agent are marked so among its records. A block that is missing
(it may have been given up) or unsound is listed all the same, to be computed again when it is needed.

The old catalog is set aside as `catalog.N.sqlite`, until an agent is deleted: it may name it. Records that don't verify
go to the quarantine.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock

from agentmem.errors import AgentmemError, Reason
from agentmem.store import folder as state
from agentmem.store.blockfiles import BlockFiles
from agentmem.store.catalog import agents, requests, turns
from agentmem.store.catalog import namespaces as namespace_rows
from agentmem.store.catalog.thread import Catalog
from agentmem.store.chain import Chain, Entry, agent_ids, entries, numbers, read_chain, read_link
from agentmem.store.files import Files, move_durably, unwritable, write_durably
from agentmem.store.folder import FORGOTTEN, StateFolder
from agentmem.store.namespaces import NAME, Namespace, read_secrets
from agentmem.store.problems import Problem, ProblemKind
from agentmem.store.records import RecordUnreadable, TurnRecord
from agentmem.store.rows import AgentRow, BlockRow, NewTurn
from agentmem.store.sealing import Sealer
from agentmem.types import Exactness, Share

_SIDE_FILES = ("", "-wal", "-shm")


@dataclass(frozen=True)
class Rebuilt:
    """What was entered, what could not be, and where the old catalog is (None if there was none)."""

    agents: int
    turns: int
    set_aside: Path | None
    problems: tuple[Problem, ...]


def rebuild(folder: Path, files: Files | None = None, key: bytes | None = None) -> Rebuilt:
    """Replaces the catalog of the store in a folder, which must not be open. key: the master key of an encrypted one.

    Raises STORE_UNREADABLE if there is no such folder, STORE_LOCKED, STORE_TOO_NEW, STORE_UNWRITABLE, and
    ENCRYPTION_KEY_MISSING, ENCRYPTION_KEY_WRONG, STORE_NOT_ENCRYPTED. One that was interrupted can be done again.
    """
    files, paths = files or Files(), StateFolder(folder.absolute())
    if not paths.root.is_dir():
        raise AgentmemError(Reason.STORE_UNREADABLE, f"There is no state folder {paths.root}.")
    with unwritable(paths.root):
        lock: FileLock = state.lock(paths)
        try:
            # A damaged marker says nothing: records and blocks name their own formats.
            return _Rebuild(files, paths, state.prepare(files, paths, key, mend=True)).run()
        finally:
            lock.release()


@dataclass
class _Rebuild:
    files: Files
    paths: StateFolder
    sealer: Sealer
    problems: list[Problem] = field(default_factory=list)
    requests: set[tuple[str, str]] = field(default_factory=set)
    turns: int = 0

    def run(self) -> Rebuilt:
        unfinished = replace(self.paths, catalog_name="catalog.rebuilt")
        for suffix in _SIDE_FILES:
            self.files.unlink(Path(f"{unfinished.catalog}{suffix}"))
        sound = self._fill(unfinished)
        aside = self._set_catalog_aside()
        self._set_records_aside(sound)
        self.files.sync(unfinished.catalog)
        self.files.rename(unfinished.catalog, self.paths.catalog)
        self.files.sync(self.paths.root)
        return Rebuilt(len(sound), self.turns, aside, tuple(self.problems))

    def _fill(self, folder: StateFolder) -> dict[str, int]:
        """Writes the catalog; the number of the last sound turn by agent id."""
        namespaces, owners = self._namespaces()
        catalog = Catalog(folder, must_exist=False, durable=False)
        sound: dict[str, int] = {}
        taken: set[tuple[str, str]] = set()
        try:
            for name, one in namespaces.items():
                catalog.write(namespace_rows.add, name, one)
            # A name is free for another agent once the first was deleted: of two, the later one is the agent.
            for agent_id, (namespace, some) in sorted(owners.items(), key=lambda item: -item[1][1].created):
                ref = (namespace.name, some.agent_name)
                if ref in taken:
                    self._problem(some, "a later agent has this name")
                    continue
                chain = read_chain(self.paths, agent_id, namespace.secret, self.sealer)
                if chain.links:
                    taken.add(ref)
                    self._enter(catalog, chain, namespace.secret)
                    sound[agent_id] = chain.last
                if chain.fault is not None:
                    self._problem(some, chain.fault, chain.faulty)
        finally:
            catalog.close()
        return sound

    def _namespaces(self) -> tuple[dict[str, str], dict[str, tuple[Namespace, TurnRecord]]]:
        """Each namespace's folder, and each agent's namespace and oldest sound record.

        The secret that verifies a record tells its namespace; a folder's own word for its name counts less.
        """
        secrets, found = read_secrets(self.paths.namespaces, self.sealer), {}
        for agent_id in sorted({*agent_ids(self.paths.turns), *agent_ids(self.paths.quarantine)}):
            if self.paths.forgotten(agent_id).exists():
                continue
            if (owner := self._owner(agent_id, secrets)) is not None:
                found[agent_id] = owner
        uses = Counter((record.namespace, folder) for folder, record in found.values())
        # Of those that are being removed no agent is left, unless that failed.
        going = {folder for folder in secrets if (self.paths.namespaces / folder / FORGOTTEN).exists()}
        names = {folder: entry.name for folder, entry in secrets.items() if entry.name and folder not in going}
        names |= {folder: name for name, folder in uses}
        folders: dict[str, str] = {}
        for folder, name in sorted(names.items(), key=lambda item: (-uses[item[1], item[0]], item[0])):
            if folders.setdefault(name, folder) == folder and secrets[folder].name != name:
                write_durably(self.files, self.paths.namespaces / folder / NAME, json.dumps({"name": name}).encode())
                self.problems.append(Problem(ProblemKind.NAMESPACE, "its name was damaged and is mended", name))
        owners = {}
        for agent_id, (folder, record) in found.items():
            name = record.namespace
            if folders.get(name) == folder:
                owners[agent_id] = Namespace(name, secrets[folder].secret), record
            else:
                self._problem(record, "its namespace has another secret now")
        return folders, owners

    def _owner(self, agent_id: str, secrets: dict[str, Namespace]) -> tuple[str, TurnRecord] | None:
        """The namespace folder whose secret verifies a record of the agent, and the oldest such record."""
        fault, records, aside = "it is missing", self.paths.records(agent_id), self.paths.records_aside(agent_id)
        files = [self.paths.record(agent_id, number) for number in numbers(records)]
        files += [self.paths.record_aside(agent_id, number) for number in numbers(aside)]
        for path, (folder, entry) in itertools.product(files, secrets.items()):
            try:
                record = read_link(path, entry.secret, self.sealer).record
            except RecordUnreadable as error:
                fault = error.detail
                continue
            if record.agent_id == agent_id:
                return folder, record
            fault = "the record is another agent's"
        if numbers(records):
            self.problems.append(Problem(ProblemKind.RECORD, fault, turn=1))
        return None

    def _enter(self, catalog: Catalog, chain: Chain, secret: bytes) -> None:
        first = chain.links[0].record
        agent = AgentRow(
            chain.agent_id, first.namespace, first.agent_name, first.created, first.created, 0, 0, "", Exactness.EXACT,
            Share.PRIVATE if self.paths.private(chain.agent_id).exists() else Share.NAMESPACE,
        )  # fmt: skip
        catalog.write(_add, agent, [(self._new_turn(entry), entry.longer) for entry in entries(chain, secret)])
        self.turns += len(chain.links)
        for link in chain.links:
            target = self.paths.record(chain.agent_id, link.record.number)
            if link.path != target:
                move_durably(self.files, link.path, target)

    def _new_turn(self, entry: Entry) -> NewTurn:
        record = self._with_fresh_request_id(entry.link.record)
        files, blocks = BlockFiles(self.files, self.paths, self.sealer), {}
        for use in (*entry.link.record.blocks, *entry.link.record.companions):
            size, seal = files.stored(use.key)
            blocks[use.key] = BlockRow(size, use.used, entry.beginnings.get(use.key, b""), seal)
        return NewTurn(record, entry.link.bytes, record.digest, blocks)

    def _with_fresh_request_id(self, record: TurnRecord) -> TurnRecord:
        """Without the request id, if it is forgotten by now: another request may have used it since."""
        request = (record.namespace, record.request_id)
        if record.created > time.time() - requests.SECONDS and request not in self.requests:
            self.requests.add(request)
            return record
        return replace(record, request_id="")

    def _problem(self, record: TurnRecord, reason: str, turn: int = 1) -> None:
        self.problems.append(Problem(ProblemKind.RECORD, reason, record.namespace, record.agent_name, turn))

    def _set_catalog_aside(self) -> Path | None:
        number = 1
        while os.path.lexists(target := self.paths.root / f"catalog.{number}.sqlite"):
            number += 1
        moved = None
        # The main file first: without it SQLite removes the others, while it would take a new one's for theirs.
        for suffix in _SIDE_FILES:
            source = Path(f"{self.paths.catalog}{suffix}")
            if os.path.lexists(source):
                moved = target
                move_durably(self.files, source, Path(f"{target}{suffix}"))
        return moved

    def _set_records_aside(self, sound: dict[str, int]) -> None:
        """The sweep would remove records that the catalog doesn't know, or take them for a sign of its damage."""
        for agent_id in agent_ids(self.paths.turns):
            for number in numbers(self.paths.records(agent_id)):
                if number > sound.get(agent_id, 0) and not self.paths.forgotten(agent_id).exists():
                    source = self.paths.record(agent_id, number)
                    move_durably(self.files, source, self.paths.record_aside(agent_id, number))


def _add(db: sqlite3.Connection, agent: AgentRow, added: list[tuple[NewTurn, dict[bytes, bytes]]]) -> None:
    """Enters an agent and its turns, each with the longer blocks that it brought; last used when the last was made."""
    agents.insert(db, agent)
    for new, longer in added:
        turns.add(db, new, longer)
    agents.date(db, agent.id, added[-1][0].record.created)

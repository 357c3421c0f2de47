"""A new catalog from turn records, block files and namespace folders: no durable turn is lost with the old one.

Every turn whose records verify from turn 1 on is entered as its commit entered it. A turn that was recorded but whose
catalog transaction did not happen cannot be told from one that did, and is entered too. What only the catalog knew is
gone: agents without turns, ids of requests that made no turn, pins and expiry. A block that is missing or unsound is
listed all the same, to be recomputed when it is read.

The old catalog is set aside as `catalog.N.sqlite`; records that don't verify go to the quarantine.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock

from agentmem.errors import AgentmemError, Reason
from agentmem.store import folder as state
from agentmem.store.catalog import REQUEST_SECONDS, Catalog
from agentmem.store.chain import Chain, Link, agent_ids, numbers, read_chain, read_link, superseding
from agentmem.store.files import Files, move_durably, unwritable, write_durably
from agentmem.store.folder import StateFolder
from agentmem.store.namespaces import NAME, Namespace, read_secrets
from agentmem.store.problems import Problem, ProblemKind
from agentmem.store.records import RecordUnreadable, TurnRecord
from agentmem.store.rows import BlockRow
from agentmem.store.schema import open_database, transaction

_SIDE_FILES = ("", "-wal", "-shm")


@dataclass(frozen=True)
class Rebuilt:
    """What was entered, what could not be, and where the old catalog is (None if there was none)."""

    agents: int
    turns: int
    set_aside: Path | None
    problems: tuple[Problem, ...]


def rebuild(folder: Path, files: Files | None = None) -> Rebuilt:
    """Replaces the catalog of the store in a folder, which must not be open.

    Raises STORE_UNREADABLE if there is no such folder, STORE_LOCKED, STORE_TOO_NEW, STORE_UNWRITABLE. A rebuild that
    was interrupted can be done again.
    """
    files, paths = files or Files(), StateFolder(folder.absolute())
    if not paths.root.is_dir():
        raise AgentmemError(Reason.STORE_UNREADABLE, f"There is no state folder {paths.root}.")
    with unwritable(paths.root):
        lock: FileLock = state.lock(paths)
        try:
            _settle_marker(files, paths)
            return _Rebuild(files, paths).run()
        finally:
            lock.release()


def _settle_marker(files: Files, paths: StateFolder) -> None:
    """Sees to a format marker. One that is damaged says nothing: records and blocks name their own formats."""
    try:
        state.prepare(files, paths)
    except AgentmemError as error:
        if error.reason is not Reason.STORE_UNREADABLE:
            raise
        files.unlink(paths.marker)
        state.prepare(files, paths)


@dataclass
class _Rebuild:
    files: Files
    paths: StateFolder
    problems: list[Problem] = field(default_factory=list)
    requests: set[tuple[str, str]] = field(default_factory=set)
    turns: int = 0

    def run(self) -> Rebuilt:
        unfinished = self.paths.root / "catalog.rebuilt"
        for suffix in _SIDE_FILES:
            self.files.unlink(Path(f"{unfinished}{suffix}"))
        sound = self._fill(unfinished)
        aside = self._set_catalog_aside()
        self._set_records_aside(sound)
        self.files.sync(unfinished)
        self.files.rename(unfinished, self.paths.catalog)
        self.files.sync(self.paths.root)
        return Rebuilt(len(sound), self.turns, aside, tuple(self.problems))

    def _fill(self, path: Path) -> dict[str, int]:
        """Writes the catalog; the number of the last sound turn by agent id."""
        namespaces, firsts = self._namespaces()
        catalog = Catalog(path, must_exist=False, durable=False)
        sound: dict[str, tuple[TurnRecord, TurnRecord]] = {}
        taken: set[tuple[str, str]] = set()
        try:
            for name, folder in namespaces.items():
                catalog.add_namespace(name, folder)
            # A name is free for another agent once the first was deleted: of two, the later one is the agent.
            for agent_id, (namespace, first) in sorted(firsts.items(), key=lambda item: -item[1][1].record.created):
                ref = (namespace.name, first.record.agent_name)
                if ref in taken:
                    self._problem(first.record, "a later agent has this name")
                    continue
                taken.add(ref)
                chain = read_chain(self.paths, agent_id, namespace.secret)
                self._enter(catalog, chain, namespace.secret)
                sound[agent_id] = first.record, chain.links[-1].record
        finally:
            catalog.close()
        _backdate(path, sound)
        return {agent_id: last.number for agent_id, (_, last) in sound.items()}

    def _namespaces(self) -> tuple[dict[str, str], dict[str, tuple[Namespace, Link]]]:
        """Each namespace's folder, and each agent's namespace and first record.

        The secret that verifies a record tells its namespace; a folder's own word for its name counts less.
        """
        secrets, found = read_secrets(self.paths.namespaces), {}
        for agent_id in sorted({*agent_ids(self.paths.turns), *agent_ids(self.paths.quarantine)}):
            if self.paths.forgotten(agent_id).exists():
                continue
            if (first := self._first(agent_id, secrets)) is not None:
                found[agent_id] = first
        uses = Counter((link.record.namespace, folder) for folder, link in found.values())
        names = {folder: entry.name for folder, entry in secrets.items() if entry.name}
        names |= {folder: name for name, folder in uses}
        folders: dict[str, str] = {}
        for folder, name in sorted(names.items(), key=lambda item: (-uses[item[1], item[0]], item[0])):
            if folders.setdefault(name, folder) == folder and secrets[folder].name != name:
                write_durably(self.files, self.paths.namespaces / folder / NAME, json.dumps({"name": name}).encode())
                self.problems.append(Problem(ProblemKind.NAMESPACE, "its name was damaged and is mended", name))
        firsts = {}
        for agent_id, (folder, link) in found.items():
            name = link.record.namespace
            if folders.get(name) == folder:
                firsts[agent_id] = Namespace(name, secrets[folder].secret), link
            else:
                self._problem(link.record, "its namespace has another secret now")
        return folders, firsts

    def _first(self, agent_id: str, secrets: dict[str, Namespace]) -> tuple[str, Link] | None:
        """The namespace folder whose secret verifies the agent's first record, and that record."""
        fault = "the file of turn 1 is missing"
        for path in (self.paths.record(agent_id, 1), self.paths.record_aside(agent_id, 1)):
            if not os.path.lexists(path):
                continue
            for folder, entry in secrets.items():
                try:
                    link = read_link(path, entry.secret)
                    Chain(agent_id).follow(link)
                    return folder, link
                except RecordUnreadable as error:
                    fault = error.detail
        if numbers(self.paths.records(agent_id)):
            self.problems.append(Problem(ProblemKind.RECORD, fault, turn=1))
        return None

    def _enter(self, catalog: Catalog, chain: Chain, secret: bytes) -> None:
        first = chain.links[0].record
        catalog.create_agent(chain.agent_id, first.namespace, first.agent_name, "")
        for link, longer in superseding(chain, secret):
            record = self._with_fresh_request_id(link.record)
            rows = {use.key: BlockRow(self._size(use.key), use.used) for use in record.blocks}
            catalog.commit(record, link.bytes, record.digest, rows, longer)
            self.turns += 1
            aside = self.paths.record_aside(chain.agent_id, record.number)
            if link.path == aside:
                move_durably(self.files, aside, self.paths.record(chain.agent_id, record.number))
        if chain.fault is not None:
            self._problem(first, chain.fault, len(chain.links) + 1)

    def _with_fresh_request_id(self, record: TurnRecord) -> TurnRecord:
        """Without the request id, if it is forgotten by now: another request may have used it since."""
        request = (record.namespace, record.request_id)
        if record.created > time.time() - REQUEST_SECONDS and request not in self.requests:
            self.requests.add(request)
            return record
        return replace(record, request_id="")

    def _size(self, key: bytes) -> int:
        try:
            return self.paths.block(key).lstat().st_size
        except OSError:
            return 0

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


def _backdate(path: Path, agents: dict[str, tuple[TurnRecord, TurnRecord]]) -> None:
    """Gives agents the times of their first and last turns."""
    db = open_database(path, must_exist=True)
    try:
        with transaction(db):
            db.executemany(
                "UPDATE agents SET created=?, last_used=? WHERE id=?",
                [(first.created, last.created, agent_id) for agent_id, (first, last) in agents.items()],
            )
    finally:
        db.close()

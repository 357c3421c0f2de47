"""What leaves the store: agents, namespaces, old turns, blocks. Catalog first, so that a crash leaves only orphans."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path

from agentmem.errors import AgentmemError, agent_not_found, namespace_not_empty, namespace_not_found
from agentmem.store.branch import Branches
from agentmem.store.catalog import agents, blocks, namespaces, requests, turns
from agentmem.store.core import Core
from agentmem.store.files import is_full
from agentmem.store.keys import keyed_digest
from agentmem.store.rows import (
    DELETE,
    DELETE_NAMESPACE,
    AgentRow,
    Deleted,
    DeletedNamespace,
    NewTurn,
    Pruned,
    PrunedKind,
    RequestRow,
)
from agentmem.store.usage import size_of
from agentmem.store.writer import TurnWriter
from agentmem.types import AgentRef, TurnKind

Delete = Callable[[sqlite3.Connection, list[AgentRow]], list[Deleted]]


class Pruning:
    """A part of `Store`; raises as it does. Dry and real runs return the same."""

    def __init__(self, core: Core, branches: Branches, writer: TurnWriter) -> None:
        self._core = core
        self._branches = branches
        self._writer = writer

    def delete(self, namespace: str, name: str, request_id: str = "", *, dry_run: bool = False) -> int:
        """Forgets an agent; its records and the blocks nobody else uses are gone from the disk. Bytes freed.

        Its name is gone from the catalog's files too, unless STORE_UNWRITABLE is raised because another process reads
        them: a repeat clears them. A repeat of a non-empty request_id returns the first result.
        Raises AGENT_NOT_FOUND, REQUEST_ID_REUSED.
        """
        core = self._core
        with core.change():
            if namespace not in core.namespaces:
                raise agent_not_found(namespace, name)
            # The name is forgotten as well: what is remembered of the request has a digest of it.
            digest = keyed_digest(core.secret(namespace), b"agentmem.forgotten.1", name.encode()).hex()
            if made := core.catalog.read(requests.repeated, namespace, request_id, DELETE, digest):
                if not dry_run:
                    self._scrub()
                return sum(size for _, size in made.freed)
            agent = core.catalog.read(agents.get, namespace, name)
            if dry_run:
                return core.catalog.rehearse(agents.delete, agent).freed_bytes
            return self._forget([agent], partial(_delete, request_id=request_id, digest=digest))[0].freed_bytes

    def namespace(
        self, name: str, request_id: str = "", *, force: bool = False, dry_run: bool = False
    ) -> DeletedNamespace:
        """Removes a namespace with its secret. force: and all of its agents, pinned ones too; a crash leaves all of it,
        or nothing. One of the same name that is made later has another secret.

        Its name and theirs are gone from the catalog's files too, as with `delete`. A repeat of a non-empty request_id
        returns the first result, whatever has the name by now.
        Raises NAMESPACE_NOT_FOUND, NAMESPACE_NOT_EMPTY, REQUEST_ID_REUSED.
        """
        core = self._core
        with core.change():
            # What is remembered outlives the namespace, and so is nobody's: it hangs on none.
            digest = keyed_digest(b"", b"agentmem.forgotten.1", request_id.encode(), name.encode()).hex()
            if made := core.catalog.read(requests.repeated, "", request_id, DELETE_NAMESPACE, digest):
                if not dry_run:
                    self._scrub()
                return DeletedNamespace(len(made.freed), sum(size for _, size in made.freed))
            if name not in core.namespaces:
                raise namespace_not_found(name)
            core.catalog.read(requests.check_new, name, request_id)
            chosen = core.catalog.read(agents.of_namespace, name)
            if chosen and not force:
                raise namespace_not_empty(name, len(chosen))
            if dry_run:
                deleted = core.catalog.rehearse(_delete_all, chosen)
            else:
                delete = partial(_delete_namespace, name=name, request_id=request_id, digest=digest)
                with core.namespaces.removing(name) as mark:
                    deleted = self._forget(chosen, delete, mark)
        return DeletedNamespace(len(deleted), sum(one.freed_bytes for one in deleted))

    def agents(
        self,
        namespace: str,
        request_id: str = "",
        *,
        older_than_s: float | None = None,
        expired: bool = False,
        in_use: Collection[str] = (),
        dry_run: bool = False,
    ) -> list[Pruned]:
        """Forgets agents that were not used for so many seconds, and those that have expired; what goes, by name.

        Pinned agents stay, and so do those in use, by id: they were used later than the store knows.
        Raises REQUEST_ID_REUSED.
        """
        unused_since = None if older_than_s is None else time.time() - older_than_s
        expired_at = time.time() if expired else None
        with self._core.change():
            if not dry_run and (again := self._again(namespace, request_id, PrunedKind.AGENT)) is not None:
                return again
            prunable = self._core.catalog.read(agents.prunable, namespace, unused_since, expired_at)
            chosen = [agent for agent in prunable if agent.id not in in_use]
            if dry_run:
                deleted = self._core.catalog.rehearse(_delete_all, chosen)
            else:
                delete = partial(_delete_some, namespace=namespace, request_id=request_id)
                deleted = self._forget(chosen, delete) if chosen else []
        return [
            Pruned(PrunedKind.AGENT, AgentRef(namespace, one.agent.name), one.agent.turn, one.freed_bytes)
            for one in deleted
        ]

    def history(self, namespace: str, name: str, request_id: str = "", *, dry_run: bool = False) -> list[Pruned]:
        """Drops all turns of an agent, and the blocks only they used; a FORK turn with the same timeline takes over.

        What goes, oldest first; the bytes of the new turn's record are not subtracted. Nothing if the agent is pinned
        or has one turn only. Raises AGENT_NOT_FOUND, REQUEST_ID_REUSED, RecordUnreadable.
        """
        core = self._core
        with core.change():
            agent = core.catalog.read(agents.get, namespace, name)
            if not dry_run and (again := self._again(namespace, request_id, PrunedKind.TURN, name)) is not None:
                return again
            history = core.history(agent)
            if agent.pinned or len(history.listed) <= 1:
                return []
            # The last record may build on those before it; one that stands on its own comes in place of all of them.
            record = self._branches.end_of(history, agent.turn).record(TurnKind.FORK, agent, "")
            if dry_run:
                freed, _ = core.catalog.rehearse(_begin_anew, self._writer.encode(record)[0])
            else:
                begin_anew = partial(_begin_anew, request_id=request_id)
                (freed, keys), _ = self._writer.add(record, (), begin_anew)
                core.turns.remove(agent.id, freed)
                self._remove_blocks(keys)
        ref = AgentRef(namespace, name)
        return [Pruned(PrunedKind.TURN, ref, number, size) for number, size in freed.items()]

    def blocks(self, agent_id: str, *, dry_run: bool = False) -> int:
        """Gives up the files of the blocks that this agent alone uses; bytes freed. They are computed again if needed.

        Raises AGENT_NOT_FOUND.
        """
        core = self._core
        with core.change():
            freed = core.catalog.read(blocks.only_of, core.catalog.read(agents.by_id, agent_id).id)
            if not dry_run:
                core.catalog.write(blocks.empty, freed)
                self._remove_blocks(freed)
        return sum(freed.values())

    def orphans(self, namespace: str = "", request_id: str = "", *, dry_run: bool = False) -> list[Pruned]:
        """Removes files that nothing refers to, of whatever namespace. The next open would do it, too.

        namespace: the request id's. Raises REQUEST_ID_REUSED.
        """
        kind = PrunedKind.ORPHAN
        with self._core.orphans() as orphans:
            if not dry_run and (again := self._again(namespace, request_id, kind)) is not None:
                return again
            freed = size_of(orphans)
            if orphans and not dry_run:
                for path in orphans:
                    self._core.files.unlink(Path(path))
                made = RequestRow(kind.operation, "", freed=((0, freed),))
                self._core.catalog.write(requests.remember, namespace, request_id, made)
        return [Pruned(kind, None, 0, freed)] if orphans else []

    def _again(self, namespace: str, request_id: str, kind: PrunedKind, name: str = "") -> list[Pruned] | None:
        """What this very request pruned before, without the names of agents that are forgotten; None if it is new."""
        made = self._core.catalog.read(requests.repeated, namespace, request_id, kind.operation, name)
        ref = AgentRef(namespace, name) if name else None
        return [Pruned(kind, ref, turn, size) for turn, size in made.freed] if made else None

    def _forget(self, chosen: list[AgentRow], delete: Delete, mark: Callable[[], None] = lambda: None) -> list[Deleted]:
        """Forgets agents, and leaves no name of theirs, not in catalogs that a rebuild set aside either.

        mark: marks what else `delete` forgets.
        """
        try:
            deleted = self._enter(chosen, delete, mark)
        except (OSError, AgentmemError) as error:
            if not is_full(error):
                raise
            # A full disk takes neither mark nor transaction. So what only they use makes room; should an agent have to
            # stay all the same, that is computed again.
            for agent in chosen:
                self._remove_blocks(self._core.catalog.read(blocks.only_of, agent.id))
            deleted = self._enter(chosen, delete, mark)
        for one in deleted:
            self._remove_blocks(one.keys)
            self._core.turns.remove_all(one.agent.id)
        self._scrub()
        return deleted

    def _enter(self, chosen: list[AgentRow], delete: Delete, mark: Callable[[], None]) -> list[Deleted]:
        mark()
        for agent in chosen:
            self._core.turns.mark_forgotten(agent.id)
        return self._core.catalog.write(delete, chosen)

    def _remove_blocks(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            if key not in self._core.ahead:  # or else a turn that is running is going to use it
                self._core.blocks.remove(key)

    def _scrub(self) -> None:
        for path in self._core.folder.old_catalogs():
            self._core.files.unlink(path)
        self._core.catalog.scrub()


def _delete(db: sqlite3.Connection, chosen: list[AgentRow], request_id: str, digest: str) -> list[Deleted]:
    deleted = _delete_all(db, chosen)
    (one,) = deleted
    made = RequestRow(DELETE, digest, one.agent.turn, ((one.agent.turn, one.freed_bytes),))
    requests.remember(db, one.agent.namespace, request_id, made)
    return deleted


def _delete_some(db: sqlite3.Connection, chosen: list[AgentRow], namespace: str, request_id: str) -> list[Deleted]:
    deleted = _delete_all(db, chosen)
    freed = tuple((one.agent.turn, one.freed_bytes) for one in deleted)
    requests.remember(db, namespace, request_id, RequestRow(PrunedKind.AGENT.operation, "", freed=freed))
    return deleted


def _delete_namespace(
    db: sqlite3.Connection, chosen: list[AgentRow], name: str, request_id: str, digest: str
) -> list[Deleted]:
    deleted = _delete_all(db, chosen)
    namespaces.remove(db, name)
    freed = tuple((one.agent.turn, one.freed_bytes) for one in deleted)
    requests.remember(db, "", request_id, RequestRow(DELETE_NAMESPACE, digest, freed=freed))
    return deleted


def _delete_all(db: sqlite3.Connection, chosen: list[AgentRow]) -> list[Deleted]:
    return [agents.delete(db, agent) for agent in chosen]


def _begin_anew(db: sqlite3.Connection, new: NewTurn, request_id: str = "") -> tuple[dict[int, int], list[bytes]]:
    """Makes the turn the agent's only one. Returns what `turns.drop_before` does."""
    turns.add(db, new, {})
    freed, keys = turns.drop_before(db, new.record.agent_id, new.record.number)
    made = RequestRow(PrunedKind.TURN.operation, new.record.agent_name, new.record.number, tuple(freed.items()))
    requests.remember(db, new.record.namespace, request_id, made)
    return freed, keys

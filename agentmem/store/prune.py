"""What leaves the store: agents, and turns before the last. Catalog first, so that a crash leaves only orphans."""

from __future__ import annotations

import sqlite3
import time

from agentmem.store.blocks import BlockFiles
from agentmem.store.branch import Branches
from agentmem.store.catalog import agents, blocks, requests, turns
from agentmem.store.catalog.thread import Catalog
from agentmem.store.files import Files
from agentmem.store.folder import StateFolder
from agentmem.store.history import History
from agentmem.store.keys import keyed_digest
from agentmem.store.namespaces import Namespaces
from agentmem.store.rows import DELETE, AgentRow, Deleted, NewTurn, Pruned, PrunedKind, RequestRow
from agentmem.store.turnfiles import TurnFiles
from agentmem.store.writer import TurnWriter
from agentmem.types import AgentRef, TurnKind


class Pruner:
    """The caller sees to it that nobody else changes the store meanwhile. Methods may raise OSError."""

    def __init__(
        self,
        files: Files,
        folder: StateFolder,
        catalog: Catalog,
        block_files: BlockFiles,
        turn_files: TurnFiles,
        namespaces: Namespaces,
        branches: Branches,
        writer: TurnWriter,
    ) -> None:
        self._files = files
        self._folder = folder
        self._catalog = catalog
        self._blocks = block_files
        self._turns = turn_files
        self._namespaces = namespaces
        self._branches = branches
        self._writer = writer

    def delete(self, namespace: str, name: str, request_id: str, dry_run: bool = False) -> int:
        """Forgets an agent; bytes freed. Raises AGENT_NOT_FOUND, REQUEST_ID_REUSED."""
        if dry_run:
            return self._catalog.rehearse(agents.delete, self._catalog.read(agents.get, namespace, name)).freed_bytes
        secret = self._namespaces.get(namespace).secret
        # The name is forgotten as well: what is remembered of the request has a digest of it.
        digest = keyed_digest(secret, b"agentmem.forgotten.1", name.encode()).hex()
        made = self._catalog.read(requests.repeated, namespace, request_id, DELETE, digest)
        if made:
            freed = made.freed_bytes
        else:
            agent = self._catalog.read(agents.get, namespace, name)
            self._turns.mark_forgotten(agent.id)
            deleted = self._catalog.write(_delete, agent, request_id, digest)
            self._remove([deleted])
            freed = deleted.freed_bytes
        self._scrub()
        return freed

    def blocks(self, agent: AgentRow, dry_run: bool) -> int:
        """Removes the files of the blocks that this agent alone uses; bytes freed. Its records stay."""
        freed = self._catalog.read(blocks.only_of, agent.id)
        if freed and not dry_run:
            self._catalog.write(blocks.empty, freed)
            for key in freed:
                self._blocks.remove(key)
        return sum(freed.values())

    def agents(self, namespace: str, older_than_s: float | None, expired: bool, dry_run: bool) -> list[Pruned]:
        """Forgets agents not used for so many seconds, and those that have expired, but none that is pinned."""
        unused_since = None if older_than_s is None else time.time() - older_than_s
        expired_at = time.time() if expired else None
        chosen = self._catalog.read(agents.prunable, namespace, unused_since, expired_at)
        if dry_run or not chosen:
            deleted = self._catalog.rehearse(_delete_all, chosen)
        else:
            for agent in chosen:
                self._turns.mark_forgotten(agent.id)
            deleted = self._catalog.write(_delete_all, chosen)
            self._remove(deleted)
            self._scrub()
        return [
            Pruned(PrunedKind.AGENT, AgentRef(namespace, one.agent.name), one.agent.turn, one.freed_bytes)
            for one in deleted
        ]

    def history(self, history: History, dry_run: bool) -> list[Pruned]:
        """Drops all turns of an agent but one, unless it is pinned. Raises as `Branches` does.

        The last record may build on those before it. So one that stands on its own, with the same timeline, is added as
        the next turn, and all before it go.
        """
        agent = history.agent
        if agent.pinned or len(history.listed) <= 1:
            return []
        record = self._branches.end_of(history, agent.turn).record(TurnKind.FORK, agent, "")
        if dry_run:
            freed, _ = self._catalog.rehearse(_begin_anew, self._writer.encode(record)[0])
        else:
            (freed, keys), _ = self._writer.add(record, [], _begin_anew)
            self._turns.remove(agent.id, freed)
            for key in keys:
                self._blocks.remove(key)
        ref = AgentRef(agent.namespace, agent.name)
        return [Pruned(PrunedKind.TURN, ref, number, size) for number, size in freed.items()]

    def _remove(self, deleted: list[Deleted]) -> None:
        for one in deleted:
            for key in one.keys:
                self._blocks.remove(key)
            self._turns.remove_all(one.agent.id)

    def _scrub(self) -> None:
        """Leaves no name of an agent that was forgotten, not in catalogs that a rebuild set aside either."""
        for path in self._folder.old_catalogs():
            self._files.unlink(path)
        self._catalog.scrub()


def _delete(db: sqlite3.Connection, agent: AgentRow, request_id: str, digest: str) -> Deleted:
    deleted = agents.delete(db, agent)
    made = RequestRow(DELETE, digest, agent.turn, deleted.freed_bytes)
    requests.remember(db, agent.namespace, request_id, made)
    return deleted


def _delete_all(db: sqlite3.Connection, chosen: list[AgentRow]) -> list[Deleted]:
    return [agents.delete(db, agent) for agent in chosen]


def _begin_anew(db: sqlite3.Connection, new: NewTurn) -> tuple[dict[int, int], list[bytes]]:
    """Makes the turn the agent's only one. Returns what `turns.drop_before` does."""
    turns.add(db, new, {})
    return turns.drop_before(db, new.record.agent_id, new.record.number)

"""What concerns all agents: what can go, what memory takes on disk, and the namespaces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from agentmem.engine.agents import AgentOperations, Steps
from agentmem.engine.status import AgentView
from agentmem.engine.views import NamespaceView
from agentmem.errors import AgentmemError, Reason
from agentmem.memory.embeddings import is_own
from agentmem.memory.needs import Wait
from agentmem.memory.readable import readable
from agentmem.store.records import TurnRecord
from agentmem.store.rows import DeletedNamespace, DiskUsage, Event, EventKind, Pruned
from agentmem.store.verify import Verified, verify
from agentmem.types import AgentRef


class Maintenance(AgentOperations):
    """Methods block and may be called from any thread."""

    def prune(
        self,
        namespace: str,
        *,
        agent: str | None = None,
        older_than_s: float | None = None,
        expired: bool = False,
        dry_run: bool = False,
        request_id: str = "",
        expect_turn: int | None = None,
    ) -> list[Pruned]:
        """Drops an agent's history, or agents by age or expiry, or, asked for neither, files that nobody uses.

        Pinned agents keep everything. Dry and real runs return the same list. expect_turn: of the agent's history.
        """
        if agent is not None:
            return self._prune_history(AgentRef(namespace, agent), dry_run, request_id, expect_turn)
        if older_than_s is not None or expired:
            return self._prune_agents(namespace, older_than_s, expired, dry_run, request_id)
        return self._context.store.pruning.orphans(namespace, request_id, dry_run=dry_run)

    def _prune_history(self, ref: AgentRef, dry_run: bool, request_id: str, expect_turn: int | None) -> list[Pruned]:
        store, memory = self._context.store, self._context.memory

        def prune() -> Steps[list[Pruned]]:
            yield from memory.unsaved.flushed()
            memory.unsaved.flush()  # turns of others on their way to the disk may use blocks that go
            self._check_turn(ref, request_id, expect_turn)
            memory.settle(ref)
            try:
                with readable():
                    return store.pruning.history(ref.namespace, ref.name, request_id, dry_run=dry_run)
            finally:
                memory.reload(ref)

        return self._in_order(ref, prune)

    def _prune_agents(
        self, namespace: str, older_than_s: float | None, expired: bool, dry_run: bool, request_id: str
    ) -> list[Pruned]:
        store, memory = self._context.store, self._context.memory

        def prune() -> Steps[list[Pruned]]:
            yield from memory.unsaved.flushed()
            unsaved = memory.unsaved.save_what_it_takes()  # the disk is to know when each was last used
            try:
                return store.pruning.agents(
                    namespace,
                    request_id,
                    older_than_s=older_than_s,
                    expired=expired,
                    in_use=unsaved | memory.active(),
                    dry_run=dry_run,
                )
            finally:
                memory.forget_gone()

        return self._in_order(AgentRef(namespace, ""), prune)

    def export_agent(self, ref: AgentRef) -> Iterator[bytes]:
        """The agent as it stands, in one file: chunks of about a block."""
        store, memory = self._context.store, self._context.memory

        def begin() -> Steps[Iterator[bytes]]:
            yield from memory.unsaved.arrived(ref)
            memory.settle(ref)
            chunks = store.transfers.export(ref.namespace, ref.name)
            memory.disk.reading.append(ref)
            return chunks

        with readable():
            chunks = self._in_order(ref, begin)
            try:
                yield from chunks
            finally:
                memory.disk.reading.remove(ref)

    def import_agent(
        self,
        chunks: Iterable[bytes],
        namespace: str,
        name: str | None = None,
        text_only: bool = False,
        request_id: str = "",
    ) -> AgentView:
        """A new agent from an export. text_only: takes what was said, and computes its state with the served model.

        Raises IMPORT_INVALID, AGENT_EXISTS, MODEL_MISMATCH, TOKENIZER_MISMATCH.
        """
        model, memory, store = self._context.model, self._context.memory, self._context.store

        def check(record: TurnRecord) -> str | None:
            foreign = record.state_id == model.state_id and not is_own(record.embeddings, model)
            if (record.ids >= model.vocab_size).any() or foreign:
                raise AgentmemError(Reason.IMPORT_INVALID, "The file cannot be imported: its ids are another model's.")
            if text_only and record.tokenizer_id != model.tokenizer_id:
                raise AgentmemError(
                    Reason.TOKENIZER_MISMATCH,
                    "the exported tokens were made by another tokenizer, so they mean nothing to this model",
                )
            if record.end and record.state_id != model.state_id and (not text_only or record.latents):
                instead = "" if record.latents else ", or import the text only"
                raise AgentmemError(
                    Reason.MODEL_MISMATCH,
                    f"the exported state was computed by another model; serve that one{instead}",
                    agent_state_id=record.state_id,
                    served_state_id=model.state_id,
                )
            ref = AgentRef(namespace, name or record.agent_name)
            if not store.find_request(namespace, request_id):  # a repeat writes nothing
                positions, latent = 0 if text_only else record.end, int((record.ids < 0).sum())
                spliced = 0 if text_only else sum(run.blocks for run in record.splices)
                self._briefly(ref, lambda: memory.disk.make_room_for(ref, positions, record.end, latent, spliced))
            return model.state_id if text_only else None

        return self._view(store.transfers.take_in(chunks, namespace, name, request_id, check))

    def verify(self, namespace: str | None = None, repair: bool = False) -> Verified:
        """Reads all that agents of one namespace, or of all, remember. repair: gives up what can be computed again.

        Others go on meanwhile.
        """
        return verify(self._context.store, namespace, repair)

    def disk_usage(self) -> DiskUsage:
        return replace(self._context.store.disk_usage(), budget_bytes=self._context.memory.disk.limit)

    def list_events(
        self, namespace: str | None, agent: str | None, since: float, after: int = 0, limit: int = 100
    ) -> list[Event]:
        """Up to `limit` of what the daemon did on its own behind number `after`, oldest first; see `Events.page`."""
        return self._context.store.events.page(namespace, agent, since, after, limit)

    def note_stuck(self) -> None:
        """Notes that one step lasts very long; `note_unstuck`, that it has ended. They wait for nothing."""
        self._context.store.events.note(EventKind.STUCK, soon=True)

    def note_unstuck(self) -> None:
        self._context.store.events.note(EventKind.UNSTUCK, soon=True)

    def create_namespace(self, name: str, request_id: str = "") -> None:
        """Makes a namespace with a secret of its own, if it is not there: a repeat changes nothing."""
        self._context.store.namespace(name)

    def delete_namespace(
        self, name: str, request_id: str = "", force: bool = False, dry_run: bool = False
    ) -> DeletedNamespace:
        """Removes a namespace with its secret, force: and with its agents, behind the requests that they have.

        The default one goes like any other, and is made anew when it is next used.
        Raises NAMESPACE_NOT_FOUND, NAMESPACE_NOT_EMPTY.
        """
        store, memory, own = self._context.store, self._context.memory, AgentRef(name, "")

        def delete() -> Steps[DeletedNamespace]:
            yield from memory.unsaved.flushed()
            while force and any(ref.namespace == name and ref != own for ref in self._scheduler.refs()):
                yield Wait(())
            memory.unsaved.flush()  # no file of theirs may come after they are gone
            self._check_unused(own, request_id)
            try:
                return store.pruning.namespace(name, request_id, force=force, dry_run=dry_run)
            finally:
                memory.forget_gone()

        return self._in_order(own, delete)

    def list_namespaces(self) -> list[NamespaceView]:
        return [NamespaceView(*row) for row in self._context.store.namespaces()]

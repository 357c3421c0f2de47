"""Export and import: agents that leave the store in a file, and come into one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from agentmem.store import exportfile
from agentmem.store.branch import Branches
from agentmem.store.catalog import agents, requests, turns
from agentmem.store.catalog import blocks as block_rows
from agentmem.store.core import Core
from agentmem.store.exportfile import ExportFile
from agentmem.store.files import unwritable
from agentmem.store.records import TurnRecord
from agentmem.store.rows import AgentRow, BlockRow
from agentmem.store.timelinekeys import TimelineKeys
from agentmem.store.writer import TurnWriter
from agentmem.types import BLOCK_TOKENS, Share, TurnKind

Check = Callable[[TurnRecord], str | None]
"""Is shown an export's record; returns the state id of the model that is to compute the blocks anew, None to take the
file's, or raises."""


class Transfers:
    """A part of `Store`; raises as it does."""

    def __init__(self, core: Core, branches: Branches, writer: TurnWriter) -> None:
        self._core = core
        self._branches = branches
        self._writer = writer

    def export(self, namespace: str, name: str) -> Iterator[bytes]:
        """The agent as it stands, in one file. Raises AGENT_NOT_FOUND, RecordUnreadable; BlockUnreadable on the way."""
        core = self._core
        agent = core.catalog.read(agents.get, namespace, name)
        end = self._branches.end_of(core.history(agent), agent.turn)
        secret = core.secret(namespace)
        keys = [use.key for use in (*end.uses, *end.companions)]
        rows = core.catalog.read(block_rows.get, keys)
        blocks = (core.blocks.read(key, rows[key], secret) for key in keys)
        places = (place for run in end.splices for place in range(run.place, run.end))
        read = ((place, core.blocks.read(keys[place], rows[keys[place]], secret).placement) for place in places)
        spliced = ((place, placement) for place, placement in read if placement is not None)
        return exportfile.write(end.record(TurnKind.FORK, agent, ""), blocks, spliced)

    def take_in(
        self, chunks: Iterable[bytes], namespace: str, name: str | None, request_id: str, check: Check
    ) -> AgentRow:
        """A new agent from an export, under the name it had if none is given.

        With the file's blocks it is private: nobody but who made the file vouches for its state. A repeat of a
        non-empty request_id returns the agent it made.
        Raises AGENT_EXISTS, REQUEST_ID_REUSED, IMPORT_INVALID; nothing is imported then.
        """
        core = self._core
        with unwritable(core.folder.root), exportfile.spooled(chunks, core.sealer.spool(core.folder.root)) as file:
            name = name or file.record.agent_name
            if (made := self._made(namespace, name, request_id)) is not None:
                return made
            state_id = check(file.record)  # which may make room for it
            with core.change():
                if (made := self._made(namespace, name, request_id)) is not None:
                    return made
                core.catalog.read(agents.check_new, namespace, name, request_id)
                agent = replace(AgentRow.new(namespace, name), share=Share.NAMESPACE if state_id else Share.PRIVATE)
                return self._enter(file, agent, request_id, state_id)

    def _made(self, namespace: str, name: str, request_id: str) -> AgentRow | None:
        """What the request has made already."""
        catalog = self._core.catalog
        repeated = catalog.read(requests.repeated, namespace, request_id, TurnKind.FORK.value, name)
        return catalog.read(agents.get, namespace, name) if repeated else None

    def _enter(self, file: ExportFile, agent: AgentRow, request_id: str, state_id: str | None) -> AgentRow:
        secret = self._core.secret(agent.namespace)
        # Companions are one model's alone.
        told = exportfile.as_text(replace(file.record, companions=())) if state_id else file.record
        spliced = exportfile.under(file.spliced, secret) if told.splices else {}
        record = _first_turn(told, agent, secret, state_id or file.record.state_id, request_id, spliced)
        blocks, to_compute = ((), _rows(record, secret)) if state_id else (file.blocks(secret), {})
        return self._writer.add(record, blocks, partial(turns.begin, agent=agent, to_compute=to_compute), agent)[0]


def _first_turn(
    record: TurnRecord,
    agent: AgentRow,
    secret: bytes,
    state_id: str,
    request_id: str,
    spliced: exportfile.Placements,
) -> TurnRecord:
    """An export's record as the first one of a new agent."""
    record = exportfile.rekeyed(record, secret, state_id, spliced)
    return replace(
        record,
        agent_id=agent.id,
        namespace=agent.namespace,
        agent_name=agent.name,
        number=1,
        request_id=request_id,
        created=time.time(),
    )


def _rows(record: TurnRecord, secret: bytes) -> dict[bytes, BlockRow]:
    """The rows of a timeline's blocks as if each had been given up."""
    own, begins = [use.key for use in record.blocks], range(0, len(record.ids), BLOCK_TOKENS)
    keys = TimelineKeys(secret, record.state_id, record.ids, own, begins, record.latents)
    return {use.key: keys.given_up(None, place, use.used) for place, use in enumerate(record.blocks)}

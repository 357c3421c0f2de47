"""What cannot be read from disk and was computed again: said, set aside, and written anew."""

from __future__ import annotations

import logging
from contextlib import suppress

from agentmem.errors import AgentmemError, Reason
from agentmem.memory import blocks as block_cutter
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.model.loader import LoadedModel
from agentmem.store.blockfile import Block, BlockUnreadable, Unreadable
from agentmem.store.store import Store
from agentmem.types import PrefixMiss, Warning

log = logging.getLogger(__name__)


class Mender:
    """quarantined: how many blocks were set aside since the start."""

    def __init__(self, store: Store, model: LoadedModel) -> None:
        self._store, self._model = store, model
        self.quarantined = 0

    def say(self, start: int, end: int, fault: BlockUnreadable, draft: TurnDraft) -> None:
        """Positions [start, end) were computed again. Nobody is warned of a block that was given up on purpose."""
        reason = f"BLOCK_{fault.reason}"
        draft.usage.recomputed_tokens += end - start
        draft.usage.misses.append(PrefixMiss(start, end - start, reason))
        if fault.reason is not Unreadable.EVICTED:
            message = f"positions {start} to {end} could not be read from disk and were computed again"
            draft.warnings.append(Warning(reason, message))

    def put_back(self, agent: Agent, block: Block, fault: BlockUnreadable, draft: TurnDraft) -> None:
        """Writes a block that was computed again in its own context. Raises STORE_UNREADABLE if it is another one.

        Another agent that shares it may have done so meanwhile: what was put back is not set aside.
        """
        namespace = agent.ref.namespace
        if block.key_of_prefix(self._store.namespace(namespace).secret, block.tokens) != block.key:
            # The one that the catalog names may be sound, and somebody else's.
            message = f"The catalog contradicts the record of turn {agent.turn}: it names another block."
            raise AgentmemError(Reason.STORE_UNREADABLE, message, turn=agent.turn)
        if self._is_sound(namespace, block):
            return
        given_up = fault.reason is Unreadable.EVICTED
        self.quarantined += fault.reason in (Unreadable.CORRUPT, Unreadable.FOREIGN)
        try:
            if not given_up:
                self._store.blocks.quarantine(block.key, fault.reason)
            draft.usage.bytes_written += self._store.blocks.replace(namespace, block)
        except AgentmemError as error:
            if error.reason is not Reason.STORE_UNWRITABLE:
                raise
            log.warning("a block that was computed again could not be put back: the disk takes nothing")

    def set_aside(self, namespace: str, key: bytes, fault: BlockUnreadable) -> None:
        """Sets aside a block that cannot be computed again, unless it was put back meanwhile."""
        if fault.reason not in (Unreadable.CORRUPT, Unreadable.FOREIGN):
            return
        with suppress(BlockUnreadable):
            self._store.blocks.read(namespace, key)
            return
        self.quarantined += 1
        try:
            self._store.blocks.quarantine(key, fault.reason)
        except AgentmemError as error:
            if error.reason is not Reason.STORE_UNWRITABLE:
                raise
            log.warning("a damaged block could not be set aside: the disk takes nothing")

    def _is_sound(self, namespace: str, block: Block) -> bool:
        """Whether the store's block of that key can be served."""
        known = self._store.blocks.known([block.key])
        expected = block.parent, block.start, block.ids, self._model, block.companion
        try:
            block_cutter.read(self._store, namespace, block.key, known, *expected)
        except BlockUnreadable:
            return False
        return True

"""The rules of a commit: what a turn record must agree with, and which partial blocks it makes needless."""

from __future__ import annotations

from collections.abc import Iterable

from agentmem.errors import AgentmemError, Reason
from agentmem.store.blockfile import Block
from agentmem.store.grid import splices_fit
from agentmem.store.records import BlockUse, TurnRecord
from agentmem.store.rows import AgentRow
from agentmem.types import BlockKind, TurnKind


def check_turn(expected: int | None, last: int) -> None:
    """expected: what a caller takes an agent's last turn to be, None for any. Raises TURN_MISMATCH."""
    if expected is not None and expected != last:
        message = f"The agent's last turn is {last}, not {expected}; look at it and ask again."
        raise AgentmemError(Reason.TURN_MISMATCH, message, turn=last)


def check(record: TurnRecord, agent: AgentRow, kept: list[BlockUse], tokens: dict[bytes, int]) -> None:
    """kept: the blocks of the previous timeline that stay. tokens: positions in each block that is or will be there.

    Raises TURN_MISMATCH if the agent has moved on, ValueError if the record contradicts itself.
    """
    if record.number != agent.turn + 1:
        raise AgentmemError(
            Reason.TURN_MISMATCH,
            f"The agent's last turn is {agent.turn}; turn {record.number} cannot follow it.",
            turn=agent.turn,
        )
    if (record.namespace, record.agent_name) != (agent.namespace, agent.name):
        raise ValueError("the record names another agent")
    if not all(use.used == tokens.get(use.key) for use in (*record.blocks, *record.companions)):
        raise ValueError("the record uses a block that isn't there, or more or fewer positions than it has")
    kept_tokens = sum(use.used for use in kept)
    if len(kept) != record.base_blocks or not kept_tokens <= record.start <= agent.tokens:
        raise ValueError("the turn does not begin in the previous timeline")
    if record.kind is TurnKind.FORK and (record.number, record.start, record.base_blocks) != (1, 0, 0):
        raise ValueError("a FORK turn does not begin a history")
    if not splices_fit(record.splices, len(kept) + len(record.blocks)):
        raise ValueError("a splice that is not in the timeline")
    if not all(0 <= use.place < len(kept) + len(record.blocks) for use in record.companions):
        raise ValueError("a companion belongs to no block of the timeline")
    if (
        kept_tokens + sum(use.used for use in record.blocks) != record.end
        or len(record.ids) != record.end - record.start
    ):
        raise ValueError("blocks, ids and positions of the turn disagree")


def check_blocks(blocks: Iterable[Block], record: TurnRecord, secret: bytes) -> None:
    """Raises ValueError for a block that the record doesn't use or whose key is not that of its contents."""
    used = {use.key for use in (*record.blocks, *record.companions)}
    for block in blocks:
        if block.key not in used or block.key_of_prefix(secret, block.tokens) != block.key:
            raise ValueError("a block that the record doesn't use, or with a wrong key")


def superseded(dropped: dict[bytes, int], blocks: Iterable[Block], secret: bytes) -> dict[bytes, bytes]:
    """The longer block for each dropped partial block, or window part, that it contains.

    dropped: positions by key. A block is contained in a longer one exactly if the key of the longer one's first
    positions is its key: no file needs to be read to know.
    """
    return {
        key: block.key
        for key, tokens in dropped.items()
        for block in blocks
        if block.kind is not BlockKind.SNAPSHOT and tokens < block.tokens and block.key_of_prefix(secret, tokens) == key
    }

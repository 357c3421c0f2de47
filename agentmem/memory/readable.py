"""What callers are told when the store cannot read something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agentmem.errors import AgentmemError, Reason
from agentmem.store.blockfile import BlockUnreadable
from agentmem.store.records import RecordUnreadable


@contextmanager
def readable() -> Iterator[None]:
    """Turns what cannot be read of the store into DATA_LOSS."""
    try:
        yield
    except RecordUnreadable as error:
        raise AgentmemError(
            Reason.BLOCK_UNRECOVERABLE, f"a turn record of this agent cannot be read: {error}"
        ) from error
    except BlockUnreadable as error:
        raise AgentmemError(
            Reason.BLOCK_UNRECOVERABLE,
            f"a block at the end of that turn is {error.reason.lower()}: prefetch the agent, which computes it again, "
            "and repeat",
        ) from error

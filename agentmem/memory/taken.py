"""Room that is taken, and may come free."""

from __future__ import annotations

from agentmem.errors import AgentmemError, Reason


class RoomTaken(AgentmemError):
    """A refusal that may not last: others that run hold what is needed, or may come to take it.

    short: bytes of RAM that lack; 0 if it is room on the disk.
    """

    def __init__(self, reason: Reason, message: str, short: int = 0, **metadata: object) -> None:
        super().__init__(reason, message, **metadata)
        self.short = short

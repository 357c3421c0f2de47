"""Waiting for room, in RAM or on disk, that others hold now."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from agentmem.errors import AgentmemError, Reason
from agentmem.memory.memory import Memory
from agentmem.memory.needs import Room
from agentmem.types import AgentRef

T = TypeVar("T")


def has_to_wait(memory: Memory, ref: AgentRef, error: AgentmemError) -> bool:
    """Whether it is only that others hold, or may come to take, what the agent needs now."""
    if error.reason is Reason.DISK_BUDGET_EXCEEDED:
        return memory.disk.others_active(ref)
    return error.reason is Reason.RAM_BUDGET_EXCEEDED and memory.others_active(ref)


def with_room(
    memory: Memory, ref: AgentRef, attempt: Callable[[], T], check: Callable[[], None] = lambda: None
) -> Generator[Room, None, T]:
    """What `attempt` returns once others have left the room that it asks for. check: raises if it is no longer wanted.

    An attempt that fails must leave nothing promised, lest two wait for each other. Raises RAM_BUDGET_EXCEEDED or
    DISK_BUDGET_EXCEEDED if the agent would have all room for itself, and that is not enough.
    """
    while True:
        try:
            return attempt()
        except AgentmemError as error:
            if not has_to_wait(memory, ref, error):
                raise
        yield Room()
        check()

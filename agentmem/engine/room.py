"""Waiting for room in RAM that others hold now."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from agentmem.errors import AgentmemError, Reason
from agentmem.memory.memory import Memory
from agentmem.memory.needs import Room
from agentmem.types import AgentRef

T = TypeVar("T")


def has_to_wait(memory: Memory, ref: AgentRef, error: AgentmemError) -> bool:
    """Whether it is only that others hold what the agent needs now."""
    return error.reason is Reason.RAM_BUDGET_EXCEEDED and memory.others_active(ref)


def with_room(
    memory: Memory, ref: AgentRef, attempt: Callable[[], T], check: Callable[[], None] = lambda: None
) -> Generator[Room, None, T]:
    """What `attempt` returns once others have left the room that it asks for. check: raises if it is no longer wanted.

    Raises RAM_BUDGET_EXCEEDED if the agent would have all room for itself, and that is not enough.
    """
    while True:
        try:
            return attempt()
        except AgentmemError as error:
            if not has_to_wait(memory, ref, error):
                raise
        yield Room()
        check()

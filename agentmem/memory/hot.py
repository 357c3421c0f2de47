"""What hot agents take of RAM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agentmem.kv.state import AgentState
from agentmem.types import AgentRef


class HotBytes(Mapping[AgentRef, int]):
    """Bytes of RAM of hot agents, counted when asked for: what one agent does may cut or freeze another's spans."""

    def __init__(self, states: dict[AgentRef, AgentState]) -> None:
        self._states = states

    def __getitem__(self, ref: AgentRef) -> int:
        return self._states[ref].nbytes

    def __iter__(self) -> Iterator[AgentRef]:
        return iter(list(self._states))

    def __len__(self) -> int:
        return len(self._states)

"""What crashes leave behind, removed when the store opens: temporary files, and files the catalog doesn't know."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from agentmem.errors import AgentmemError, Reason
from agentmem.store.chain import agent_ids, numbers
from agentmem.store.files import TEMP_SUFFIX, Files, move_durably, remove_quietly
from agentmem.store.folder import StateFolder
from agentmem.store.turnfiles import TurnFiles

# Only what the store itself writes is ever removed.
_BLOCK = re.compile(r"([0-9a-f]{64})\.(safetensors|reason\.json)")
_TEMP = re.compile(r"\.[0-9a-f]{16}" + re.escape(TEMP_SUFFIX))


def sweep(files: Files, folder: StateFolder, keys: set[bytes], turns: dict[str, int]) -> None:
    """keys: of the blocks in use. turns: the number of the last turn, by agent id.

    Raises STORE_UNREADABLE, and removes nothing, if a record shows that the catalog has lost turns.
    """
    agents = agent_ids(folder.turns)
    for agent in agents:
        _check_not_behind(folder, agent, turns.get(agent))
    for agent in agents:
        if agent in turns:
            remove_quietly(files, folder.forgotten(agent))
            _set_aside(files, folder, agent, turns[agent])
        elif folder.forgotten(agent).exists():
            with suppress(OSError):
                TurnFiles(files, folder).remove_all(agent)
        elif not any(folder.records(agent).iterdir()):
            files.remove_folder(folder.records(agent))
    for above, _, names in os.walk(folder.root):
        for name in names:
            match = _BLOCK.fullmatch(name)
            if _TEMP.fullmatch(name) or (match and bytes.fromhex(match[1]) not in keys):
                remove_quietly(files, Path(above, name))


def _check_not_behind(folder: StateFolder, agent: str, last: int | None) -> None:
    """A crash leaves at most the record of the one turn it prevented, or those of an agent marked as forgotten."""
    newest = max(numbers(folder.records(agent)), default=0)
    if last is None and newest and not folder.forgotten(agent).exists():
        raise AgentmemError(
            Reason.STORE_UNREADABLE, "The catalog does not know an agent whose turn records exist: it lost turns."
        )
    if last is not None and newest > last + 1:
        raise AgentmemError(
            Reason.STORE_UNREADABLE,
            f"The catalog ends at turn {last} of an agent whose record of turn {newest} exists: it lost turns.",
        )


def _set_aside(files: Files, folder: StateFolder, agent: str, last: int) -> None:
    """Puts the record of a turn that the catalog doesn't have where only a rebuild looks.

    Nearly always a crash prevented that turn. But a catalog whose last transaction was damaged looks the same.
    """
    if last + 1 in numbers(folder.records(agent)):
        with suppress(OSError):
            move_durably(files, folder.record(agent, last + 1), folder.record_aside(agent, last + 1))

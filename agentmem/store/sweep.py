"""What crashes leave behind, removed when the store opens: temporary files, and files the catalog doesn't know."""

from __future__ import annotations

import os
import re
from pathlib import Path

from agentmem.errors import AgentmemError, Reason
from agentmem.store.files import TEMP_SUFFIX, Files, remove_quietly
from agentmem.store.folder import StateFolder

# Only what the store itself writes is ever removed.
_BLOCK = re.compile(r"([0-9a-f]{64})\.(safetensors|reason\.json)")
_RECORD = re.compile(r"([0-9]{8,})\.json")
_TEMP = re.compile(r"\.[0-9a-f]{16}" + re.escape(TEMP_SUFFIX))


def sweep(files: Files, folder: StateFolder, keys: set[bytes], turns: dict[str, int]) -> None:
    """keys: of the blocks in use. turns: the number of the last turn, by agent id.

    Raises STORE_UNREADABLE, and removes nothing, if a record shows that the catalog has lost turns.
    """
    records = [path for agent in folder.turns.iterdir() if agent.is_dir() for path in agent.iterdir()]
    for path in records:
        _check_not_behind(path, turns)
    for path in records:
        match = _RECORD.fullmatch(path.name)
        if match and int(match[1]) > turns.get(path.parent.name, 0):
            remove_quietly(files, path)
    for above, _, names in os.walk(folder.root):
        for name in names:
            match = _BLOCK.fullmatch(name)
            if _TEMP.fullmatch(name) or (match and bytes.fromhex(match[1]) not in keys):
                remove_quietly(files, Path(above, name))
    for agent in folder.turns.iterdir():
        if agent.name not in turns and agent.is_dir() and not any(agent.iterdir()):
            files.remove_folder(agent)


def _check_not_behind(path: Path, turns: dict[str, int]) -> None:
    """A crash leaves at most the record of the one turn it prevented. A later one was acknowledged."""
    match = _RECORD.fullmatch(path.name)
    last = turns.get(path.parent.name)
    if match and last is not None and int(match[1]) > last + 1:
        raise AgentmemError(
            Reason.STORE_UNREADABLE,
            f"The catalog ends at turn {last} of an agent whose record of turn {int(match[1])} exists: it lost turns.",
        )

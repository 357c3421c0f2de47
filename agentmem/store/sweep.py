"""What crashes leave behind: temporary files, and files the catalog doesn't know. Removed when the store opens."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agentmem.errors import AgentmemError, Reason
from agentmem.store.files import TEMP_SUFFIX, Files, remove_quietly
from agentmem.store.folder import StateFolder

# Only what the store itself writes is ever removed.
_BLOCK = re.compile(r"([0-9a-f]{64})\.(safetensors|reason\.json)")
_RECORD = re.compile(r"([0-9]{8,})\.json")
_TEMP = re.compile(r"\.[0-9a-f]{16}" + re.escape(TEMP_SUFFIX))


@dataclass(frozen=True)
class InUse:
    """What the catalog refers to. turns: the numbers of the turns that are listed, by agent id."""

    folder: StateFolder
    keys: set[bytes]
    turns: Mapping[str, range]

    def orphaned(self, path: str) -> bool:
        """Whether the file is one of the store's to which nothing refers."""
        above, name = os.path.split(path)
        if match := _BLOCK.fullmatch(name):
            return bytes.fromhex(match[1]) not in self.keys
        if match := _RECORD.fullmatch(name):
            turns, agent = os.path.split(above)
            return turns == str(self.folder.turns) and int(match[1]) not in self.turns.get(agent, ())
        return _TEMP.fullmatch(name) is not None

    def orphans(self) -> Iterator[str]:
        """Paths of all such files."""
        return filter(self.orphaned, _files(self.folder.root))


def sweep(files: Files, used: InUse) -> None:
    """Raises STORE_UNREADABLE, and removes nothing, if a record shows that the catalog has lost turns."""
    for path in _files(used.folder.turns):
        _check_not_behind(path, used.turns)
    for path in used.orphans():
        remove_quietly(files, Path(path))
    for agent in used.folder.turns.iterdir():
        if agent.name not in used.turns and agent.is_dir() and not any(agent.iterdir()):
            files.remove_folder(agent)


def prune_orphans(files: Files, used: InUse, dry_run: bool) -> int:
    """Removes what nothing refers to; its bytes. Raises OSError."""
    freed = 0
    for path in list(used.orphans()):
        freed += os.lstat(path).st_size
        if not dry_run:
            files.unlink(Path(path))
    return freed


# Plain strings: a store may have 100,000 files, and `Path` costs microseconds for each.
def _files(folder: Path) -> Iterator[str]:
    return (os.path.join(above, name) for above, _, names in os.walk(folder) for name in names)


def _check_not_behind(path: str, turns: Mapping[str, range]) -> None:
    """A crash leaves at most the record of the one turn it prevented. A later one was acknowledged."""
    above, name = os.path.split(path)
    match = _RECORD.fullmatch(name)
    listed = turns.get(os.path.basename(above))
    if match and listed is not None and int(match[1]) > listed.stop:
        raise AgentmemError(
            Reason.STORE_UNREADABLE,
            f"The catalog ends at turn {listed.stop - 1} of an agent whose record of turn {int(match[1])} exists: "
            "it lost turns.",
        )

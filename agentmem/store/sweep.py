"""What crashes leave behind: temporary files, and files the catalog doesn't know. Removed when the store opens."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentmem.errors import AgentmemError, Reason
from agentmem.store.chain import RECORD, agent_ids, is_fork, numbers
from agentmem.store.files import TEMP_SUFFIX, Files, move_durably, remove_quietly
from agentmem.store.folder import StateFolder
from agentmem.store.turnfiles import TurnFiles

# Only what the store itself writes is ever removed.
_BLOCK = re.compile(r"([0-9a-f]{64})\.(safetensors|reason\.json)")
_TEMP = re.compile(r"\.[0-9a-f]{16}" + re.escape(TEMP_SUFFIX))


@dataclass(frozen=True)
class InUse:
    """What the catalog refers to.

    sizes: of the blocks' files, by key; 0 for a block that was given up. turns: the numbers of the turns that are
    listed, by agent id.
    """

    folder: StateFolder
    sizes: Mapping[bytes, int]
    turns: Mapping[str, range]

    def orphaned(self, path: str) -> bool:
        """Whether the file is one of the store's to which nothing refers."""
        above, name = os.path.split(path)
        if match := _BLOCK.fullmatch(name):
            size = self.sizes.get(bytes.fromhex(match[1]))
            # A block that was given up has no file, but what was wrong with the one it had stays in quarantine.
            return size is None or (size == 0 and above.startswith(f"{self.folder.blocks}{os.sep}"))
        if match := RECORD.fullmatch(name):
            turns, agent = os.path.split(above)
            return turns == str(self.folder.turns) and self._unlisted(agent, int(match[1]))
        return _TEMP.fullmatch(name) is not None

    def _unlisted(self, agent: str, number: int) -> bool:
        """Whether a turn was pruned or not committed, or its agent is being forgotten."""
        listed = self.turns.get(agent)
        return self.folder.forgotten(agent).exists() if listed is None else number not in listed

    def orphans(self) -> Iterator[str]:
        """Paths of all such files."""
        return filter(self.orphaned, files_below(self.folder.root))


def sweep(files: Files, used: InUse) -> None:
    """Raises STORE_UNREADABLE, and removes nothing, if a record shows that the catalog has lost turns; or OSError."""
    folder = used.folder
    found = {agent: numbers(folder.records(agent)) for agent in agent_ids(folder.turns)}
    for agent, recorded in found.items():
        if recorded:
            _check_not_behind(folder, agent, recorded, used.turns.get(agent))
    for agent, recorded in found.items():
        listed = used.turns.get(agent)
        if listed is not None and listed.stop in recorded:
            # Nearly always a crash prevented that turn. But a catalog whose last transaction was damaged looks the
            # same: so its record goes where only a rebuild looks.
            move_durably(files, folder.record(agent, listed.stop), folder.record_aside(agent, listed.stop))
    for path in used.orphans():
        remove_quietly(files, Path(path))
    for agent in found:
        if agent in used.turns:
            remove_quietly(files, folder.forgotten(agent))
        else:
            _remove_unknown(files, folder, agent)


def _remove_unknown(files: Files, folder: StateFolder, agent: str) -> None:
    """Removes what is left of an agent that the catalog doesn't know, unless a rebuild may find it by records aside."""
    if folder.forgotten(agent).exists():
        with suppress(OSError):
            TurnFiles(files, folder).remove_all(agent)
    elif not folder.records_aside(agent).exists():
        remove_quietly(files, folder.private(agent))
        if not any(folder.records(agent).iterdir()):
            files.remove_folder(folder.records(agent))


# Plain strings: a store may have 100,000 files, and `Path` costs microseconds for each.
def files_below(folder: Path) -> Iterator[str]:
    return (os.path.join(above, name) for above, _, names in os.walk(folder) for name in names)


def _check_not_behind(folder: StateFolder, agent: str, recorded: list[int], listed: range | None) -> None:
    """A crash leaves the record of the one turn it prevented, those of an agent marked as forgotten, or pruned ones."""
    if listed is None:
        if folder.forgotten(agent).exists():
            return
        message = "The catalog does not know an agent whose turn records exist"
    elif recorded[-1] > listed.stop:
        message = f"The catalog ends at turn {listed.stop - 1} of an agent whose record of turn {recorded[-1]} exists"
    elif recorded[0] < listed.start and not is_fork(folder.record(agent, listed.start)):
        message = f"The catalog begins at turn {listed.start} of an agent whose record of turn {recorded[0]} exists"
    else:
        return
    raise AgentmemError(Reason.STORE_UNREADABLE, f"{message}: it lost turns.")

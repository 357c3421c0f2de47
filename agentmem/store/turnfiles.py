"""Turn records in the state folder: one file per turn, in a folder per agent."""

from __future__ import annotations

from agentmem.store.files import Files, read_file, remove_quietly, write_durably
from agentmem.store.folder import StateFolder
from agentmem.store.records import RecordUnreadable, TurnRecord, decode
from agentmem.store.rows import TurnRow


class TurnFiles:
    """Knows files only; the catalog says which turns there are and what their records must be."""

    def __init__(self, files: Files, folder: StateFolder) -> None:
        self._files = files
        self._folder = folder

    def write(self, agent_id: str, number: int, data: bytes) -> int:
        """Writes or replaces a record; bytes written. Raises OSError."""
        return write_durably(self._files, self._folder.record(agent_id, number), data)

    def read(self, agent_id: str, number: int, row: TurnRow | None, secret: bytes) -> TurnRecord:
        """The record that `row` describes. Raises RecordUnreadable if it isn't there or is another."""
        if row is None:
            raise RecordUnreadable(f"there is no turn {number}")
        try:
            data = read_file(self._folder.record(agent_id, number), row.record_bytes)
        except (OSError, ValueError) as error:
            raise RecordUnreadable(f"the file of turn {number} cannot be read ({type(error).__name__})") from None
        record = decode(data, secret)
        if (record.digest, record.previous) != (row.digest, row.previous):
            raise RecordUnreadable(f"the file of turn {number} is not the one that was committed")
        return record

    def remove(self, agent_id: str, number: int) -> None:
        """Removes a record. Raises OSError."""
        self._files.unlink(self._folder.record(agent_id, number))

    def remove_quietly(self, agent_id: str, number: int) -> None:
        remove_quietly(self._files, self._folder.record(agent_id, number))

    def remove_all(self, agent_id: str) -> None:
        """Removes an agent's records. Raises OSError."""
        folder = self._folder.records(agent_id)
        if folder.is_dir():
            for path in folder.iterdir():
                self._files.unlink(path)
            self._files.remove_folder(folder)

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
        remove_quietly(self._files, self._folder.forgotten(agent_id))  # of a deletion that failed
        written = write_durably(self._files, self._folder.record(agent_id, number), data)
        remove_quietly(self._files, self._folder.record_aside(agent_id, number))
        return written

    def read(self, agent_id: str, number: int, row: TurnRow | None, secret: bytes) -> TurnRecord:
        """The record that `row` describes. Raises RecordUnreadable if it isn't there or is another."""
        if row is None:
            raise RecordUnreadable(f"there is no turn {number}")
        try:
            data = read_file(self._folder.record(agent_id, number), row.record_bytes)
        except (OSError, ValueError) as error:
            raise RecordUnreadable(f"the file of turn {number} cannot be read ({type(error).__name__})") from None
        record = decode(data, secret)
        if (record.digest, record.previous, record.end) != (row.digest, row.previous, row.tokens):
            raise RecordUnreadable(f"the file of turn {number} is not the one that was committed")
        return record

    def remove_quietly(self, agent_id: str, number: int) -> None:
        remove_quietly(self._files, self._folder.record(agent_id, number))

    def mark_forgotten(self, agent_id: str) -> None:
        """Says, durably, that an agent's records are about to be removed. Raises OSError.

        Without the mark, records of an agent that the catalog doesn't know prove that the catalog lost it.
        """
        mark = self._folder.forgotten(agent_id)
        if mark.parent.is_dir() and not mark.exists():
            self._files.create(mark, b"")
            self._files.sync(mark.parent)

    def remove_all(self, agent_id: str) -> None:
        """Removes an agent's records, the mark last, and those set aside. Raises OSError."""
        mark = self._folder.forgotten(agent_id)
        for folder in (self._folder.records_aside(agent_id), self._folder.records(agent_id)):
            if folder.is_dir():
                for path in folder.iterdir():
                    if path != mark:
                        self._files.unlink(path)
                self._files.sync(folder)
                self._files.unlink(folder / mark.name)
                self._files.remove_folder(folder)

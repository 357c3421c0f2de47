"""Turn records in the state folder: one file per turn, in a folder per agent."""

from __future__ import annotations

from collections.abc import Iterable

from agentmem.store.files import (
    Files,
    make_folders,
    read_file,
    remove_marked,
    remove_quietly,
    set_mark,
    write_durably,
)
from agentmem.store.folder import StateFolder
from agentmem.store.records import RecordUnreadable, TurnRecord, decode
from agentmem.store.rows import TurnRow
from agentmem.store.sealing import Sealer


class TurnFiles:
    """Knows files only; the catalog says which turns there are and what their records must be."""

    def __init__(self, files: Files, folder: StateFolder, sealer: Sealer) -> None:
        self._files = files
        self._folder = folder
        self._sealer = sealer

    def sealed(self, agent_id: str, number: int, data: bytes) -> bytes:
        """The file of an encoded record."""
        return self._sealer.record(agent_id, number, data)

    def write(self, agent_id: str, number: int, data: bytes) -> int:
        """Writes or replaces a record's file; bytes written. Raises OSError."""
        written = write_durably(self._files, self._folder.record(agent_id, number), data)
        remove_quietly(self._files, self._folder.record_aside(agent_id, number))
        return written

    def read(self, agent_id: str, number: int, row: TurnRow | None, secret: bytes) -> TurnRecord:
        """The record that `row` describes. Raises RecordUnreadable if it isn't there or is another."""
        if row is None:
            raise RecordUnreadable(f"there is no turn {number}")
        try:
            file = read_file(self._folder.record(agent_id, number), row.record_bytes)
            data = self._sealer.open_record(agent_id, number, file)
        except (OSError, ValueError) as error:
            raise RecordUnreadable(f"the file of turn {number} cannot be read ({type(error).__name__})") from None
        record = decode(data, secret)
        if (record.digest, record.previous, record.end) != (row.digest, row.previous, row.tokens):
            raise RecordUnreadable(f"the file of turn {number} is not the one that was committed")
        return record

    def remove(self, agent_id: str, numbers: Iterable[int]) -> None:
        """Removes records, and all that were set aside. Raises OSError."""
        for number in numbers:
            self._files.unlink(self._folder.record(agent_id, number))
        remove_marked(self._files, self._folder.records_aside(agent_id))

    def remove_quietly(self, agent_id: str, number: int) -> None:
        remove_quietly(self._files, self._folder.record(agent_id, number))

    def mark_forgotten(self, agent_id: str) -> None:
        """Says, durably, that an agent's records are about to be removed. Raises OSError.

        Without the mark, records of an agent that the catalog doesn't know prove that the catalog lost it.
        """
        if self._folder.records(agent_id).is_dir():
            set_mark(self._files, self._folder.forgotten(agent_id), True)

    def begin(self, agent_id: str, private: bool) -> None:
        """Makes the folder of an agent that the catalog doesn't know yet: forgotten, until `keep`. Raises OSError."""
        make_folders(self._files, self._folder.records(agent_id))
        if private:
            self._files.create(self._folder.private(agent_id), b"")
        self.mark_forgotten(agent_id)

    def keep(self, agent_id: str) -> None:
        """Takes the mark away, durably: that of `begin`, or of a deletion that failed. Raises OSError."""
        set_mark(self._files, self._folder.forgotten(agent_id), False)

    def set_private(self, agent_id: str, private: bool) -> None:
        """Marks an agent, durably, as one whose blocks are for nobody else, or unmarks it. Raises OSError."""
        set_mark(self._files, self._folder.private(agent_id), private)

    def remove_all(self, agent_id: str) -> None:
        """Removes an agent's records, the mark last, and those set aside. Raises OSError."""
        remove_marked(self._files, self._folder.records_aside(agent_id))
        remove_marked(self._files, self._folder.records(agent_id), self._folder.forgotten(agent_id))

"""The state folder: where everything lies, the lock that keeps a second process out, and the format marker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from agentmem.errors import AgentmemError, Reason
from agentmem.store.files import Files, make_folders, read_small_file, write_durably
from agentmem.store.layout import parse_json
from agentmem.store.sealing import KeyCheck, Sealer, misfit_error, sealer_with

FORMAT = 4
"""That of the catalog. A folder is marked before its catalog is migrated: older versions refuse both. It is raised for
what a version would not understand of the files, too: 4 has turn records, and blocks, with embeddings or splices, which
versions that know only 3 would take for damaged.
"""

SECRET = "secret"
"""The file in a namespace's folder that holds its secret."""

FORGOTTEN = "forgotten"
"""A marker among an agent's records, or in a namespace's folder: they are being removed."""

_OLD_CATALOG = re.compile(r"catalog\.([0-9]+\.sqlite|rebuilt)(-wal|-shm)?")


@dataclass(frozen=True)
class StateFolder:
    """Paths in the state folder. No name of a file or folder is derived from what a user wrote."""

    root: Path
    catalog_name: str = "catalog.sqlite"

    @property
    def catalog(self) -> Path:
        return self.root / self.catalog_name

    def old_catalogs(self) -> list[Path]:
        """Files of catalogs that a rebuild set aside, or did not finish."""
        return [path for path in self.root.glob("catalog.*") if _OLD_CATALOG.fullmatch(path.name)]

    def catalogs(self) -> list[Path]:
        """Files of the catalog, and of old ones."""
        return [*self.root.glob(f"{self.catalog_name}*"), *self.old_catalogs()]

    @property
    def marker(self) -> Path:
        return self.root / "format.json"

    @property
    def blocks(self) -> Path:
        return self.root / "blocks"

    @property
    def turns(self) -> Path:
        return self.root / "turns"

    @property
    def namespaces(self) -> Path:
        return self.root / "namespaces"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    def block(self, key: bytes) -> Path:
        name = key.hex()
        return self.blocks / name[:2] / name[2:4] / f"{name}.safetensors"

    def quarantined(self, key: bytes) -> tuple[Path, Path]:
        """A block's file in quarantine, and the file beside it that says why."""
        name = key.hex()
        return self.quarantine / f"{name}.safetensors", self.quarantine / f"{name}.reason.json"

    def records(self, agent_id: str) -> Path:
        return self.turns / agent_id

    def record(self, agent_id: str, number: int) -> Path:
        return self.records(agent_id) / f"{number:08d}.json"

    def record_aside(self, agent_id: str, number: int) -> Path:
        """Where a record goes that the catalog or the chain doesn't vouch for."""
        return self.records_aside(agent_id) / f"{number:08d}.json"

    def records_aside(self, agent_id: str) -> Path:
        return self.quarantine / agent_id

    def forgotten(self, agent_id: str) -> Path:
        return self.records(agent_id) / FORGOTTEN

    def private(self, agent_id: str) -> Path:
        """A marker among an agent's records: its blocks are for nobody else. The catalog follows the marker."""
        return self.records(agent_id) / "private"

    def marked_private(self) -> list[str]:
        """Ids of the agents that have such a marker."""
        return self._marked("private")

    def marked_forgotten(self) -> list[str]:
        """Ids of the agents whose records are being removed."""
        return self._marked(FORGOTTEN)

    def _marked(self, mark: str) -> list[str]:
        with os.scandir(self.turns) as entries:
            return [entry.name for entry in entries if os.path.exists(f"{entry.path}{os.sep}{mark}")]

    def has_records(self) -> bool:
        return any(self.turns.glob(f"{'[0-9a-f]' * 32}/{'[0-9]' * 8}*.json"))


def lock(folder: StateFolder) -> FileLock:
    """Takes the folder for this process. Raises STORE_LOCKED, or OSError."""
    taken = FileLock(folder.root / "lock", timeout=0, mode=0o600, thread_local=False)
    try:
        taken.acquire()
    except Timeout:
        raise AgentmemError(
            Reason.STORE_LOCKED,
            f"The state folder {folder.root} is in use by another agentmem process.",
            folder=folder.root,
        ) from None
    return taken


def prepare(files: Files, folder: StateFolder, key: bytes | None = None, *, mend: bool = False) -> Sealer:
    """Checks the format marker and the master key, or sets up a new folder; returns how its files are sealed.

    mend: a damaged marker counts as missing. Raises STORE_TOO_NEW, STORE_UNREADABLE, ENCRYPTION_KEY_MISSING,
    ENCRYPTION_KEY_WRONG, STORE_NOT_ENCRYPTED, and nothing is touched then; or OSError.
    """
    sealer = sealer_with(key)
    marker = _Marker.read(folder.marker, mend) if folder.marker.exists() else None
    misfit = sealer.misfit(marker.key_check) if marker else sealer.misfit_of_secrets(_secrets(folder))
    if misfit is not None:
        raise misfit_error(misfit, folder.root)
    for path in (folder.blocks, folder.turns, folder.namespaces, folder.quarantine):
        make_folders(files, path)
    if marker is None:
        _exclude(files, folder)
    if marker is None or marker.format != FORMAT:
        write_durably(files, folder.marker, _Marker(FORMAT, sealer.key_check()).encode())
    return sealer


@dataclass(frozen=True)
class _Marker:
    format: int
    key_check: KeyCheck | None

    def encode(self) -> bytes:
        entry: dict[str, object] = {"format": self.format, "product": "agentmem"}
        return json.dumps(entry | ({"encryption": self.key_check.entry()} if self.key_check else {})).encode()

    @classmethod
    def read(cls, path: Path, mend: bool) -> _Marker | None:
        """None: it is damaged, and may be."""
        try:
            entry = parse_json(read_small_file(path))
            version, encryption = entry["format"], entry.get("encryption")
            if type(version) is not int:
                raise ValueError("the format is no number")
            if version <= FORMAT:
                return cls(version, None if encryption is None else KeyCheck.parse(encryption))
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            if mend:
                return None
            raise AgentmemError(Reason.STORE_UNREADABLE, f"The format marker {path} cannot be read.") from error
        raise AgentmemError(
            Reason.STORE_TOO_NEW,
            f"The state folder has format {version}; this version of agentmem knows formats up to {FORMAT}.",
        )


def _secrets(folder: StateFolder) -> dict[str, bytes]:
    """The namespaces' secrets as they are on the disk, by the names of their folders."""
    found = {}
    for path in folder.namespaces.glob(f"*/{SECRET}"):
        with suppress(OSError, ValueError):
            found[path.parent.name] = read_small_file(path)
    return found


def _exclude(files: Files, folder: StateFolder) -> None:
    """Keeps Spotlight and Time Machine out: the state is large, changes often, and holds what was said."""
    never_index = folder.root / ".metadata_never_index"
    if not never_index.exists():
        files.create(never_index, b"")
    if sys.platform == "darwin":
        # Sets the attribute com.apple.metadata:com_apple_backup_excludeItem, which Python cannot on macOS.
        subprocess.run(["/usr/bin/tmutil", "addexclusion", str(folder.root)], check=False, capture_output=True)

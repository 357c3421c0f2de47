"""Namespaces and their secrets. Each has a folder of its own, so that losing the catalog loses no secret."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from agentmem.errors import AgentmemError, Reason
from agentmem.store.catalog import namespaces as rows
from agentmem.store.catalog.thread import Catalog
from agentmem.store.files import Files, read_small_file, remove_marked, remove_quietly, set_mark, write_durably
from agentmem.store.folder import FORGOTTEN, SECRET
from agentmem.store.keys import SECRET_BYTES
from agentmem.store.layout import parse_json
from agentmem.store.sealing import Sealer

NAME = "name.json"


@dataclass(frozen=True)
class Namespace:
    """An isolation domain. secret: 32 random bytes that key all its hashes."""

    name: str
    secret: bytes = field(repr=False)


class Namespaces:
    """The namespaces in a folder. Thread-safe."""

    def __init__(self, files: Files, folder: Path, catalog: Catalog, sealer: Sealer) -> None:
        self._files = files
        self._sealer = sealer
        self._folder = folder
        self._catalog = catalog
        self._lock = threading.Lock()
        self._known: dict[str, Namespace] = {}
        self._folders = catalog.read(rows.folders)
        self._adopt()

    def __contains__(self, name: str) -> bool:
        return name in self._folders

    def get(self, name: str) -> Namespace:
        """The namespace, made on first use. Raises STORE_UNREADABLE if its secret is lost, or OSError."""
        with self._lock:
            if name not in self._known:
                self._known[name] = self._load(name) if name in self._folders else self._create(name)
            return self._known[name]

    @contextmanager
    def removing(self, name: str) -> Iterator[Callable[[], None]]:
        """The work inside takes the namespace out of the catalog, behind a call of what is yielded; its files follow.

        That call marks them: whatever interrupts the work, the mark tells them from those that a lost catalog knew.
        Raises OSError.
        """
        with self._lock:
            folder = self._folder / self._folders[name]
            mark = folder / FORGOTTEN
            try:
                yield partial(set_mark, self._files, mark, True)
            finally:  # a COMMIT that reports an error may still have happened
                self._folders = self._catalog.read(rows.folders)
                if name in self._folders:
                    remove_quietly(self._files, mark)
                else:
                    self._known.pop(name, None)
                    remove_marked(self._files, folder, mark)

    def _load(self, name: str) -> Namespace:
        try:
            namespace = _read(self._folder / self._folders[name], self._sealer)
            if namespace.name != name:
                raise ValueError("the folder is another namespace's")
        except (OSError, ValueError) as error:
            message = f"The secret of namespace {name!r} cannot be read, and with it none of its memory."
            raise AgentmemError(Reason.STORE_UNREADABLE, message) from error
        return namespace

    def _create(self, name: str) -> Namespace:
        self._catalog.check_in_place()
        namespace = Namespace(name, secrets.token_bytes(SECRET_BYTES))
        folder = self._folder / secrets.token_hex(16)
        write_durably(self._files, folder / SECRET, self._sealer.secret(folder.name, namespace.secret))
        write_durably(self._files, folder / NAME, json.dumps({"name": name}).encode())
        self._catalog.write(rows.add, name, folder.name)
        self._folders[name] = folder.name
        return namespace

    def _adopt(self) -> None:
        """Enters folders that the catalog doesn't know: those of a crash in `_create`, or of a lost catalog.

        What a crash in `removing` left is removed, or kept if the catalog has it still.
        """
        known = set(self._folders.values())
        for folder in sorted(self._folder.iterdir()):
            if folder.name in known:
                remove_quietly(self._files, folder / FORGOTTEN)
            if folder.name in known or not folder.is_dir():
                continue
            if (folder / FORGOTTEN).exists():
                with suppress(OSError):
                    remove_marked(self._files, folder, folder / FORGOTTEN)
                continue
            try:
                name = _read(folder, self._sealer).name
            except (OSError, ValueError):
                # Without its name, written last, a namespace was never used. A damaged name is another matter.
                if not os.path.lexists(folder / NAME):
                    remove_quietly(self._files, folder / SECRET)
                    with suppress(OSError):
                        self._files.remove_folder(folder)
                continue
            if name not in self._folders:
                self._catalog.write(rows.add, name, folder.name)
                self._folders[name] = folder.name


def read_secrets(folder: Path, sealer: Sealer) -> dict[str, Namespace]:
    """The namespaces by their folders' names, from the files alone; name "" where it cannot be read."""
    found = {}
    for path in sorted(folder.iterdir()):
        with suppress(OSError, ValueError):
            secret = _read_secret(path, sealer)
            found[path.name] = Namespace("", secret)
            found[path.name] = Namespace(_read_name(path), secret)
    return found


def _read(folder: Path, sealer: Sealer) -> Namespace:
    """Raises OSError or ValueError."""
    return Namespace(_read_name(folder), _read_secret(folder, sealer))


def _read_name(folder: Path) -> str:
    entry = parse_json(read_small_file(folder / NAME))
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ValueError("not a namespace's name")
    return entry["name"]


def _read_secret(folder: Path, sealer: Sealer) -> bytes:
    secret = sealer.open_secret(folder.name, read_small_file(folder / SECRET))
    if len(secret) != SECRET_BYTES:
        raise ValueError("not a secret")
    return secret

"""How the files of a store are sealed: not at all (`Plain`), or with AES-256-GCM under a master key (`aes.Aes`).

A store is one or the other from its creation on. Its format marker says which, and has what it takes to recognise the
key. What is sealed: block files, turn records, the secrets of namespaces, and whatever of these is set aside. The
catalog, the names of files and their sizes are not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from agentmem.errors import AgentmemError, Reason
from agentmem.store.keys import SECRET_BYTES

CIPHER = "AES-256-GCM"
NONCE_BYTES, TAG_BYTES = 12, 16
SEALED_SECRET_BYTES = NONCE_BYTES + SECRET_BYTES + TAG_BYTES

_MISFITS = {
    Reason.ENCRYPTION_KEY_MISSING: "is encrypted: say where its key is, with --encrypt keychain or --encrypt FILE",
    Reason.ENCRYPTION_KEY_WRONG: "is encrypted with another key than the one given",
    Reason.STORE_NOT_ENCRYPTED: (
        "is not encrypted, and cannot become so: leave --encrypt away, or choose another folder "
        "and take agents there with export and import"
    ),
}


class SealBroken(ValueError):
    """A file that is not what was sealed under its name with this key. The message is free of its contents."""


@dataclass(frozen=True)
class KeyCheck:
    """By which a store recognises its master key. check: a digest of the key and the salt; it gives neither away."""

    salt: bytes
    check: bytes

    def entry(self) -> dict[str, str]:
        """As it stands in the format marker."""
        return {"cipher": CIPHER, "salt": self.salt.hex(), "check": self.check.hex()}

    @classmethod
    def parse(cls, entry: Any) -> KeyCheck:
        """Raises ValueError, TypeError or KeyError."""
        if entry["cipher"] != CIPHER:
            raise ValueError("unknown cipher")
        return cls(bytes.fromhex(entry["salt"]), bytes.fromhex(entry["check"]))


class Spool(Protocol):
    """A temporary file that is written, and then, after `seek(0)`, read to its end. Gone when the context ends."""

    def __enter__(self) -> Spool: ...

    def __exit__(self, *raised: Any) -> object: ...

    def write(self, data: bytes, /) -> object: ...

    def seek(self, place: int, /) -> object: ...

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end."""


class Sealer(Protocol):
    """Stateless and thread-safe. What opens a file raises SealBroken."""

    seal_bytes: int
    """So many bytes at the end of a block's file are its seal: no two files have the same. The catalog keeps it."""

    def block(self, key: bytes, data: bytes) -> bytes: ...

    def open_block(self, key: bytes, data: bytes) -> bytes: ...

    def record(self, agent_id: str, number: int, data: bytes) -> bytes: ...

    def open_record(self, agent_id: str, number: int, data: bytes) -> bytes: ...

    def secret(self, folder: str, secret: bytes) -> bytes:
        """folder: the name of the namespace's folder."""

    def open_secret(self, folder: str, data: bytes) -> bytes: ...

    def spool(self, folder: Path) -> Spool: ...

    def key_check(self) -> KeyCheck | None:
        """For the marker of a new store; None if it has no key."""

    def misfit(self, known: KeyCheck | None) -> Reason | None:
        """Why this is not the sealer of a store with such a marker; None if it is."""

    def misfit_of_secrets(self, secrets: Mapping[str, bytes]) -> Reason | None:
        """The same of a store whose marker is lost, by the secrets of its namespaces, as they are on the disk."""


class Plain:
    """Files as they are."""

    seal_bytes = 0

    def block(self, key: bytes, data: bytes) -> bytes:
        return data

    def open_block(self, key: bytes, data: bytes) -> bytes:
        return data

    def record(self, agent_id: str, number: int, data: bytes) -> bytes:
        return data

    def open_record(self, agent_id: str, number: int, data: bytes) -> bytes:
        return data

    def secret(self, folder: str, secret: bytes) -> bytes:
        return secret

    def open_secret(self, folder: str, data: bytes) -> bytes:
        return data

    def spool(self, folder: Path) -> Spool:
        return cast(Spool, tempfile.TemporaryFile(dir=folder))

    def key_check(self) -> KeyCheck | None:
        return None

    def misfit(self, known: KeyCheck | None) -> Reason | None:
        return Reason.ENCRYPTION_KEY_MISSING if known else None

    def misfit_of_secrets(self, secrets: Mapping[str, bytes]) -> Reason | None:
        sealed = any(len(data) == SEALED_SECRET_BYTES for data in secrets.values())
        return Reason.ENCRYPTION_KEY_MISSING if sealed else None


def sealer_with(key: bytes | None) -> Sealer:
    """key: the master key, 32 random bytes; None leaves everything as it is."""
    if key is None:
        return Plain()
    from agentmem.store.aes import Aes  # brings the package `cryptography` along

    return Aes(key)


def misfit_error(reason: Reason, folder: Path) -> AgentmemError:
    return AgentmemError(reason, f"The state folder {folder} {_MISFITS[reason]}.", folder=folder)

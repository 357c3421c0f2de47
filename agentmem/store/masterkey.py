"""Where the master key of encrypted stores is kept: in the keychain of the operating system, or in a file.

It is 32 random bytes, in text 64 hexadecimal digits. Whoever has it can read the stores; without it nobody can.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from agentmem.errors import AgentmemError, Reason
from agentmem.store.files import Files

KEYCHAIN = "keychain"
"""Says instead of a path that the key is in the keychain."""
KEY_BYTES = 32
SERVICE, ACCOUNT = "agentmem", "encryption-key"
"""Under which the keychain knows the key."""

_HEX = re.compile(r"[0-9a-fA-F]{64}")


def load(source: str | Path) -> bytes:
    """The key in the keychain, or in a file. Raises ENCRYPTION_KEY_MISSING, ENCRYPTION_KEY_INVALID or
    KEYCHAIN_UNAVAILABLE.
    """
    return _from_keychain() if source == KEYCHAIN else _from_file(Path(source).expanduser())


def create(source: str | Path) -> None:
    """Makes a key there. Raises ENCRYPTION_KEY_EXISTS, KEYCHAIN_UNAVAILABLE, OSError."""
    text = secrets.token_hex(KEY_BYTES)
    if source == KEYCHAIN:
        _to_keychain(text)
    else:
        _to_file(Path(source).expanduser(), text)


def _from_file(path: Path) -> bytes:
    try:
        # O_NONBLOCK: opening a FIFO would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            data = file.read(1024) if stat.S_ISREG(about.st_mode) else b""
    except FileNotFoundError:
        raise _missing(f"There is no key file {path}", path) from None
    except OSError as error:
        raise _invalid(f"The key file {path} cannot be read: {error.strerror}.") from error
    if about.st_mode & 0o077:
        raise _invalid(f"The key file {path} can be read by others. Run: chmod 600 '{path}'")
    key = data if len(data) == KEY_BYTES else _parsed(data.decode("ascii", "replace"))
    if key is None:
        raise _invalid(f"The file {path} holds no key: that is 32 bytes, or 64 hexadecimal digits.")
    return key


def _to_file(path: Path, text: str) -> None:
    try:
        Files().create(path, f"{text}\n".encode())
    except FileExistsError:
        raise _exists(f"{path} is there already") from None
    Files().sync(path)
    Files().sync(path.parent)


def _from_keychain() -> bytes:
    text = _ask_keychain()
    if text is None:
        raise _missing("There is no key of agentmem in the keychain", KEYCHAIN)
    key = _parsed(text)
    if key is None:
        raise _invalid(f"The entry {ACCOUNT} of {SERVICE} in the keychain is no key: that is 64 hexadecimal digits.")
    return key


def _to_keychain(text: str) -> None:
    import keyring

    if _ask_keychain() is not None:
        raise _exists("The keychain has a key of agentmem already")
    try:
        keyring.set_password(SERVICE, ACCOUNT, text)
    except Exception as error:
        raise _unavailable(error) from error
    if _ask_keychain() != text:  # a backend may be one that forgets
        raise _unavailable(None)


def _ask_keychain() -> str | None:
    import keyring

    try:
        return keyring.get_password(SERVICE, ACCOUNT)
    except Exception as error:  # backends are plug-ins, and not all keep to keyring's own errors
        raise _unavailable(error) from error


def _parsed(text: str) -> bytes | None:
    return bytes.fromhex(text) if _HEX.fullmatch(text := text.strip()) else None


def _missing(what: str, source: str | Path) -> AgentmemError:
    message = f"{what}. To make one for a new state folder: agentmem key create {source}"
    return AgentmemError(Reason.ENCRYPTION_KEY_MISSING, message)


def _invalid(message: str) -> AgentmemError:
    return AgentmemError(Reason.ENCRYPTION_KEY_INVALID, message)


def _exists(what: str) -> AgentmemError:
    message = f"{what}, and stays as it is: what was encrypted with it can be read with it alone."
    return AgentmemError(Reason.ENCRYPTION_KEY_EXISTS, message)


def _unavailable(error: Exception | None) -> AgentmemError:
    why = f" ({type(error).__name__})" if error else ""
    message = f"No keychain can be used here{why}. Unlock it, or keep the key in a file: agentmem key create FILE"
    return AgentmemError(Reason.KEYCHAIN_UNAVAILABLE, message)

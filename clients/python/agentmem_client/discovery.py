"""Where the daemon lives: the single truth for default paths, used by the client and by the daemon."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from platformdirs import user_data_path

from agentmem_client.errors import ConfigError

STATE_ENV = "AGENTMEM_STATE"
SOCKET_ENV = "AGENTMEM_SOCKET"
TOKEN_ENV = "AGENTMEM_TOKEN"

MAX_SOCKET_BYTES = 103
"""What macOS takes (Linux: 107); the same limit everywhere, so that a set-up can be moved."""


def default_state_dir() -> Path:
    """$AGENTMEM_STATE, else the platform's data folder for agentmem. Absolute; nothing is created."""
    chosen = os.environ.get(STATE_ENV)
    return _absolute(chosen) if chosen else user_data_path("agentmem", appauthor=False)


def default_socket_path(state_dir: str | Path | None = None) -> Path:
    """$AGENTMEM_SOCKET, else run/agentmem.sock in the state folder. ConfigError if it is too long."""
    chosen = os.environ.get(SOCKET_ENV)
    if chosen:
        return socket_path(chosen)
    state = default_state_dir() if state_dir is None else _absolute(state_dir)
    return socket_path(state / "run" / "agentmem.sock")


def socket_path(path: str | Path) -> Path:
    """`path` made absolute. ConfigError if the operating system cannot bind a socket there."""
    full = _absolute(path)
    size = len(os.fsencode(full))
    if size > MAX_SOCKET_BYTES:
        raise ConfigError(
            f"The socket path takes {size} bytes, at most {MAX_SOCKET_BYTES} work: {full}. "
            f"Set {SOCKET_ENV} to a shorter one, for instance {SOCKET_ENV}=~/.agentmem/agentmem.sock",
            reason="SOCKET_PATH_TOO_LONG",
            metadata={"limit": str(MAX_SOCKET_BYTES), "size": str(size)},
        )
    return full


def token_path(socket: str | Path) -> Path:
    """The token file lies beside the socket, in the same 0700 folder."""
    return Path(socket).parent / "token"


def socket_target(socket: str | Path) -> str:
    """The gRPC target and listening address of a socket. Quoted, because gRPC reads it as a URI."""
    return "unix:" + quote(os.fsencode(socket))


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))

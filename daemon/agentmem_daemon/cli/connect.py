"""The way to the daemon: the Python client, brought in only when a command needs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentmem_client import Client


def connect(socket: Path | None) -> Client:
    """A client, to be used as a context manager. Calls raise DaemonNotRunning if nobody listens."""
    from agentmem_client import Client

    return Client(socket=socket)

"""`version`: this command's version, and the daemon's if one runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentmem import __version__
from agentmem_daemon.cli.connect import connect
from agentmem_daemon.cli.options import Json, Socket
from agentmem_daemon.cli.output import print_json

if TYPE_CHECKING:
    from agentmem_client import ModelInfo

TIMEOUT_S = 2.0


def version(socket: Socket = None, as_json: Json = False) -> None:
    """Print the version, and the daemon's if it runs."""
    from agentmem_client import AgentmemError

    daemon: dict[str, Any] | None = None
    try:
        with connect(socket) as client:
            status = client.status(timeout=TIMEOUT_S)
            daemon = {"version": status.version, "phase": status.phase, **_computing(status.model)}
    except AgentmemError:
        pass  # whatever is wrong with the daemon, this command has a version
    if as_json:
        print_json({"version": __version__, "daemon": daemon})
        return
    print(f"agentmem {__version__}")
    if daemon:
        print(f"daemon {daemon['version']}, {daemon['phase'].lower()} {daemon['model']}".rstrip())
        if daemon["numerics"]:
            print(f"{daemon['numerics']} numerics, {daemon['prefill_path']} prefill")


def _computing(model: ModelInfo | None) -> dict[str, Any]:
    """The model that is served, and how."""
    if model is None:
        return {"model": "", "numerics": "", "prefill_path": "", "logit_tolerance": 0.0}
    return {name: getattr(model, name) for name in ("numerics", "prefill_path", "logit_tolerance")} | {
        "model": model.name
    }

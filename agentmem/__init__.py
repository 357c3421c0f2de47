"""agentmem: a memory for LLM agents that outlives their process. Importing it loads neither MLX nor gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmem_client import AsyncClient, Client, Message, PoolEntry, RunResult, Slice

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "Message", "PoolEntry", "RunResult", "Slice", "__version__"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import agentmem_client

        return getattr(agentmem_client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The Python client of agentmem: `Client`, its async twin, their results and their errors.

Importing this package loads neither gRPC nor protobuf; the first use of `Client` or `AsyncClient` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentmem_client.daemon_types import (
    AgentDiskUsage,
    DeletedNamespace,
    DiskUsage,
    Event,
    LayerInfo,
    ModelInfo,
    Namespace,
    NamespaceDiskUsage,
    Problem,
    Pruned,
    RunningRequest,
    Stats,
    Status,
    StepTimes,
    VerifyReport,
)
from agentmem_client.errors import (
    AgentExists,
    AgentmemError,
    AgentNotFound,
    AlreadyExists,
    Cancelled,
    ConfigError,
    ContextOverflow,
    DaemonNotRunning,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InternalError,
    InvalidRequest,
    ModelMismatch,
    NotFound,
    NotImplementedByDaemon,
    ResourceExhausted,
    StreamUnfinished,
    TurnMismatch,
    Unauthenticated,
    Unavailable,
)
from agentmem_client.knowledge_types import PoolEntry
from agentmem_client.run_types import RoleUsage, RunProgress, RunResult, RunStarted
from agentmem_client.types import (
    AgentInfo,
    Appended,
    BlockUse,
    Delta,
    Diff,
    Evicted,
    Message,
    Prefetched,
    PrefixMiss,
    Reply,
    ReusePlan,
    Rewound,
    Slice,
    Spliced,
    SplicedPart,
    Started,
    Thought,
    Timings,
    ToolCall,
    Turn,
    TurnMessage,
    Usage,
    Warning,
)

if TYPE_CHECKING:
    from agentmem_client.agent import Agent
    from agentmem_client.async_agent import AsyncAgent
    from agentmem_client.async_client import AsyncClient
    from agentmem_client.client import Client
    from agentmem_client.streams import AsyncReplyStream, AsyncRunStream, ReplyStream, RunStream

_LAZY = {
    "Agent": "agent",
    "AsyncAgent": "async_agent",
    "AsyncClient": "async_client",
    "AsyncReplyStream": "streams",
    "AsyncRunStream": "streams",
    "Client": "client",
    "ReplyStream": "streams",
    "RunStream": "streams",
}

__all__ = [
    "Agent",
    "AgentDiskUsage",
    "AgentExists",
    "AgentInfo",
    "AgentNotFound",
    "AgentmemError",
    "AlreadyExists",
    "Appended",
    "AsyncAgent",
    "AsyncClient",
    "AsyncReplyStream",
    "AsyncRunStream",
    "BlockUse",
    "Cancelled",
    "Client",
    "ConfigError",
    "ContextOverflow",
    "DaemonNotRunning",
    "DataLoss",
    "DeadlineExceeded",
    "DeletedNamespace",
    "Delta",
    "Diff",
    "DiskUsage",
    "Event",
    "Evicted",
    "FailedPrecondition",
    "InternalError",
    "InvalidRequest",
    "LayerInfo",
    "Message",
    "ModelInfo",
    "ModelMismatch",
    "Namespace",
    "NamespaceDiskUsage",
    "NotFound",
    "NotImplementedByDaemon",
    "PoolEntry",
    "Prefetched",
    "PrefixMiss",
    "Problem",
    "Pruned",
    "Reply",
    "ReplyStream",
    "ResourceExhausted",
    "ReusePlan",
    "Rewound",
    "RoleUsage",
    "RunProgress",
    "RunResult",
    "RunStarted",
    "RunStream",
    "RunningRequest",
    "Slice",
    "Spliced",
    "SplicedPart",
    "Started",
    "Stats",
    "Status",
    "StepTimes",
    "StreamUnfinished",
    "Thought",
    "Timings",
    "ToolCall",
    "Turn",
    "TurnMessage",
    "TurnMismatch",
    "Unauthenticated",
    "Unavailable",
    "Usage",
    "VerifyReport",
    "Warning",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"agentmem_client.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What can go wrong, as exceptions: one class per status code, a few more where programs act on the reason."""

from __future__ import annotations

from collections.abc import Mapping


class AgentmemError(Exception):
    """A call that failed. Also raised itself, for status codes without a class of their own.

    reason: UPPER_SNAKE_CASE, what programs switch on; empty if the failure did not come from the daemon.
    message: a sentence a person can act on. code: the canonical status code's name, for instance NOT_FOUND.
    metadata: short strings for programs, for instance {"limit": "2048", "needed": "3000"}.
    """

    default_code = "UNKNOWN"

    def __init__(
        self, message: str, *, reason: str = "", code: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.code = code or self.default_code
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        return f"{self.message} [{self.reason}]" if self.reason else self.message


class ConfigError(AgentmemError):
    """The client was given settings that cannot work; nothing was sent."""

    default_code = "INVALID_ARGUMENT"


class InvalidRequest(AgentmemError):
    """The request can never succeed as it is. Raised locally where that can be told without the daemon."""

    default_code = "INVALID_ARGUMENT"


class NotFound(AgentmemError):
    default_code = "NOT_FOUND"


class AgentNotFound(NotFound):
    """No agent of that name in that namespace."""


class AlreadyExists(AgentmemError):
    default_code = "ALREADY_EXISTS"


class AgentExists(AlreadyExists):
    """The name is taken."""


class FailedPrecondition(AgentmemError):
    """The request is sound, the daemon's or the agent's state does not allow it."""

    default_code = "FAILED_PRECONDITION"


class ModelMismatch(FailedPrecondition):
    """The timeline was computed by another model; `rebuild=True` recomputes it from the record."""


class ContextOverflow(FailedPrecondition):
    """The timeline with the new input does not fit into the model's context window."""


class TurnMismatch(AgentmemError):
    """The agent's last turn is not `expect_turn`."""

    default_code = "ABORTED"


class ResourceExhausted(AgentmemError):
    """The request does not fit the queue or a budget now; it may later."""

    default_code = "RESOURCE_EXHAUSTED"


class DataLoss(AgentmemError):
    """Stored state was damaged beyond what can be recomputed."""

    default_code = "DATA_LOSS"


class Unavailable(AgentmemError):
    """The daemon is loading, stopping, or the connection was lost."""

    default_code = "UNAVAILABLE"


class DaemonNotRunning(Unavailable):
    """Nobody listens on the socket."""


class DeadlineExceeded(AgentmemError):
    """The call took longer than its `timeout`."""

    default_code = "DEADLINE_EXCEEDED"


class Cancelled(AgentmemError):
    default_code = "CANCELLED"


class StreamUnfinished(FailedPrecondition, RuntimeError):
    """A stream's result was asked for before it was read to its end. Raised locally."""


class Unauthenticated(AgentmemError):
    """The token is missing, unreadable or wrong."""

    default_code = "UNAUTHENTICATED"


class NotImplementedByDaemon(AgentmemError):
    """The daemon knows no such call, or does not offer it yet."""

    default_code = "UNIMPLEMENTED"


class InternalError(AgentmemError):
    """A defect of the daemon."""

    default_code = "INTERNAL"


_BY_REASON: dict[str, type[AgentmemError]] = {
    "AGENT_NOT_FOUND": AgentNotFound,
    "AGENT_EXISTS": AgentExists,
    "MODEL_MISMATCH": ModelMismatch,
    "CONTEXT_OVERFLOW": ContextOverflow,
    "TURN_MISMATCH": TurnMismatch,
}
_BY_CODE: dict[str, type[AgentmemError]] = {
    kind.default_code: kind
    for kind in (
        InvalidRequest,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        TurnMismatch,
        ResourceExhausted,
        DataLoss,
        Unavailable,
        DeadlineExceeded,
        Cancelled,
        Unauthenticated,
        NotImplementedByDaemon,
        InternalError,
    )
}


def make_error(code: str, reason: str, message: str, metadata: Mapping[str, str] | None = None) -> AgentmemError:
    """The exception for a status: its class is chosen by reason, else by code."""
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, AgentmemError)
    return kind(message, reason=reason, code=code, metadata=metadata)

"""The one error type that crosses layers: a reason for programs, a sentence for people."""

from __future__ import annotations

from enum import Enum


class Code(str, Enum):
    """The canonical status codes used, by name; the daemon maps them to gRPC."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    DATA_LOSS = "DATA_LOSS"
    UNAVAILABLE = "UNAVAILABLE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    CANCELLED = "CANCELLED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    INTERNAL = "INTERNAL"


class Reason(str, Enum):
    """Why, for programs. Sent as ErrorInfo.reason; each belongs to one code."""

    AGENT_NAME_INVALID = "AGENT_NAME_INVALID"
    NAMESPACE_INVALID = "NAMESPACE_INVALID"
    NAMESPACE_NOT_FOUND = "NAMESPACE_NOT_FOUND"
    NAMESPACE_NOT_EMPTY = "NAMESPACE_NOT_EMPTY"
    AGENT_NOT_FOUND = "AGENT_NOT_FOUND"
    AGENT_EXISTS = "AGENT_EXISTS"
    TURN_NOT_FOUND = "TURN_NOT_FOUND"
    IMPORT_INVALID = "IMPORT_INVALID"
    EMPTY_INPUT = "EMPTY_INPUT"
    INPUT_INVALID = "INPUT_INVALID"
    ROLE_INVALID = "ROLE_INVALID"
    CHAT_TEMPLATE_MISSING = "CHAT_TEMPLATE_MISSING"
    CHAT_TEMPLATE_REFUSED = "CHAT_TEMPLATE_REFUSED"
    TOKEN_ID_OUT_OF_RANGE = "TOKEN_ID_OUT_OF_RANGE"
    SAMPLING_INVALID = "SAMPLING_INVALID"
    SCHEMA_INVALID = "SCHEMA_INVALID"
    SCHEMA_UNSUPPORTED = "SCHEMA_UNSUPPORTED"
    SCHEMA_UNFULFILLABLE = "SCHEMA_UNFULFILLABLE"
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"
    PLAN_INVALID = "PLAN_INVALID"
    PROMPT_TOO_LARGE = "PROMPT_TOO_LARGE"
    CONTEXT_OVERFLOW = "CONTEXT_OVERFLOW"
    MODEL_MISMATCH = "MODEL_MISMATCH"
    TOKENIZER_MISMATCH = "TOKENIZER_MISMATCH"
    MODEL_UNSUPPORTED = "MODEL_UNSUPPORTED"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    NOT_REPOSITIONABLE = "NOT_REPOSITIONABLE"
    TURN_MISMATCH = "TURN_MISMATCH"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    BLOCK_UNRECOVERABLE = "BLOCK_UNRECOVERABLE"
    STORE_LOCKED = "STORE_LOCKED"
    STORE_TOO_NEW = "STORE_TOO_NEW"
    STORE_UNREADABLE = "STORE_UNREADABLE"
    STORE_UNWRITABLE = "STORE_UNWRITABLE"
    STORE_NOT_ENCRYPTED = "STORE_NOT_ENCRYPTED"
    ENCRYPTION_KEY_MISSING = "ENCRYPTION_KEY_MISSING"
    ENCRYPTION_KEY_WRONG = "ENCRYPTION_KEY_WRONG"
    ENCRYPTION_KEY_INVALID = "ENCRYPTION_KEY_INVALID"
    ENCRYPTION_KEY_EXISTS = "ENCRYPTION_KEY_EXISTS"
    KEYCHAIN_UNAVAILABLE = "KEYCHAIN_UNAVAILABLE"
    KNOWLEDGE_TOO_NEW = "KNOWLEDGE_TOO_NEW"
    KNOWLEDGE_UNREADABLE = "KNOWLEDGE_UNREADABLE"
    KNOWLEDGE_UNWRITABLE = "KNOWLEDGE_UNWRITABLE"
    KNOWLEDGE_NOT_ENCRYPTED = "KNOWLEDGE_NOT_ENCRYPTED"
    FULL_TEXT_SEARCH_MISSING = "FULL_TEXT_SEARCH_MISSING"
    QUEUE_FULL = "QUEUE_FULL"
    RAM_BUDGET_EXCEEDED = "RAM_BUDGET_EXCEEDED"
    DISK_BUDGET_EXCEEDED = "DISK_BUDGET_EXCEEDED"
    MODEL_LOADING = "MODEL_LOADING"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    REQUEST_CANCELLED = "REQUEST_CANCELLED"
    DEADLINE_PASSED = "DEADLINE_PASSED"
    TOKEN_INVALID = "TOKEN_INVALID"
    INTERNAL = "INTERNAL"


_CODES = {
    Reason.NAMESPACE_NOT_FOUND: Code.NOT_FOUND,
    Reason.NAMESPACE_NOT_EMPTY: Code.FAILED_PRECONDITION,
    Reason.AGENT_NOT_FOUND: Code.NOT_FOUND,
    Reason.TURN_NOT_FOUND: Code.NOT_FOUND,
    Reason.MODEL_NOT_FOUND: Code.NOT_FOUND,
    Reason.AGENT_EXISTS: Code.ALREADY_EXISTS,
    Reason.MODEL_MISMATCH: Code.FAILED_PRECONDITION,
    Reason.TOKENIZER_MISMATCH: Code.FAILED_PRECONDITION,
    Reason.MODEL_UNSUPPORTED: Code.FAILED_PRECONDITION,
    Reason.NOT_REPOSITIONABLE: Code.FAILED_PRECONDITION,
    Reason.CHAT_TEMPLATE_MISSING: Code.FAILED_PRECONDITION,
    Reason.SCHEMA_UNSUPPORTED: Code.FAILED_PRECONDITION,
    Reason.SCHEMA_UNFULFILLABLE: Code.FAILED_PRECONDITION,
    Reason.CONTEXT_OVERFLOW: Code.FAILED_PRECONDITION,
    Reason.STORE_LOCKED: Code.FAILED_PRECONDITION,
    Reason.STORE_TOO_NEW: Code.FAILED_PRECONDITION,
    Reason.STORE_UNREADABLE: Code.DATA_LOSS,
    Reason.STORE_UNWRITABLE: Code.UNAVAILABLE,
    Reason.STORE_NOT_ENCRYPTED: Code.FAILED_PRECONDITION,
    Reason.ENCRYPTION_KEY_MISSING: Code.FAILED_PRECONDITION,
    Reason.ENCRYPTION_KEY_WRONG: Code.FAILED_PRECONDITION,
    Reason.ENCRYPTION_KEY_INVALID: Code.FAILED_PRECONDITION,
    Reason.ENCRYPTION_KEY_EXISTS: Code.ALREADY_EXISTS,
    Reason.KEYCHAIN_UNAVAILABLE: Code.FAILED_PRECONDITION,
    Reason.KNOWLEDGE_TOO_NEW: Code.FAILED_PRECONDITION,
    Reason.KNOWLEDGE_NOT_ENCRYPTED: Code.FAILED_PRECONDITION,
    Reason.KNOWLEDGE_UNREADABLE: Code.DATA_LOSS,
    Reason.KNOWLEDGE_UNWRITABLE: Code.UNAVAILABLE,
    Reason.FULL_TEXT_SEARCH_MISSING: Code.FAILED_PRECONDITION,
    Reason.TURN_MISMATCH: Code.ABORTED,
    Reason.BLOCK_UNRECOVERABLE: Code.DATA_LOSS,
    Reason.QUEUE_FULL: Code.RESOURCE_EXHAUSTED,
    Reason.RAM_BUDGET_EXCEEDED: Code.RESOURCE_EXHAUSTED,
    Reason.DISK_BUDGET_EXCEEDED: Code.RESOURCE_EXHAUSTED,
    Reason.MODEL_LOADING: Code.UNAVAILABLE,
    Reason.SHUTTING_DOWN: Code.UNAVAILABLE,
    Reason.NOT_IMPLEMENTED: Code.UNIMPLEMENTED,
    Reason.REQUEST_CANCELLED: Code.CANCELLED,
    Reason.DEADLINE_PASSED: Code.DEADLINE_EXCEEDED,
    Reason.TOKEN_INVALID: Code.UNAUTHENTICATED,
    Reason.INTERNAL: Code.INTERNAL,
}


class AgentmemError(Exception):
    """A request that cannot be done. Carries no prompt text, ids or KV bytes (invariant 8).

    reason: what programs switch on. message: a sentence a person can act on.
    metadata: short strings for programs, for instance {"limit": "2048", "needed": "3000"}.
    """

    def __init__(self, reason: Reason, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = {k: str(v) for k, v in metadata.items()}

    @property
    def code(self) -> Code:
        return _CODES.get(self.reason, Code.INVALID_ARGUMENT)


def request_id_reused() -> AgentmemError:
    message = "This request_id belongs to another call; draw a new one for each call."
    return AgentmemError(Reason.REQUEST_ID_REUSED, message)


def agent_not_found(namespace: str, name: str) -> AgentmemError:
    message = f"There is no agent named {name!r} in the namespace {namespace!r}."
    return AgentmemError(Reason.AGENT_NOT_FOUND, message, agent=name)


def namespace_not_found(name: str) -> AgentmemError:
    return AgentmemError(Reason.NAMESPACE_NOT_FOUND, f"There is no namespace named {name!r}.", namespace=name)


def namespace_not_empty(name: str, agents: int) -> AgentmemError:
    some = f"{agents} agent{'s' if agents > 1 else ''}"
    message = f"The namespace {name!r} has {some}: forget them first, or remove it by force."
    return AgentmemError(Reason.NAMESPACE_NOT_EMPTY, message, namespace=name, agents=agents)

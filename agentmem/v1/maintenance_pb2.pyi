from agentmem.v1 import types_pb2 as _types_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PruneRequest(_message.Message):
    __slots__ = ("namespace", "history_of", "older_than", "expired", "dry_run", "request_id", "expect_turn")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_OF_FIELD_NUMBER: _ClassVar[int]
    OLDER_THAN_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECT_TURN_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    history_of: str
    older_than: _duration_pb2.Duration
    expired: bool
    dry_run: bool
    request_id: str
    expect_turn: int
    def __init__(self, namespace: _Optional[str] = ..., history_of: _Optional[str] = ..., older_than: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., expired: bool = ..., dry_run: bool = ..., request_id: _Optional[str] = ..., expect_turn: _Optional[int] = ...) -> None: ...

class PruneResponse(_message.Message):
    __slots__ = ("pruned",)
    PRUNED_FIELD_NUMBER: _ClassVar[int]
    pruned: _containers.RepeatedCompositeFieldContainer[Pruned]
    def __init__(self, pruned: _Optional[_Iterable[_Union[Pruned, _Mapping]]] = ...) -> None: ...

class Pruned(_message.Message):
    __slots__ = ("kind", "agent", "turn", "freed_bytes")
    KIND_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    FREED_BYTES_FIELD_NUMBER: _ClassVar[int]
    kind: str
    agent: _types_pb2.AgentRef
    turn: int
    freed_bytes: int
    def __init__(self, kind: _Optional[str] = ..., agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., turn: _Optional[int] = ..., freed_bytes: _Optional[int] = ...) -> None: ...

class GetDiskUsageRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetDiskUsageResponse(_message.Message):
    __slots__ = ("namespaces", "orphaned_bytes", "quarantined_bytes", "catalog_bytes", "total_bytes", "budget_bytes")
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    ORPHANED_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_BYTES_FIELD_NUMBER: _ClassVar[int]
    CATALOG_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    namespaces: _containers.RepeatedCompositeFieldContainer[NamespaceDiskUsage]
    orphaned_bytes: int
    quarantined_bytes: int
    catalog_bytes: int
    total_bytes: int
    budget_bytes: int
    def __init__(self, namespaces: _Optional[_Iterable[_Union[NamespaceDiskUsage, _Mapping]]] = ..., orphaned_bytes: _Optional[int] = ..., quarantined_bytes: _Optional[int] = ..., catalog_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., budget_bytes: _Optional[int] = ...) -> None: ...

class NamespaceDiskUsage(_message.Message):
    __slots__ = ("namespace", "agents", "shared_bytes", "total_bytes")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    SHARED_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    agents: _containers.RepeatedCompositeFieldContainer[AgentDiskUsage]
    shared_bytes: int
    total_bytes: int
    def __init__(self, namespace: _Optional[str] = ..., agents: _Optional[_Iterable[_Union[AgentDiskUsage, _Mapping]]] = ..., shared_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class AgentDiskUsage(_message.Message):
    __slots__ = ("agent", "exclusive_bytes", "shared_bytes", "record_bytes")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHARED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECORD_BYTES_FIELD_NUMBER: _ClassVar[int]
    agent: str
    exclusive_bytes: int
    shared_bytes: int
    record_bytes: int
    def __init__(self, agent: _Optional[str] = ..., exclusive_bytes: _Optional[int] = ..., shared_bytes: _Optional[int] = ..., record_bytes: _Optional[int] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("namespace", "repair")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    repair: bool
    def __init__(self, namespace: _Optional[str] = ..., repair: bool = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("blocks", "records", "bytes", "problems", "repaired")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_FIELD_NUMBER: _ClassVar[int]
    blocks: int
    records: int
    bytes: int
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    repaired: int
    def __init__(self, blocks: _Optional[int] = ..., records: _Optional[int] = ..., bytes: _Optional[int] = ..., problems: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ..., repaired: _Optional[int] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("kind", "reason", "namespace", "agent", "turn")
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    kind: str
    reason: str
    namespace: str
    agent: str
    turn: int
    def __init__(self, kind: _Optional[str] = ..., reason: _Optional[str] = ..., namespace: _Optional[str] = ..., agent: _Optional[str] = ..., turn: _Optional[int] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("namespace", "agent", "since", "page_size", "page_token", "after")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    agent: str
    since: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    after: int
    def __init__(self, namespace: _Optional[str] = ..., agent: _Optional[str] = ..., since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., after: _Optional[int] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("events", "next_page_token")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    next_page_token: str
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("number", "time", "kind", "agent", "reason", "bytes", "start", "end")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    number: int
    time: _timestamp_pb2.Timestamp
    kind: str
    agent: _types_pb2.AgentRef
    reason: str
    bytes: int
    start: int
    end: int
    def __init__(self, number: _Optional[int] = ..., time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[str] = ..., agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., reason: _Optional[str] = ..., bytes: _Optional[int] = ..., start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

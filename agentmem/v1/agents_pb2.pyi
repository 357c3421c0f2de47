from agentmem.v1 import types_pb2 as _types_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Agent(_message.Message):
    __slots__ = ("ref", "id", "turn", "tokens", "residency", "model_matches", "state_id", "create_time", "last_used_time", "disk_bytes", "ram_bytes", "exactness", "blocks", "pinned", "expire_time", "share", "unsaved_turns")
    REF_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_FIELD_NUMBER: _ClassVar[int]
    MODEL_MATCHES_FIELD_NUMBER: _ClassVar[int]
    STATE_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_TIME_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    RAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXACTNESS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    UNSAVED_TURNS_FIELD_NUMBER: _ClassVar[int]
    ref: _types_pb2.AgentRef
    id: str
    turn: int
    tokens: int
    residency: _types_pb2.Residency
    model_matches: bool
    state_id: str
    create_time: _timestamp_pb2.Timestamp
    last_used_time: _timestamp_pb2.Timestamp
    disk_bytes: int
    ram_bytes: int
    exactness: _types_pb2.Exactness
    blocks: _containers.RepeatedCompositeFieldContainer[BlockUse]
    pinned: bool
    expire_time: _timestamp_pb2.Timestamp
    share: _types_pb2.Share
    unsaved_turns: int
    def __init__(self, ref: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., id: _Optional[str] = ..., turn: _Optional[int] = ..., tokens: _Optional[int] = ..., residency: _Optional[_Union[_types_pb2.Residency, str]] = ..., model_matches: bool = ..., state_id: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_used_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., disk_bytes: _Optional[int] = ..., ram_bytes: _Optional[int] = ..., exactness: _Optional[_Union[_types_pb2.Exactness, str]] = ..., blocks: _Optional[_Iterable[_Union[BlockUse, _Mapping]]] = ..., pinned: bool = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., share: _Optional[_Union[_types_pb2.Share, str]] = ..., unsaved_turns: _Optional[int] = ...) -> None: ...

class BlockUse(_message.Message):
    __slots__ = ("key", "kind", "start", "used", "bytes")
    KEY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    key: str
    kind: _types_pb2.BlockKind
    start: int
    used: int
    bytes: int
    def __init__(self, key: _Optional[str] = ..., kind: _Optional[_Union[_types_pb2.BlockKind, str]] = ..., start: _Optional[int] = ..., used: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class CreateAgentRequest(_message.Message):
    __slots__ = ("agent", "request_id", "share", "ttl", "pinned")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    request_id: str
    share: _types_pb2.Share
    ttl: _duration_pb2.Duration
    pinned: bool
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., request_id: _Optional[str] = ..., share: _Optional[_Union[_types_pb2.Share, str]] = ..., ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., pinned: bool = ...) -> None: ...

class CreateAgentResponse(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: Agent
    def __init__(self, agent: _Optional[_Union[Agent, _Mapping]] = ...) -> None: ...

class GetAgentRequest(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ...) -> None: ...

class GetAgentResponse(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: Agent
    def __init__(self, agent: _Optional[_Union[Agent, _Mapping]] = ...) -> None: ...

class ListAgentsRequest(_message.Message):
    __slots__ = ("namespace", "page_size", "page_token", "hot_only")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HOT_ONLY_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    page_size: int
    page_token: str
    hot_only: bool
    def __init__(self, namespace: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., hot_only: bool = ...) -> None: ...

class ListAgentsResponse(_message.Message):
    __slots__ = ("agents", "next_page_token")
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    agents: _containers.RepeatedCompositeFieldContainer[Agent]
    next_page_token: str
    def __init__(self, agents: _Optional[_Iterable[_Union[Agent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteAgentRequest(_message.Message):
    __slots__ = ("agent", "request_id", "expect_turn", "dry_run")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECT_TURN_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    request_id: str
    expect_turn: int
    dry_run: bool
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., request_id: _Optional[str] = ..., expect_turn: _Optional[int] = ..., dry_run: bool = ...) -> None: ...

class DeleteAgentResponse(_message.Message):
    __slots__ = ("freed_bytes",)
    FREED_BYTES_FIELD_NUMBER: _ClassVar[int]
    freed_bytes: int
    def __init__(self, freed_bytes: _Optional[int] = ...) -> None: ...

class ForkAgentRequest(_message.Message):
    __slots__ = ("agent", "new_name", "at_turn", "request_id", "expect_turn")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    NEW_NAME_FIELD_NUMBER: _ClassVar[int]
    AT_TURN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECT_TURN_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    new_name: str
    at_turn: int
    request_id: str
    expect_turn: int
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., new_name: _Optional[str] = ..., at_turn: _Optional[int] = ..., request_id: _Optional[str] = ..., expect_turn: _Optional[int] = ...) -> None: ...

class ForkAgentResponse(_message.Message):
    __slots__ = ("agent", "tokens_to_recompute")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_TO_RECOMPUTE_FIELD_NUMBER: _ClassVar[int]
    agent: Agent
    tokens_to_recompute: int
    def __init__(self, agent: _Optional[_Union[Agent, _Mapping]] = ..., tokens_to_recompute: _Optional[int] = ...) -> None: ...

class RewindAgentRequest(_message.Message):
    __slots__ = ("agent", "to_turn", "request_id", "expect_turn")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    TO_TURN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECT_TURN_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    to_turn: int
    request_id: str
    expect_turn: int
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., to_turn: _Optional[int] = ..., request_id: _Optional[str] = ..., expect_turn: _Optional[int] = ...) -> None: ...

class RewindAgentResponse(_message.Message):
    __slots__ = ("agent", "tokens_to_recompute")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_TO_RECOMPUTE_FIELD_NUMBER: _ClassVar[int]
    agent: Agent
    tokens_to_recompute: int
    def __init__(self, agent: _Optional[_Union[Agent, _Mapping]] = ..., tokens_to_recompute: _Optional[int] = ...) -> None: ...

class ListTurnsRequest(_message.Message):
    __slots__ = ("agent", "page_size", "page_token", "include_messages")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    page_size: int
    page_token: str
    include_messages: bool
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., include_messages: bool = ...) -> None: ...

class ListTurnsResponse(_message.Message):
    __slots__ = ("turns", "next_page_token")
    TURNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    turns: _containers.RepeatedCompositeFieldContainer[_types_pb2.Turn]
    next_page_token: str
    def __init__(self, turns: _Optional[_Iterable[_Union[_types_pb2.Turn, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DiffAgentsRequest(_message.Message):
    __slots__ = ("a", "b")
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    a: _types_pb2.AgentRef
    b: _types_pb2.AgentRef
    def __init__(self, a: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., b: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ...) -> None: ...

class DiffAgentsResponse(_message.Message):
    __slots__ = ("position", "a_turn", "b_turn", "a_tokens", "b_tokens")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    A_TURN_FIELD_NUMBER: _ClassVar[int]
    B_TURN_FIELD_NUMBER: _ClassVar[int]
    A_TOKENS_FIELD_NUMBER: _ClassVar[int]
    B_TOKENS_FIELD_NUMBER: _ClassVar[int]
    position: int
    a_turn: int
    b_turn: int
    a_tokens: int
    b_tokens: int
    def __init__(self, position: _Optional[int] = ..., a_turn: _Optional[int] = ..., b_turn: _Optional[int] = ..., a_tokens: _Optional[int] = ..., b_tokens: _Optional[int] = ...) -> None: ...

class UpdateAgentRequest(_message.Message):
    __slots__ = ("agent", "pinned", "ttl", "share", "request_id", "expect_turn")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECT_TURN_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    pinned: bool
    ttl: _duration_pb2.Duration
    share: _types_pb2.Share
    request_id: str
    expect_turn: int
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., pinned: bool = ..., ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., share: _Optional[_Union[_types_pb2.Share, str]] = ..., request_id: _Optional[str] = ..., expect_turn: _Optional[int] = ...) -> None: ...

class UpdateAgentResponse(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: Agent
    def __init__(self, agent: _Optional[_Union[Agent, _Mapping]] = ...) -> None: ...

class EvictAgentRequest(_message.Message):
    __slots__ = ("agent", "to", "dry_run", "request_id", "expect_turn")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECT_TURN_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    to: _types_pb2.Residency
    dry_run: bool
    request_id: str
    expect_turn: int
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., to: _Optional[_Union[_types_pb2.Residency, str]] = ..., dry_run: bool = ..., request_id: _Optional[str] = ..., expect_turn: _Optional[int] = ...) -> None: ...

class EvictAgentResponse(_message.Message):
    __slots__ = ("ram_bytes", "disk_bytes")
    RAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    ram_bytes: int
    disk_bytes: int
    def __init__(self, ram_bytes: _Optional[int] = ..., disk_bytes: _Optional[int] = ...) -> None: ...

class PrefetchAgentRequest(_message.Message):
    __slots__ = ("agent", "request_id")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    request_id: str
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class PrefetchAgentResponse(_message.Message):
    __slots__ = ("hot_tokens", "warm_tokens", "recomputed_tokens", "bytes_read")
    HOT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    WARM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BYTES_READ_FIELD_NUMBER: _ClassVar[int]
    hot_tokens: int
    warm_tokens: int
    recomputed_tokens: int
    bytes_read: int
    def __init__(self, hot_tokens: _Optional[int] = ..., warm_tokens: _Optional[int] = ..., recomputed_tokens: _Optional[int] = ..., bytes_read: _Optional[int] = ...) -> None: ...

class ExportAgentRequest(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ...) -> None: ...

class ExportAgentResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class ImportAgentRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: ImportHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[ImportHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class ImportHeader(_message.Message):
    __slots__ = ("agent", "text_only", "request_id")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    TEXT_ONLY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    text_only: bool
    request_id: str
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., text_only: bool = ..., request_id: _Optional[str] = ...) -> None: ...

class ImportAgentResponse(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: Agent
    def __init__(self, agent: _Optional[_Union[Agent, _Mapping]] = ...) -> None: ...

from agentmem.v1 import types_pb2 as _types_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Agent(_message.Message):
    __slots__ = ("ref", "id", "turn", "tokens", "residency", "model_matches", "state_id", "create_time", "last_used_time", "disk_bytes", "ram_bytes", "exactness", "blocks")
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
    def __init__(self, ref: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., id: _Optional[str] = ..., turn: _Optional[int] = ..., tokens: _Optional[int] = ..., residency: _Optional[_Union[_types_pb2.Residency, str]] = ..., model_matches: bool = ..., state_id: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_used_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., disk_bytes: _Optional[int] = ..., ram_bytes: _Optional[int] = ..., exactness: _Optional[_Union[_types_pb2.Exactness, str]] = ..., blocks: _Optional[_Iterable[_Union[BlockUse, _Mapping]]] = ...) -> None: ...

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
    __slots__ = ("agent", "request_id")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    request_id: str
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("agent", "request_id", "expect_turn")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECT_TURN_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    request_id: str
    expect_turn: int
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., request_id: _Optional[str] = ..., expect_turn: _Optional[int] = ...) -> None: ...

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

from agentmem.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InputMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INPUT_MODE_UNSPECIFIED: _ClassVar[InputMode]
    INPUT_MODE_APPEND: _ClassVar[InputMode]

class OnCancel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_CANCEL_UNSPECIFIED: _ClassVar[OnCancel]
    ON_CANCEL_COMMIT: _ClassVar[OnCancel]
    ON_CANCEL_DISCARD: _ClassVar[OnCancel]

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_DURABLE: _ClassVar[Durability]
    DURABILITY_WRITE_BEHIND: _ClassVar[Durability]
INPUT_MODE_UNSPECIFIED: InputMode
INPUT_MODE_APPEND: InputMode
ON_CANCEL_UNSPECIFIED: OnCancel
ON_CANCEL_COMMIT: OnCancel
ON_CANCEL_DISCARD: OnCancel
DURABILITY_UNSPECIFIED: Durability
DURABILITY_DURABLE: Durability
DURABILITY_WRITE_BEHIND: Durability

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_p", "top_k", "seed", "max_tokens", "stop", "json_schema")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    top_k: int
    seed: int
    max_tokens: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    json_schema: str
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., max_tokens: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., json_schema: _Optional[str] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("agent", "mode", "input", "sampling", "on_cancel", "create", "rebuild", "request_id", "expect_turn", "include_token_ids", "durability", "priority")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    ON_CANCEL_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    REBUILD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECT_TURN_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    mode: InputMode
    input: _types_pb2.Input
    sampling: Sampling
    on_cancel: OnCancel
    create: bool
    rebuild: bool
    request_id: str
    expect_turn: int
    include_token_ids: bool
    durability: Durability
    priority: _types_pb2.Priority
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., mode: _Optional[_Union[InputMode, str]] = ..., input: _Optional[_Union[_types_pb2.Input, _Mapping]] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., on_cancel: _Optional[_Union[OnCancel, str]] = ..., create: bool = ..., rebuild: bool = ..., request_id: _Optional[str] = ..., expect_turn: _Optional[int] = ..., include_token_ids: bool = ..., durability: _Optional[_Union[Durability, str]] = ..., priority: _Optional[_Union[_types_pb2.Priority, str]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("started", "delta", "finished")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    started: Started
    delta: Delta
    finished: Finished
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., delta: _Optional[_Union[Delta, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("turn", "queue_position", "plan", "request_id")
    TURN_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    turn: int
    queue_position: int
    plan: ReusePlan
    request_id: str
    def __init__(self, turn: _Optional[int] = ..., queue_position: _Optional[int] = ..., plan: _Optional[_Union[ReusePlan, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class ReusePlan(_message.Message):
    __slots__ = ("remembered_tokens", "hot_tokens", "warm_tokens", "cold_tokens")
    REMEMBERED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    HOT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    WARM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COLD_TOKENS_FIELD_NUMBER: _ClassVar[int]
    remembered_tokens: int
    hot_tokens: int
    warm_tokens: int
    cold_tokens: int
    def __init__(self, remembered_tokens: _Optional[int] = ..., hot_tokens: _Optional[int] = ..., warm_tokens: _Optional[int] = ..., cold_tokens: _Optional[int] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("text", "token_ids")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    text: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, text: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("turn", "finish_reason", "stop_sequence", "usage", "timings", "durable", "warnings", "seed", "repeated_result")
    TURN_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    STOP_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPEATED_RESULT_FIELD_NUMBER: _ClassVar[int]
    turn: int
    finish_reason: _types_pb2.FinishReason
    stop_sequence: str
    usage: _types_pb2.Usage
    timings: _types_pb2.Timings
    durable: bool
    warnings: _containers.RepeatedCompositeFieldContainer[_types_pb2.Warning]
    seed: int
    repeated_result: bool
    def __init__(self, turn: _Optional[int] = ..., finish_reason: _Optional[_Union[_types_pb2.FinishReason, str]] = ..., stop_sequence: _Optional[str] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ..., durable: bool = ..., warnings: _Optional[_Iterable[_Union[_types_pb2.Warning, _Mapping]]] = ..., seed: _Optional[int] = ..., repeated_result: bool = ...) -> None: ...

class AppendRequest(_message.Message):
    __slots__ = ("agent", "input", "create", "rebuild", "request_id", "expect_turn", "on_cancel", "durability", "priority")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    REBUILD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECT_TURN_FIELD_NUMBER: _ClassVar[int]
    ON_CANCEL_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    input: _types_pb2.Input
    create: bool
    rebuild: bool
    request_id: str
    expect_turn: int
    on_cancel: OnCancel
    durability: Durability
    priority: _types_pb2.Priority
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., input: _Optional[_Union[_types_pb2.Input, _Mapping]] = ..., create: bool = ..., rebuild: bool = ..., request_id: _Optional[str] = ..., expect_turn: _Optional[int] = ..., on_cancel: _Optional[_Union[OnCancel, str]] = ..., durability: _Optional[_Union[Durability, str]] = ..., priority: _Optional[_Union[_types_pb2.Priority, str]] = ...) -> None: ...

class AppendResponse(_message.Message):
    __slots__ = ("turn", "usage", "timings", "durable", "warnings", "repeated_result")
    TURN_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    REPEATED_RESULT_FIELD_NUMBER: _ClassVar[int]
    turn: int
    usage: _types_pb2.Usage
    timings: _types_pb2.Timings
    durable: bool
    warnings: _containers.RepeatedCompositeFieldContainer[_types_pb2.Warning]
    repeated_result: bool
    def __init__(self, turn: _Optional[int] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ..., durable: bool = ..., warnings: _Optional[_Iterable[_Union[_types_pb2.Warning, _Mapping]]] = ..., repeated_result: bool = ...) -> None: ...

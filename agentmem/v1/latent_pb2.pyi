from agentmem.v1 import generation_pb2 as _generation_pb2
from agentmem.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Projection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROJECTION_UNSPECIFIED: _ClassVar[Projection]
    PROJECTION_IDENTITY: _ClassVar[Projection]
    PROJECTION_RIDGE: _ClassVar[Projection]
    PROJECTION_SOFTMAX: _ClassVar[Projection]

class Reposition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPOSITION_UNSPECIFIED: _ClassVar[Reposition]
    REPOSITION_EXACT: _ClassVar[Reposition]
    REPOSITION_REPOSITION: _ClassVar[Reposition]
    REPOSITION_BLEND: _ClassVar[Reposition]

class PartOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PART_ORDER_UNSPECIFIED: _ClassVar[PartOrder]
    PART_ORDER_GIVEN: _ClassVar[PartOrder]
    PART_ORDER_CANONICAL: _ClassVar[PartOrder]
PROJECTION_UNSPECIFIED: Projection
PROJECTION_IDENTITY: Projection
PROJECTION_RIDGE: Projection
PROJECTION_SOFTMAX: Projection
REPOSITION_UNSPECIFIED: Reposition
REPOSITION_EXACT: Reposition
REPOSITION_REPOSITION: Reposition
REPOSITION_BLEND: Reposition
PART_ORDER_UNSPECIFIED: PartOrder
PART_ORDER_GIVEN: PartOrder
PART_ORDER_CANONICAL: PartOrder

class ThinkRequest(_message.Message):
    __slots__ = ("agent", "input", "steps", "projection", "create", "rebuild", "request_id", "expect_turn", "on_cancel", "durability", "priority")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    PROJECTION_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    REBUILD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECT_TURN_FIELD_NUMBER: _ClassVar[int]
    ON_CANCEL_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    input: _types_pb2.Input
    steps: int
    projection: Projection
    create: bool
    rebuild: bool
    request_id: str
    expect_turn: int
    on_cancel: _generation_pb2.OnCancel
    durability: _generation_pb2.Durability
    priority: _types_pb2.Priority
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., input: _Optional[_Union[_types_pb2.Input, _Mapping]] = ..., steps: _Optional[int] = ..., projection: _Optional[_Union[Projection, str]] = ..., create: bool = ..., rebuild: bool = ..., request_id: _Optional[str] = ..., expect_turn: _Optional[int] = ..., on_cancel: _Optional[_Union[_generation_pb2.OnCancel, str]] = ..., durability: _Optional[_Union[_generation_pb2.Durability, str]] = ..., priority: _Optional[_Union[_types_pb2.Priority, str]] = ...) -> None: ...

class ThinkResponse(_message.Message):
    __slots__ = ("turn", "usage", "timings", "durable", "warnings", "repeated_result", "finish_reason")
    TURN_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    REPEATED_RESULT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    turn: int
    usage: _types_pb2.Usage
    timings: _types_pb2.Timings
    durable: bool
    warnings: _containers.RepeatedCompositeFieldContainer[_types_pb2.Warning]
    repeated_result: bool
    finish_reason: _types_pb2.FinishReason
    def __init__(self, turn: _Optional[int] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ..., durable: bool = ..., warnings: _Optional[_Iterable[_Union[_types_pb2.Warning, _Mapping]]] = ..., repeated_result: bool = ..., finish_reason: _Optional[_Union[_types_pb2.FinishReason, str]] = ...) -> None: ...

class Slice(_message.Message):
    __slots__ = ("agent", "turn", "start", "end")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    agent: str
    turn: int
    start: int
    end: int
    def __init__(self, agent: _Optional[str] = ..., turn: _Optional[int] = ..., start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class SpliceRequest(_message.Message):
    __slots__ = ("agent", "parts", "reposition", "order", "ratio", "check_layer", "create", "rebuild", "request_id", "expect_turn", "durability", "priority")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    REPOSITION_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    RATIO_FIELD_NUMBER: _ClassVar[int]
    CHECK_LAYER_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    REBUILD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECT_TURN_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    parts: _containers.RepeatedCompositeFieldContainer[Slice]
    reposition: Reposition
    order: PartOrder
    ratio: float
    check_layer: int
    create: bool
    rebuild: bool
    request_id: str
    expect_turn: int
    durability: _generation_pb2.Durability
    priority: _types_pb2.Priority
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[Slice, _Mapping]]] = ..., reposition: _Optional[_Union[Reposition, str]] = ..., order: _Optional[_Union[PartOrder, str]] = ..., ratio: _Optional[float] = ..., check_layer: _Optional[int] = ..., create: bool = ..., rebuild: bool = ..., request_id: _Optional[str] = ..., expect_turn: _Optional[int] = ..., durability: _Optional[_Union[_generation_pb2.Durability, str]] = ..., priority: _Optional[_Union[_types_pb2.Priority, str]] = ...) -> None: ...

class SpliceResponse(_message.Message):
    __slots__ = ("turn", "usage", "timings", "durable", "warnings", "repeated_result", "parts")
    TURN_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    REPEATED_RESULT_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    turn: int
    usage: _types_pb2.Usage
    timings: _types_pb2.Timings
    durable: bool
    warnings: _containers.RepeatedCompositeFieldContainer[_types_pb2.Warning]
    repeated_result: bool
    parts: _containers.RepeatedCompositeFieldContainer[SplicedPart]
    def __init__(self, turn: _Optional[int] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ..., durable: bool = ..., warnings: _Optional[_Iterable[_Union[_types_pb2.Warning, _Mapping]]] = ..., repeated_result: bool = ..., parts: _Optional[_Iterable[_Union[SplicedPart, _Mapping]]] = ...) -> None: ...

class SplicedPart(_message.Message):
    __slots__ = ("part", "start")
    PART_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    part: int
    start: int
    def __init__(self, part: _Optional[int] = ..., start: _Optional[int] = ...) -> None: ...

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BlockKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BLOCK_KIND_UNSPECIFIED: _ClassVar[BlockKind]
    BLOCK_KIND_TEXT: _ClassVar[BlockKind]
    BLOCK_KIND_LATENT: _ClassVar[BlockKind]
    BLOCK_KIND_SPLICE: _ClassVar[BlockKind]
    BLOCK_KIND_WINDOW: _ClassVar[BlockKind]
    BLOCK_KIND_SNAPSHOT: _ClassVar[BlockKind]

class Exactness(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXACTNESS_UNSPECIFIED: _ClassVar[Exactness]
    EXACTNESS_EXACT: _ClassVar[Exactness]
    EXACTNESS_REPOSITIONED: _ClassVar[Exactness]
    EXACTNESS_BLENDED: _ClassVar[Exactness]
    EXACTNESS_LATENT: _ClassVar[Exactness]

class Residency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESIDENCY_UNSPECIFIED: _ClassVar[Residency]
    RESIDENCY_HOT: _ClassVar[Residency]
    RESIDENCY_WARM: _ClassVar[Residency]
    RESIDENCY_COLD: _ClassVar[Residency]

class Share(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SHARE_UNSPECIFIED: _ClassVar[Share]
    SHARE_NAMESPACE: _ClassVar[Share]
    SHARE_PRIVATE: _ClassVar[Share]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_LOW: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_HIGH: _ClassVar[Priority]

class TurnKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TURN_KIND_UNSPECIFIED: _ClassVar[TurnKind]
    TURN_KIND_APPEND: _ClassVar[TurnKind]
    TURN_KIND_GENERATE: _ClassVar[TurnKind]
    TURN_KIND_THINK: _ClassVar[TurnKind]
    TURN_KIND_SPLICE: _ClassVar[TurnKind]
    TURN_KIND_REBUILD: _ClassVar[TurnKind]
    TURN_KIND_FORK: _ClassVar[TurnKind]
    TURN_KIND_REWIND: _ClassVar[TurnKind]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_STOP_SEQUENCE: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_CANCELLED: _ClassVar[FinishReason]
    FINISH_REASON_DEADLINE: _ClassVar[FinishReason]
BLOCK_KIND_UNSPECIFIED: BlockKind
BLOCK_KIND_TEXT: BlockKind
BLOCK_KIND_LATENT: BlockKind
BLOCK_KIND_SPLICE: BlockKind
BLOCK_KIND_WINDOW: BlockKind
BLOCK_KIND_SNAPSHOT: BlockKind
EXACTNESS_UNSPECIFIED: Exactness
EXACTNESS_EXACT: Exactness
EXACTNESS_REPOSITIONED: Exactness
EXACTNESS_BLENDED: Exactness
EXACTNESS_LATENT: Exactness
RESIDENCY_UNSPECIFIED: Residency
RESIDENCY_HOT: Residency
RESIDENCY_WARM: Residency
RESIDENCY_COLD: Residency
SHARE_UNSPECIFIED: Share
SHARE_NAMESPACE: Share
SHARE_PRIVATE: Share
PRIORITY_UNSPECIFIED: Priority
PRIORITY_LOW: Priority
PRIORITY_NORMAL: Priority
PRIORITY_HIGH: Priority
TURN_KIND_UNSPECIFIED: TurnKind
TURN_KIND_APPEND: TurnKind
TURN_KIND_GENERATE: TurnKind
TURN_KIND_THINK: TurnKind
TURN_KIND_SPLICE: TurnKind
TURN_KIND_REBUILD: TurnKind
TURN_KIND_FORK: TurnKind
TURN_KIND_REWIND: TurnKind
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_STOP_SEQUENCE: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_CANCELLED: FinishReason
FINISH_REASON_DEADLINE: FinishReason

class AgentRef(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("role", "parts", "tool_calls", "tool_call_id", "reasoning")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_ID_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    role: str
    parts: _containers.RepeatedCompositeFieldContainer[ContentPart]
    tool_calls: _containers.RepeatedCompositeFieldContainer[ToolCall]
    tool_call_id: str
    reasoning: str
    def __init__(self, role: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[ContentPart, _Mapping]]] = ..., tool_calls: _Optional[_Iterable[_Union[ToolCall, _Mapping]]] = ..., tool_call_id: _Optional[str] = ..., reasoning: _Optional[str] = ...) -> None: ...

class ContentPart(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class ToolCall(_message.Message):
    __slots__ = ("id", "name", "arguments")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    arguments: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., arguments: _Optional[str] = ...) -> None: ...

class ChatMessages(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ...) -> None: ...

class TokenIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("chat", "text", "token_ids")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    chat: ChatMessages
    text: str
    token_ids: TokenIds
    def __init__(self, chat: _Optional[_Union[ChatMessages, _Mapping]] = ..., text: _Optional[str] = ..., token_ids: _Optional[_Union[TokenIds, _Mapping]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "reused_hot_tokens", "reused_warm_tokens", "recomputed_tokens", "prefill_tokens", "generated_tokens", "latent_steps", "bytes_read", "bytes_written", "exactness", "misses")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REUSED_HOT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REUSED_WARM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LATENT_STEPS_FIELD_NUMBER: _ClassVar[int]
    BYTES_READ_FIELD_NUMBER: _ClassVar[int]
    BYTES_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    EXACTNESS_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    reused_hot_tokens: int
    reused_warm_tokens: int
    recomputed_tokens: int
    prefill_tokens: int
    generated_tokens: int
    latent_steps: int
    bytes_read: int
    bytes_written: int
    exactness: Exactness
    misses: _containers.RepeatedCompositeFieldContainer[PrefixMiss]
    def __init__(self, prompt_tokens: _Optional[int] = ..., reused_hot_tokens: _Optional[int] = ..., reused_warm_tokens: _Optional[int] = ..., recomputed_tokens: _Optional[int] = ..., prefill_tokens: _Optional[int] = ..., generated_tokens: _Optional[int] = ..., latent_steps: _Optional[int] = ..., bytes_read: _Optional[int] = ..., bytes_written: _Optional[int] = ..., exactness: _Optional[_Union[Exactness, str]] = ..., misses: _Optional[_Iterable[_Union[PrefixMiss, _Mapping]]] = ...) -> None: ...

class PrefixMiss(_message.Message):
    __slots__ = ("position", "tokens", "reason")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    position: int
    tokens: int
    reason: str
    def __init__(self, position: _Optional[int] = ..., tokens: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue_s", "restore_s", "prefill_s", "ttft_s", "decode_s", "commit_s", "restore_busy_s")
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    RESTORE_S_FIELD_NUMBER: _ClassVar[int]
    PREFILL_S_FIELD_NUMBER: _ClassVar[int]
    TTFT_S_FIELD_NUMBER: _ClassVar[int]
    DECODE_S_FIELD_NUMBER: _ClassVar[int]
    COMMIT_S_FIELD_NUMBER: _ClassVar[int]
    RESTORE_BUSY_S_FIELD_NUMBER: _ClassVar[int]
    queue_s: float
    restore_s: float
    prefill_s: float
    ttft_s: float
    decode_s: float
    commit_s: float
    restore_busy_s: float
    def __init__(self, queue_s: _Optional[float] = ..., restore_s: _Optional[float] = ..., prefill_s: _Optional[float] = ..., ttft_s: _Optional[float] = ..., decode_s: _Optional[float] = ..., commit_s: _Optional[float] = ..., restore_busy_s: _Optional[float] = ...) -> None: ...

class Warning(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Turn(_message.Message):
    __slots__ = ("number", "kind", "start", "end", "create_time", "finish_reason", "exactness", "request_id", "messages")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    EXACTNESS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    number: int
    kind: TurnKind
    start: int
    end: int
    create_time: _timestamp_pb2.Timestamp
    finish_reason: FinishReason
    exactness: Exactness
    request_id: str
    messages: _containers.RepeatedCompositeFieldContainer[TurnMessage]
    def __init__(self, number: _Optional[int] = ..., kind: _Optional[_Union[TurnKind, str]] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., exactness: _Optional[_Union[Exactness, str]] = ..., request_id: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[TurnMessage, _Mapping]]] = ...) -> None: ...

class TurnMessage(_message.Message):
    __slots__ = ("message", "start", "end")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    message: ChatMessage
    start: int
    end: int
    def __init__(self, message: _Optional[_Union[ChatMessage, _Mapping]] = ..., start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

from agentmem.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Primitive(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIMITIVE_UNSPECIFIED: _ClassVar[Primitive]
    PRIMITIVE_ANSWER: _ClassVar[Primitive]
    PRIMITIVE_REVIEW: _ClassVar[Primitive]
    PRIMITIVE_VOTE: _ClassVar[Primitive]
    PRIMITIVE_PLAN_EXECUTE: _ClassVar[Primitive]

class Medium(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEDIUM_UNSPECIFIED: _ClassVar[Medium]
    MEDIUM_LATENT: _ClassVar[Medium]
    MEDIUM_TEXT: _ClassVar[Medium]
    MEDIUM_BOTH: _ClassVar[Medium]

class PlanSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLAN_SOURCE_UNSPECIFIED: _ClassVar[PlanSource]
    PLAN_SOURCE_GIVEN: _ClassVar[PlanSource]
    PLAN_SOURCE_POOL: _ClassVar[PlanSource]
    PLAN_SOURCE_MODEL: _ClassVar[PlanSource]
    PLAN_SOURCE_DEFAULT: _ClassVar[PlanSource]

class RunActivity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_ACTIVITY_UNSPECIFIED: _ClassVar[RunActivity]
    RUN_ACTIVITY_READING: _ClassVar[RunActivity]
    RUN_ACTIVITY_THINKING: _ClassVar[RunActivity]
    RUN_ACTIVITY_WRITING: _ClassVar[RunActivity]
PRIMITIVE_UNSPECIFIED: Primitive
PRIMITIVE_ANSWER: Primitive
PRIMITIVE_REVIEW: Primitive
PRIMITIVE_VOTE: Primitive
PRIMITIVE_PLAN_EXECUTE: Primitive
MEDIUM_UNSPECIFIED: Medium
MEDIUM_LATENT: Medium
MEDIUM_TEXT: Medium
MEDIUM_BOTH: Medium
PLAN_SOURCE_UNSPECIFIED: PlanSource
PLAN_SOURCE_GIVEN: PlanSource
PLAN_SOURCE_POOL: PlanSource
PLAN_SOURCE_MODEL: PlanSource
PLAN_SOURCE_DEFAULT: PlanSource
RUN_ACTIVITY_UNSPECIFIED: RunActivity
RUN_ACTIVITY_READING: RunActivity
RUN_ACTIVITY_THINKING: RunActivity
RUN_ACTIVITY_WRITING: RunActivity

class PoolEntry(_message.Message):
    __slots__ = ("id", "title", "description", "tags", "plan", "why", "source", "outcomes", "mean_score", "similarity")
    ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    MEAN_SCORE_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    title: str
    description: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    plan: str
    why: str
    source: str
    outcomes: int
    mean_score: float
    similarity: float
    def __init__(self, id: _Optional[str] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., plan: _Optional[str] = ..., why: _Optional[str] = ..., source: _Optional[str] = ..., outcomes: _Optional[int] = ..., mean_score: _Optional[float] = ..., similarity: _Optional[float] = ...) -> None: ...

class ListPoolRequest(_message.Message):
    __slots__ = ("query", "page_size", "page_token")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    query: str
    page_size: int
    page_token: str
    def __init__(self, query: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPoolResponse(_message.Message):
    __slots__ = ("entries", "next_page_token")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[PoolEntry]
    next_page_token: str
    def __init__(self, entries: _Optional[_Iterable[_Union[PoolEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RecordOutcomeRequest(_message.Message):
    __slots__ = ("query", "plan", "score", "entry_id", "request_id")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    query: str
    plan: str
    score: float
    entry_id: str
    request_id: str
    def __init__(self, query: _Optional[str] = ..., plan: _Optional[str] = ..., score: _Optional[float] = ..., entry_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RecordOutcomeResponse(_message.Message):
    __slots__ = ("entry", "repeated_result")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    REPEATED_RESULT_FIELD_NUMBER: _ClassVar[int]
    entry: PoolEntry
    repeated_result: bool
    def __init__(self, entry: _Optional[_Union[PoolEntry, _Mapping]] = ..., repeated_result: bool = ...) -> None: ...

class ForgetOutcomeRequest(_message.Message):
    __slots__ = ("entry_id",)
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    entry_id: str
    def __init__(self, entry_id: _Optional[str] = ...) -> None: ...

class ForgetOutcomeResponse(_message.Message):
    __slots__ = ("forgotten",)
    FORGOTTEN_FIELD_NUMBER: _ClassVar[int]
    forgotten: bool
    def __init__(self, forgotten: bool = ...) -> None: ...

class ExportPoolRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExportPoolResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class ImportPoolRequest(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class ImportPoolResponse(_message.Message):
    __slots__ = ("changed",)
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    changed: int
    def __init__(self, changed: _Optional[int] = ...) -> None: ...

class RunRequest(_message.Message):
    __slots__ = ("namespace", "query", "primitive", "medium", "agent", "context", "max_tokens", "latent_steps", "temperature", "rounds", "solvers", "executors", "seed", "priority", "plan", "compose")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PRIMITIVE_FIELD_NUMBER: _ClassVar[int]
    MEDIUM_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LATENT_STEPS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    SOLVERS_FIELD_NUMBER: _ClassVar[int]
    EXECUTORS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    COMPOSE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    query: str
    primitive: Primitive
    medium: Medium
    agent: str
    context: str
    max_tokens: int
    latent_steps: int
    temperature: float
    rounds: int
    solvers: int
    executors: int
    seed: int
    priority: _types_pb2.Priority
    plan: str
    compose: bool
    def __init__(self, namespace: _Optional[str] = ..., query: _Optional[str] = ..., primitive: _Optional[_Union[Primitive, str]] = ..., medium: _Optional[_Union[Medium, str]] = ..., agent: _Optional[str] = ..., context: _Optional[str] = ..., max_tokens: _Optional[int] = ..., latent_steps: _Optional[int] = ..., temperature: _Optional[float] = ..., rounds: _Optional[int] = ..., solvers: _Optional[int] = ..., executors: _Optional[int] = ..., seed: _Optional[int] = ..., priority: _Optional[_Union[_types_pb2.Priority, str]] = ..., plan: _Optional[str] = ..., compose: bool = ...) -> None: ...

class RunResponse(_message.Message):
    __slots__ = ("started", "progress", "finished")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    started: RunStarted
    progress: RunProgress
    finished: RunFinished
    def __init__(self, started: _Optional[_Union[RunStarted, _Mapping]] = ..., progress: _Optional[_Union[RunProgress, _Mapping]] = ..., finished: _Optional[_Union[RunFinished, _Mapping]] = ...) -> None: ...

class RunStarted(_message.Message):
    __slots__ = ("plan", "why", "source", "entry_id", "nearest", "fallback")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    NEAREST_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    plan: str
    why: str
    source: PlanSource
    entry_id: str
    nearest: _containers.RepeatedCompositeFieldContainer[PoolEntry]
    fallback: str
    def __init__(self, plan: _Optional[str] = ..., why: _Optional[str] = ..., source: _Optional[_Union[PlanSource, str]] = ..., entry_id: _Optional[str] = ..., nearest: _Optional[_Iterable[_Union[PoolEntry, _Mapping]]] = ..., fallback: _Optional[str] = ...) -> None: ...

class RunProgress(_message.Message):
    __slots__ = ("node", "role", "agent", "activity", "text")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    node: str
    role: str
    agent: str
    activity: RunActivity
    text: str
    def __init__(self, node: _Optional[str] = ..., role: _Optional[str] = ..., agent: _Optional[str] = ..., activity: _Optional[_Union[RunActivity, str]] = ..., text: _Optional[str] = ...) -> None: ...

class RoleUsage(_message.Message):
    __slots__ = ("node", "role", "agents", "generated_tokens", "latent_steps", "prefill_tokens", "saved_tokens", "seconds", "bytes_read", "bytes_written", "pte")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LATENT_STEPS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAVED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_READ_FIELD_NUMBER: _ClassVar[int]
    BYTES_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    PTE_FIELD_NUMBER: _ClassVar[int]
    node: str
    role: str
    agents: int
    generated_tokens: int
    latent_steps: int
    prefill_tokens: int
    saved_tokens: int
    seconds: float
    bytes_read: int
    bytes_written: int
    pte: float
    def __init__(self, node: _Optional[str] = ..., role: _Optional[str] = ..., agents: _Optional[int] = ..., generated_tokens: _Optional[int] = ..., latent_steps: _Optional[int] = ..., prefill_tokens: _Optional[int] = ..., saved_tokens: _Optional[int] = ..., seconds: _Optional[float] = ..., bytes_read: _Optional[int] = ..., bytes_written: _Optional[int] = ..., pte: _Optional[float] = ...) -> None: ...

class RunFinished(_message.Message):
    __slots__ = ("text", "exactness", "roles", "notes", "seconds", "seed", "plan", "entry_id")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EXACTNESS_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    text: str
    exactness: _types_pb2.Exactness
    roles: _containers.RepeatedCompositeFieldContainer[RoleUsage]
    notes: _containers.RepeatedScalarFieldContainer[str]
    seconds: float
    seed: int
    plan: str
    entry_id: str
    def __init__(self, text: _Optional[str] = ..., exactness: _Optional[_Union[_types_pb2.Exactness, str]] = ..., roles: _Optional[_Iterable[_Union[RoleUsage, _Mapping]]] = ..., notes: _Optional[_Iterable[str]] = ..., seconds: _Optional[float] = ..., seed: _Optional[int] = ..., plan: _Optional[str] = ..., entry_id: _Optional[str] = ...) -> None: ...

from agentmem.v1 import types_pb2 as _types_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RequestPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REQUEST_PHASE_UNSPECIFIED: _ClassVar[RequestPhase]
    REQUEST_PHASE_QUEUED: _ClassVar[RequestPhase]
    REQUEST_PHASE_WAITING_FOR_ROOM: _ClassVar[RequestPhase]
    REQUEST_PHASE_RESTORING: _ClassVar[RequestPhase]
    REQUEST_PHASE_PREFILL: _ClassVar[RequestPhase]
    REQUEST_PHASE_DECODING: _ClassVar[RequestPhase]
    REQUEST_PHASE_COMMITTING: _ClassVar[RequestPhase]
    REQUEST_PHASE_SET_ASIDE: _ClassVar[RequestPhase]
REQUEST_PHASE_UNSPECIFIED: RequestPhase
REQUEST_PHASE_QUEUED: RequestPhase
REQUEST_PHASE_WAITING_FOR_ROOM: RequestPhase
REQUEST_PHASE_RESTORING: RequestPhase
REQUEST_PHASE_PREFILL: RequestPhase
REQUEST_PHASE_DECODING: RequestPhase
REQUEST_PHASE_COMMITTING: RequestPhase
REQUEST_PHASE_SET_ASIDE: RequestPhase

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("version", "phase", "progress", "message", "model", "state_dir", "uptime", "pid")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATE_DIR_FIELD_NUMBER: _ClassVar[int]
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    version: str
    phase: str
    progress: float
    message: str
    model: ModelInfo
    state_dir: str
    uptime: _duration_pb2.Duration
    pid: int
    def __init__(self, version: _Optional[str] = ..., phase: _Optional[str] = ..., progress: _Optional[float] = ..., message: _Optional[str] = ..., model: _Optional[_Union[ModelInfo, _Mapping]] = ..., state_dir: _Optional[str] = ..., uptime: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., pid: _Optional[int] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "architecture", "state_id", "tokenizer_id", "context_limit", "numerics", "device", "compute_dtype", "layers", "bytes", "bytes_per_token", "prefill_path", "logit_tolerance")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    STATE_ID_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_ID_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_DTYPE_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PREFILL_PATH_FIELD_NUMBER: _ClassVar[int]
    LOGIT_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    architecture: str
    state_id: str
    tokenizer_id: str
    context_limit: int
    numerics: str
    device: str
    compute_dtype: str
    layers: _containers.RepeatedCompositeFieldContainer[LayerInfo]
    bytes: int
    bytes_per_token: int
    prefill_path: str
    logit_tolerance: float
    def __init__(self, name: _Optional[str] = ..., architecture: _Optional[str] = ..., state_id: _Optional[str] = ..., tokenizer_id: _Optional[str] = ..., context_limit: _Optional[int] = ..., numerics: _Optional[str] = ..., device: _Optional[str] = ..., compute_dtype: _Optional[str] = ..., layers: _Optional[_Iterable[_Union[LayerInfo, _Mapping]]] = ..., bytes: _Optional[int] = ..., bytes_per_token: _Optional[int] = ..., prefill_path: _Optional[str] = ..., logit_tolerance: _Optional[float] = ...) -> None: ...

class LayerInfo(_message.Message):
    __slots__ = ("first", "last", "kind", "kv_heads", "head_dim", "bits", "group_size", "window")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    KV_HEADS_FIELD_NUMBER: _ClassVar[int]
    HEAD_DIM_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    GROUP_SIZE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    kind: str
    kv_heads: int
    head_dim: int
    bits: int
    group_size: int
    window: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ..., kind: _Optional[str] = ..., kv_heads: _Optional[int] = ..., head_dim: _Optional[int] = ..., bits: _Optional[int] = ..., group_size: _Optional[int] = ..., window: _Optional[int] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("running", "queued", "hot_agents", "agents", "hot_bytes", "disk_bytes", "requests_total", "errors_total", "prefill_tokens_total", "generated_tokens_total", "reused_hot_tokens_total", "reused_warm_tokens_total", "recomputed_tokens_total", "quarantined_blocks_total", "mlx_active_bytes", "mlx_peak_bytes", "unsaved_turns", "unsaved_bytes", "oldest_unsaved_s", "ram_budget_bytes", "disk_budget_bytes", "steps", "set_aside_total", "restores_total", "restore_s_total", "restore_hidden_s_total", "queue_limit", "max_batch")
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    HOT_AGENTS_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    HOT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    ERRORS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    PREFILL_TOKENS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    REUSED_HOT_TOKENS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    REUSED_WARM_TOKENS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTED_TOKENS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_BLOCKS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    MLX_ACTIVE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MLX_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    UNSAVED_TURNS_FIELD_NUMBER: _ClassVar[int]
    UNSAVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_UNSAVED_S_FIELD_NUMBER: _ClassVar[int]
    RAM_BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SET_ASIDE_TOTAL_FIELD_NUMBER: _ClassVar[int]
    RESTORES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    RESTORE_S_TOTAL_FIELD_NUMBER: _ClassVar[int]
    RESTORE_HIDDEN_S_TOTAL_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_FIELD_NUMBER: _ClassVar[int]
    running: int
    queued: int
    hot_agents: int
    agents: int
    hot_bytes: int
    disk_bytes: int
    requests_total: int
    errors_total: int
    prefill_tokens_total: int
    generated_tokens_total: int
    reused_hot_tokens_total: int
    reused_warm_tokens_total: int
    recomputed_tokens_total: int
    quarantined_blocks_total: int
    mlx_active_bytes: int
    mlx_peak_bytes: int
    unsaved_turns: int
    unsaved_bytes: int
    oldest_unsaved_s: float
    ram_budget_bytes: int
    disk_budget_bytes: int
    steps: StepTimes
    set_aside_total: int
    restores_total: int
    restore_s_total: float
    restore_hidden_s_total: float
    queue_limit: int
    max_batch: int
    def __init__(self, running: _Optional[int] = ..., queued: _Optional[int] = ..., hot_agents: _Optional[int] = ..., agents: _Optional[int] = ..., hot_bytes: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., requests_total: _Optional[int] = ..., errors_total: _Optional[int] = ..., prefill_tokens_total: _Optional[int] = ..., generated_tokens_total: _Optional[int] = ..., reused_hot_tokens_total: _Optional[int] = ..., reused_warm_tokens_total: _Optional[int] = ..., recomputed_tokens_total: _Optional[int] = ..., quarantined_blocks_total: _Optional[int] = ..., mlx_active_bytes: _Optional[int] = ..., mlx_peak_bytes: _Optional[int] = ..., unsaved_turns: _Optional[int] = ..., unsaved_bytes: _Optional[int] = ..., oldest_unsaved_s: _Optional[float] = ..., ram_budget_bytes: _Optional[int] = ..., disk_budget_bytes: _Optional[int] = ..., steps: _Optional[_Union[StepTimes, _Mapping]] = ..., set_aside_total: _Optional[int] = ..., restores_total: _Optional[int] = ..., restore_s_total: _Optional[float] = ..., restore_hidden_s_total: _Optional[float] = ..., queue_limit: _Optional[int] = ..., max_batch: _Optional[int] = ...) -> None: ...

class StepTimes(_message.Message):
    __slots__ = ("schedule_s", "graph_s", "device_s", "sample_s", "stream_s", "prefill_s", "steps", "tokens")
    SCHEDULE_S_FIELD_NUMBER: _ClassVar[int]
    GRAPH_S_FIELD_NUMBER: _ClassVar[int]
    DEVICE_S_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_S_FIELD_NUMBER: _ClassVar[int]
    STREAM_S_FIELD_NUMBER: _ClassVar[int]
    PREFILL_S_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    schedule_s: float
    graph_s: float
    device_s: float
    sample_s: float
    stream_s: float
    prefill_s: float
    steps: int
    tokens: int
    def __init__(self, schedule_s: _Optional[float] = ..., graph_s: _Optional[float] = ..., device_s: _Optional[float] = ..., sample_s: _Optional[float] = ..., stream_s: _Optional[float] = ..., prefill_s: _Optional[float] = ..., steps: _Optional[int] = ..., tokens: _Optional[int] = ...) -> None: ...

class ListRequestsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRequestsResponse(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[RunningRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[RunningRequest, _Mapping]]] = ...) -> None: ...

class RunningRequest(_message.Message):
    __slots__ = ("agent", "request_id", "phase", "queue_position", "priority", "tokens_fed", "tokens_generated", "prompt_tokens", "waited_s", "running_s", "tokens_prefilled")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_GENERATED_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    WAITED_S_FIELD_NUMBER: _ClassVar[int]
    RUNNING_S_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PREFILLED_FIELD_NUMBER: _ClassVar[int]
    agent: _types_pb2.AgentRef
    request_id: str
    phase: RequestPhase
    queue_position: int
    priority: _types_pb2.Priority
    tokens_fed: int
    tokens_generated: int
    prompt_tokens: int
    waited_s: float
    running_s: float
    tokens_prefilled: int
    def __init__(self, agent: _Optional[_Union[_types_pb2.AgentRef, _Mapping]] = ..., request_id: _Optional[str] = ..., phase: _Optional[_Union[RequestPhase, str]] = ..., queue_position: _Optional[int] = ..., priority: _Optional[_Union[_types_pb2.Priority, str]] = ..., tokens_fed: _Optional[int] = ..., tokens_generated: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., waited_s: _Optional[float] = ..., running_s: _Optional[float] = ..., tokens_prefilled: _Optional[int] = ...) -> None: ...

class Namespace(_message.Message):
    __slots__ = ("name", "create_time", "agents")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    create_time: _timestamp_pb2.Timestamp
    agents: int
    def __init__(self, name: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., agents: _Optional[int] = ...) -> None: ...

class CreateNamespaceRequest(_message.Message):
    __slots__ = ("name", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateNamespaceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeleteNamespaceRequest(_message.Message):
    __slots__ = ("name", "request_id", "force", "dry_run")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    force: bool
    dry_run: bool
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., force: bool = ..., dry_run: bool = ...) -> None: ...

class DeleteNamespaceResponse(_message.Message):
    __slots__ = ("agents", "freed_bytes")
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    FREED_BYTES_FIELD_NUMBER: _ClassVar[int]
    agents: int
    freed_bytes: int
    def __init__(self, agents: _Optional[int] = ..., freed_bytes: _Optional[int] = ...) -> None: ...

class ListNamespacesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNamespacesResponse(_message.Message):
    __slots__ = ("namespaces",)
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    namespaces: _containers.RepeatedCompositeFieldContainer[Namespace]
    def __init__(self, namespaces: _Optional[_Iterable[_Union[Namespace, _Mapping]]] = ...) -> None: ...

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

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
    __slots__ = ("running", "queued", "hot_agents", "agents", "hot_bytes", "disk_bytes", "requests_total", "errors_total", "prefill_tokens_total", "generated_tokens_total", "reused_hot_tokens_total", "reused_warm_tokens_total", "recomputed_tokens_total", "quarantined_blocks_total", "mlx_active_bytes", "mlx_peak_bytes", "unsaved_turns", "unsaved_bytes", "oldest_unsaved_s", "ram_budget_bytes", "disk_budget_bytes")
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
    def __init__(self, running: _Optional[int] = ..., queued: _Optional[int] = ..., hot_agents: _Optional[int] = ..., agents: _Optional[int] = ..., hot_bytes: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., requests_total: _Optional[int] = ..., errors_total: _Optional[int] = ..., prefill_tokens_total: _Optional[int] = ..., generated_tokens_total: _Optional[int] = ..., reused_hot_tokens_total: _Optional[int] = ..., reused_warm_tokens_total: _Optional[int] = ..., recomputed_tokens_total: _Optional[int] = ..., quarantined_blocks_total: _Optional[int] = ..., mlx_active_bytes: _Optional[int] = ..., mlx_peak_bytes: _Optional[int] = ..., unsaved_turns: _Optional[int] = ..., unsaved_bytes: _Optional[int] = ..., oldest_unsaved_s: _Optional[float] = ..., ram_budget_bytes: _Optional[int] = ..., disk_budget_bytes: _Optional[int] = ...) -> None: ...

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

class ListNamespacesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNamespacesResponse(_message.Message):
    __slots__ = ("namespaces",)
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    namespaces: _containers.RepeatedCompositeFieldContainer[Namespace]
    def __init__(self, namespaces: _Optional[_Iterable[_Union[Namespace, _Mapping]]] = ...) -> None: ...

"""What calls return about the daemon as a whole: its model, its figures, and what it keeps on disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class LayerInfo:
    """What the layers first..last got. kv_heads to group_size: 0 if recurrent; window: positions seen, 0 if all."""

    first: int
    last: int
    kind: str
    kv_heads: int
    head_dim: int
    bits: int
    group_size: int
    window: int = 0


@dataclass(frozen=True)
class ModelInfo:
    """numerics: "reference" or "fast". prefill_path: "reference" or "fused".

    logit_tolerance: how far logits may be from the reference's, in standard deviations; 0 in reference numerics.
    """

    name: str
    architecture: str
    state_id: str
    tokenizer_id: str
    context_limit: int
    numerics: str
    device: str
    compute_dtype: str
    layers: tuple[LayerInfo, ...]
    bytes: int
    bytes_per_token: int
    prefill_path: str
    logit_tolerance: float


@dataclass(frozen=True)
class Status:
    """phase: LOADING, SERVING, STUCK (one step takes very long; calls wait) or STOPPING.

    progress: 0..1 while loading. model: None until it is known.
    """

    version: str
    phase: str
    progress: float
    message: str
    model: ModelInfo | None
    state_dir: str
    uptime: timedelta
    pid: int


@dataclass(frozen=True)
class StepTimes:
    """Seconds since start that the thread that computes spent, by what on.

    Choosing what runs; of decode steps: building them, waiting for the device, building the choice of tokens, and
    handing text out; prefill: all other work, that on prompts above all. steps: decode steps. tokens: those of theirs.
    """

    schedule_s: float
    graph_s: float
    device_s: float
    sample_s: float
    stream_s: float
    prefill_s: float
    steps: int
    tokens: int


@dataclass(frozen=True)
class Stats:
    """Gauges, and counters since the daemon's start.

    unsaved: turns that were answered and are in RAM only, bytes that wait for the disk, seconds since the oldest turn.
    set_aside_total: how often a request that ran left RAM to others for a while. restore_hidden_s_total: of
    restore_s_total, when others could go on. queue_limit, max_batch: requests that may wait, and run at once.
    """

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
    ram_budget_bytes: int
    disk_budget_bytes: int
    unsaved_turns: int
    unsaved_bytes: int
    oldest_unsaved_s: float
    steps: StepTimes
    set_aside_total: int
    restores_total: int
    restore_s_total: float
    restore_hidden_s_total: float
    queue_limit: int
    max_batch: int


@dataclass(frozen=True)
class RunningRequest:
    """A request that adds a turn, and runs or waits.

    phase: QUEUED, WAITING_FOR_ROOM, RESTORING, PREFILL, DECODING, COMMITTING or SET_ASIDE. queue_position: requests
    that run first. tokens_fed: positions whose state is in RAM, reused ones included. prompt_tokens: of the timeline
    with the prompt, 0 until known. waited_s: from arrival to its beginning; running_s: since then. tokens_prefilled: of
    the prompt, computed so far.
    """

    agent: str
    namespace: str
    request_id: str
    phase: str
    queue_position: int
    priority: str
    tokens_fed: int
    tokens_generated: int
    prompt_tokens: int
    waited_s: float
    running_s: float
    tokens_prefilled: int


@dataclass(frozen=True)
class Namespace:
    """agents: how many it has."""

    name: str
    create_time: datetime | None
    agents: int


@dataclass(frozen=True)
class DeletedNamespace:
    """agents: how many went with it, or would. freed_bytes: on disk."""

    agents: int
    freed_bytes: int


@dataclass(frozen=True)
class Pruned:
    """Something that is gone, or would be. kind: AGENT, TURN, or ORPHAN (files that no agent uses).

    agent, namespace: "" for orphans, and for agents in the answer to a repeat. turn: of an agent its last
    one. freed_bytes: those of all entries add up to what the disk gains.
    """

    kind: str
    agent: str
    namespace: str
    turn: int
    freed_bytes: int


@dataclass(frozen=True)
class AgentDiskUsage:
    """exclusive_bytes: blocks that no other agent uses. shared_bytes: those that others use too, counted in full."""

    agent: str
    exclusive_bytes: int
    shared_bytes: int
    record_bytes: int


@dataclass(frozen=True)
class NamespaceDiskUsage:
    """shared_bytes: blocks that several of its agents use, each counted once."""

    namespace: str
    agents: tuple[AgentDiskUsage, ...]
    shared_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class DiskUsage:
    """orphaned_bytes: files that no agent uses; `prune` removes them. quarantined_bytes: damaged blocks.

    budget_bytes: what the namespaces may take together.
    """

    namespaces: tuple[NamespaceDiskUsage, ...]
    orphaned_bytes: int
    quarantined_bytes: int
    catalog_bytes: int
    total_bytes: int
    budget_bytes: int

    @property
    def budgeted_bytes(self) -> int:
        """What counts against the budget: blocks and records."""
        return sum(namespace.total_bytes for namespace in self.namespaces)


@dataclass(frozen=True)
class Event:
    """Something the daemon did on its own, or refused. kind: for instance DISK_EVICTED; the contract lists them.

    agent, namespace: "" if no agent is concerned. reason: "" if there is none. bytes: freed, or asked for.
    start, end: positions.
    """

    number: int
    time: datetime | None
    kind: str
    agent: str
    namespace: str
    reason: str
    bytes: int
    start: int
    end: int


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was written. kind: NAMESPACE, RECORD, BLOCK, CATALOG or ORPHAN.

    reason: for instance BLOCK_CORRUPT. namespace, agent: "" where nobody can tell. turn: the first affected, or 0.
    """

    kind: str
    reason: str
    namespace: str
    agent: str
    turn: int


@dataclass(frozen=True)
class VerifyReport:
    """What was read, and what was found. repaired: how many of the problems are no more."""

    blocks: int
    records: int
    bytes: int
    problems: tuple[Problem, ...]
    repaired: int

    @property
    def ok(self) -> bool:
        return self.repaired == len(self.problems)

"""How requests, agents and the engine stand. Imports no MLX."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentmem.engine.request import Phase
from agentmem.engine.steptimes import StepTimes
from agentmem.types import AgentRef, Exactness, Priority, Residency, Share


@dataclass(frozen=True)
class RequestView:
    """A request on its way. position: requests that run first, 0 when it runs. Holds nothing that was said.

    tokens_fed: positions of the timeline whose state is in RAM, reused ones included. prompt_tokens: of the timeline
    with the prompt, 0 until known. waited_s: from arrival to its beginning; running_s: since then. tokens_prefilled: of
    the prompt, computed so far.
    """

    ref: AgentRef
    request_id: str
    phase: Phase
    position: int
    priority: Priority
    tokens_fed: int
    tokens_generated: int
    prompt_tokens: int
    waited_s: float
    running_s: float
    tokens_prefilled: int


@dataclass(frozen=True)
class BlockView:
    key: str
    kind: str
    start: int
    used: int
    bytes: int


@dataclass(frozen=True)
class AgentView:
    """An agent as callers see it. Times are Unix seconds, sizes bytes. expires: None for never.

    unsaved_turns: those behind `turn` that were answered, and are in RAM only.
    """

    ref: AgentRef
    id: str
    turn: int
    tokens: int
    residency: Residency
    model_matches: bool
    state_id: str
    created: float
    last_used: float
    disk_bytes: int
    ram_bytes: int
    exactness: Exactness = Exactness.EXACT
    blocks: tuple[BlockView, ...] = field(default=())
    pinned: bool = False
    expires: float | None = None
    share: Share = Share.NAMESPACE
    unsaved_turns: int = 0


@dataclass(frozen=True)
class EngineStats:
    """Counters since start, and gauges. unsaved: what was answered and is in RAM only; seconds since the oldest.

    set_aside_total: how often a request that ran left RAM to others. restore_hidden_s_total: of restore_s_total, when
    the executor was free for others. steps: where its time went.
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

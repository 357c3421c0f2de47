"""What calls return: frozen, plain Python. Enums are short strings ("STOP", "HOT"), "" where unset."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True)
class ToolCall:
    """arguments: a JSON object, as text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Message:
    """One message of a conversation. role: system, user, assistant or tool."""

    role: str
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    reasoning: str = ""


@dataclass(frozen=True)
class PrefixMiss:
    """Remembered positions that had to be computed again: where, how many and why."""

    position: int
    tokens: int
    reason: str


@dataclass(frozen=True)
class Usage:
    """What a call cost: token counts and bytes. prompt_tokens counts the remembered ones too."""

    prompt_tokens: int
    reused_hot_tokens: int
    reused_warm_tokens: int
    recomputed_tokens: int
    prefill_tokens: int
    generated_tokens: int
    latent_steps: int
    bytes_read: int
    bytes_written: int
    exactness: str
    misses: tuple[PrefixMiss, ...]


@dataclass(frozen=True)
class Timings:
    """Seconds, measured by the daemon. ttft_s includes queueing.

    restore_busy_s: those of restore_s that kept other requests from going on.
    """

    queue_s: float
    restore_s: float
    prefill_s: float
    ttft_s: float
    decode_s: float
    commit_s: float
    restore_busy_s: float = 0.0


@dataclass(frozen=True)
class Warning:
    """Something that went wrong and was mended; the response is right all the same."""

    reason: str
    message: str


@dataclass(frozen=True)
class ReusePlan:
    """Positions of the timeline expected to be reused: remembered = hot + warm + cold."""

    remembered_tokens: int
    hot_tokens: int
    warm_tokens: int
    cold_tokens: int


@dataclass(frozen=True)
class Started:
    """The call was accepted. queue_position: requests that run first, 0 when this one runs."""

    turn: int
    queue_position: int
    plan: ReusePlan
    request_id: str


@dataclass(frozen=True)
class Delta:
    """New text in whole characters; token ids if `include_token_ids` was asked for."""

    text: str
    token_ids: tuple[int, ...]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Reply:
    """A generated turn. durable: it survives `kill -9` and power loss."""

    text: str
    turn: int
    finish_reason: str
    stop_sequence: str
    usage: Usage
    timings: Timings
    durable: bool
    warnings: tuple[Warning, ...]
    seed: int
    repeated_result: bool
    request_id: str
    token_ids: tuple[int, ...]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Appended:
    """A turn that was added without generating."""

    turn: int
    usage: Usage
    timings: Timings
    durable: bool
    warnings: tuple[Warning, ...]
    repeated_result: bool
    request_id: str


@dataclass(frozen=True)
class Slice:
    """Positions [start, end) of an agent's timeline as it was after a turn. None: the last turn; to the end."""

    agent: str
    start: int = 0
    end: int | None = None
    turn: int | None = None


@dataclass(frozen=True)
class SplicedPart:
    """Where a part begins in the timeline that it was put into. part: its number among those given, from 0 on."""

    part: int
    start: int


@dataclass(frozen=True)
class Spliced:
    """A turn of parts of other agents' timelines. parts: as they follow one another.

    `usage.exactness` says what came of it, `usage.prefill_tokens` how many positions were computed for it.
    """

    turn: int
    parts: tuple[SplicedPart, ...]
    usage: Usage
    timings: Timings
    durable: bool
    warnings: tuple[Warning, ...]
    repeated_result: bool
    request_id: str


@dataclass(frozen=True)
class Thought:
    """A turn of latent steps: `usage.latent_steps` of them. finish_reason: "" if these are all that were asked for."""

    turn: int
    finish_reason: str
    usage: Usage
    timings: Timings
    durable: bool
    warnings: tuple[Warning, ...]
    repeated_result: bool
    request_id: str


@dataclass(frozen=True)
class BlockUse:
    """A block of a timeline and how many of its positions are used."""

    key: str
    kind: str
    start: int
    used: int
    bytes: int


@dataclass(frozen=True)
class AgentInfo:
    """turn: the last committed one, 0 before the first. tokens: positions. blocks: filled by `info` only.

    unsaved_turns: those behind `turn` that were answered, and are in RAM only.

    expire_time: when it may be pruned as expired, None for never. share: NAMESPACE, or PRIVATE: no other agent ever
    reuses its blocks.
    """

    name: str
    namespace: str
    id: str
    turn: int
    tokens: int
    residency: str
    model_matches: bool
    state_id: str
    create_time: datetime | None
    last_used_time: datetime | None
    disk_bytes: int
    ram_bytes: int
    exactness: str
    pinned: bool
    expire_time: datetime | None
    share: str
    unsaved_turns: int
    blocks: tuple[BlockUse, ...]


@dataclass(frozen=True)
class Rewound:
    """tokens_to_recompute: positions to compute before the agent can go on; 0 for full attention."""

    agent: AgentInfo
    tokens_to_recompute: int


@dataclass(frozen=True)
class TurnMessage:
    """A message of the record and the positions [start, end) that its tokens occupy."""

    message: Message
    start: int
    end: int


@dataclass(frozen=True)
class Turn:
    """One committed change of a timeline, positions [start, end). messages: if asked for."""

    number: int
    kind: str
    start: int
    end: int
    create_time: datetime | None
    finish_reason: str
    exactness: str
    request_id: str
    messages: tuple[TurnMessage, ...]


@dataclass(frozen=True)
class Diff:
    """Where the timelines of two agents, a and b, part.

    position: the first at which they differ, or the length of the shorter one if the longer one only goes on.
    a_turn, b_turn: the turns that hold it, 0 for a timeline that ends there. a_tokens, b_tokens: the lengths.
    """

    position: int
    a_turn: int
    b_turn: int
    a_tokens: int
    b_tokens: int

    @property
    def same(self) -> bool:
        return self.position == self.a_tokens == self.b_tokens


@dataclass(frozen=True)
class Evicted:
    """Bytes that an eviction frees in RAM and on disk."""

    ram_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class Prefetched:
    """Positions that were in RAM already, were restored, or had to be computed again; bytes read from disk."""

    hot_tokens: int
    warm_tokens: int
    recomputed_tokens: int
    bytes_read: int

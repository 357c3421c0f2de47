"""What is asked of the engine, and the events that it answers with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from agentmem.errors import AgentmemError, Reason
from agentmem.types import (
    CHECK_LAYER,
    RATIO,
    AgentRef,
    FinishReason,
    Message,
    Order,
    Priority,
    Projection,
    Reposition,
    Timings,
    TurnKind,
    Usage,
    Warning,
)

MAX_PARTS = 1024
"""Of one splice."""


@dataclass(frozen=True)
class ChatInput:
    """Messages, encoded by the model's chat template."""

    messages: tuple[Message, ...]


@dataclass(frozen=True)
class TextInput:
    """Text, encoded as it is; the tokenizer's leading token is added on an empty timeline only."""

    text: str


@dataclass(frozen=True)
class TokenInput:
    """Token ids, fed as they are."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class Slice:
    """Positions [start, end) of an agent's timeline as it was after a turn. None: the last turn; to the end."""

    agent: str
    start: int = 0
    end: int | None = None
    turn: int | None = None


@dataclass(frozen=True)
class SpliceInput:
    """Parts of timelines of agents of the same namespace. ratio, check_layer: see `latent.blend`.

    Raises AgentmemError EMPTY_INPUT, INPUT_INVALID.
    """

    parts: tuple[Slice, ...]
    reposition: Reposition = Reposition.REPOSITION
    order: Order = Order.GIVEN
    ratio: float = RATIO
    check_layer: int = CHECK_LAYER

    def __post_init__(self) -> None:
        if not self.parts:
            raise AgentmemError(Reason.EMPTY_INPUT, "there are no parts; there is nothing to splice")
        if len(self.parts) > MAX_PARTS:
            raise AgentmemError(Reason.INPUT_INVALID, f"a splice has at most {MAX_PARTS} parts")
        if not 0 <= self.ratio <= 1:  # written so that NaN fails
            raise AgentmemError(Reason.INPUT_INVALID, "ratio is a number from 0 to 1")
        if self.check_layer < 0:
            raise AgentmemError(Reason.INPUT_INVALID, "check_layer is the number of a layer, from 0 on")


Input = ChatInput | TextInput | TokenInput


@dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy; top_k 0 and top_p 1 are off; max_tokens None runs to the context's end.

    json_schema: what the reply's text is to fulfil, or to begin if it is cut short; empty for free text.

    Raises AgentmemError SAMPLING_INVALID, naming the field and its range.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: str = ""

    def __post_init__(self) -> None:
        rules = {  # written so that NaN fails
            "temperature": (0 <= self.temperature <= 100, "is a number from 0 to 100"),
            "top_p": (0 < self.top_p <= 1, "is above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "is not negative; 0 means no limit"),
            "seed": (self.seed is None or 0 <= self.seed < 2**64, "lies between 0 and 2**64 - 1"),
            "max_tokens": (
                self.max_tokens is None or self.max_tokens >= 1,
                "is at least 1; append adds input without generating",
            ),
            "stop": (
                len(self.stop) <= 16 and all(1 <= len(s.encode(errors="replace")) <= 256 for s in self.stop),
                "holds at most 16 sequences of 1 to 256 bytes each",
            ),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise AgentmemError(Reason.SAMPLING_INVALID, f"sampling.{name} {rule}.", field=name)


@dataclass(frozen=True)
class Thinking:
    """Latent steps to take, at least 1. Raises AgentmemError INPUT_INVALID."""

    steps: int
    projection: Projection = Projection.RIDGE

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise AgentmemError(Reason.INPUT_INVALID, "steps is at least 1; append adds input without thinking.")


class OnCancel(str, Enum):
    COMMIT = "COMMIT"
    DISCARD = "DISCARD"


class Phase(str, Enum):
    """What a request is doing. SET_ASIDE: it left its room in RAM to another, and goes on later."""

    QUEUED = "QUEUED"
    WAITING_FOR_ROOM = "WAITING_FOR_ROOM"
    RESTORING = "RESTORING"
    PREFILL = "PREFILL"
    DECODING = "DECODING"
    COMMITTING = "COMMITTING"
    SET_ASIDE = "SET_ASIDE"


class Durability(str, Enum):
    """DURABLE: on disk before the last event. WRITE_BEHIND: soon after it."""

    DURABLE = "DURABLE"
    WRITE_BEHIND = "WRITE_BEHIND"


@dataclass(frozen=True)
class Request:
    """One turn to add. Without `sampling` or `thinking`, of which it has one, the input is appended and that is all.

    input: None only for thinking that goes on from where the timeline ends.
    """

    agent: AgentRef
    input: Input | SpliceInput | None
    sampling: Sampling | None = None
    on_cancel: OnCancel = OnCancel.COMMIT
    create: bool = False
    rebuild: bool = False
    request_id: str = ""
    expect_turn: int | None = None
    durability: Durability = Durability.DURABLE
    priority: Priority = Priority.NORMAL
    thinking: Thinking | None = None

    @property
    def kind(self) -> TurnKind:
        """Of the turn that it makes."""
        if self.thinking is not None:
            return TurnKind.THINK
        if isinstance(self.input, SpliceInput):
            return TurnKind.SPLICE
        return TurnKind.APPEND if self.sampling is None else TurnKind.GENERATE


@dataclass(frozen=True)
class ReusePlan:
    """Positions of the timeline: remembered = hot + warm + cold."""

    remembered_tokens: int = 0
    hot_tokens: int = 0
    warm_tokens: int = 0
    cold_tokens: int = 0


@dataclass(frozen=True)
class Started:
    """First event; sent again when a queued request begins to run (queue_position 0)."""

    turn: int
    queue_position: int
    plan: ReusePlan
    request_id: str


@dataclass(frozen=True)
class Delta:
    """New text in whole UTF-8 characters, and the ids sampled since the last delta."""

    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Finished:
    """Last event of a turn that committed."""

    turn: int
    finish_reason: FinishReason | None
    stop_sequence: str
    usage: Usage
    timings: Timings
    durable: bool
    warnings: tuple[Warning, ...]
    seed: int
    repeated_result: bool = False
    parts: tuple[tuple[int, int], ...] = ()
    """Of a splice, as they follow one another: which of those asked for it is, and its first position."""


@dataclass(frozen=True)
class Failed:
    """Last event of a turn that was refused or went wrong; the timeline is as it was."""

    error: AgentmemError


Event = Started | Delta | Finished | Failed
Sink = Callable[[Event], None]

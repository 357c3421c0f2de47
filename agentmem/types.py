"""The glossary's words as types, shared by every layer. Imports nothing of agentmem."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

DEFAULT_NAMESPACE = "default"
MAX_NAME_BYTES = 256
"""Of an agent's or a namespace's name: any UTF-8 text without control characters."""
BLOCK_TOKENS = 256
"""Positions of a full block; also the segment length of the reference numerics."""


ROLES = ("system", "user", "assistant", "tool")
"""Roles a caller may give a message; what was added without a chat template is kept under the role "text"."""


class BlockKind(str, Enum):
    """What a block's file holds. Timelines consist of the first three; the others are companions.

    A companion belongs to a block, and is keyed as it is: WINDOW holds the rows of the windowed layers at the block's
    positions, SNAPSHOT the state of the recurrent layers behind the last of them.
    """

    TEXT = "TEXT"
    LATENT = "LATENT"
    SPLICE = "SPLICE"
    WINDOW = "WINDOW"
    SNAPSHOT = "SNAPSHOT"


COMPANIONS = (BlockKind.WINDOW, BlockKind.SNAPSHOT)


class Exactness(str, Enum):
    """Of a state: how it compares with that of a prefill of the same inputs, the best first."""

    EXACT = "EXACT"
    REPOSITIONED = "REPOSITIONED"
    BLENDED = "BLENDED"
    LATENT = "LATENT"

    @classmethod
    def of_all(cls, *labels: Exactness) -> Exactness:
        """Of what has parts of each."""
        return max(labels, key=list(cls).index, default=cls.EXACT)


class Reposition(str, Enum):
    """How a part of another timeline gets into one.

    EXACT: what was fed there is computed anew, in context. REPOSITION: its state is taken as it is, and attended to
    where it is put. BLEND: the same, and the positions that miss their context most are computed anew.
    """

    EXACT = "EXACT"
    REPOSITION = "REPOSITION"
    BLEND = "BLEND"


class Order(str, Enum):
    """Of spliced parts: as they are given, or by their content, so that it does not matter how they are given."""

    GIVEN = "given"
    CANONICAL = "canonical"


RATIO, CHECK_LAYER = 0.15, 1
"""Of a blend, as in CacheBlend. In layer 0 keys do not depend on the context."""


class Residency(str, Enum):
    HOT = "HOT"
    WARM = "WARM"
    COLD = "COLD"


class TurnKind(str, Enum):
    APPEND = "APPEND"
    GENERATE = "GENERATE"
    THINK = "THINK"
    SPLICE = "SPLICE"
    REBUILD = "REBUILD"
    FORK = "FORK"
    REWIND = "REWIND"


class Share(str, Enum):
    """Who else may use an agent's blocks: the agents of its namespace, or nobody."""

    NAMESPACE = "namespace"
    PRIVATE = "private"


class FinishReason(str, Enum):
    STOP = "STOP"
    STOP_SEQUENCE = "STOP_SEQUENCE"
    LENGTH = "LENGTH"
    CANCELLED = "CANCELLED"
    DEADLINE = "DEADLINE"


class PrefillPath(str, Enum):
    """AUTO: reference where numerics are; where they are fast anyway, whichever takes less time."""

    AUTO = "auto"
    REFERENCE = "reference"
    FUSED = "fused"


class Projection(str, Enum):
    """How a hidden state becomes an input embedding.

    IDENTITY: as it is. RIDGE: by the linear map from output to input embeddings that errs least in squares. SOFTMAX:
    the mean of the input embeddings, weighted with the probabilities of the tokens.
    """

    IDENTITY = "identity"
    RIDGE = "ridge"
    SOFTMAX = "softmax"


class Priority(str, Enum):
    """Of a request; waiting raises it."""

    LOW = "LOW"
    NORMAL = "NORMAL"
    HIGH = "HIGH"


@dataclass(frozen=True)
class AgentRef:
    namespace: str
    name: str


@dataclass(frozen=True)
class ToolCall:
    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Message:
    """One message of a conversation, as chat templates know it."""

    role: str
    parts: tuple[str, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    reasoning: str = ""

    @property
    def text(self) -> str:
        return "".join(self.parts)


@dataclass(frozen=True)
class TurnMessage:
    """A canonical message and the positions [start, end) its tokens occupy."""

    message: Message
    start: int
    end: int


@dataclass(frozen=True)
class PrefixMiss:
    """Remembered positions that had to be computed again: where, how many and why."""

    position: int
    tokens: int
    reason: str


@dataclass
class Usage:
    """Hidden work, reported with every response (invariant 9). Token counts and bytes."""

    prompt_tokens: int = 0
    reused_hot_tokens: int = 0
    reused_warm_tokens: int = 0
    recomputed_tokens: int = 0
    prefill_tokens: int = 0
    generated_tokens: int = 0
    latent_steps: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    exactness: Exactness = Exactness.EXACT
    misses: list[PrefixMiss] = field(default_factory=list)


@dataclass
class Timings:
    """Seconds by a monotonic clock.

    restore_busy_s: those of restore_s in which the executor thread was at work; others had the rest.
    """

    queue_s: float = 0.0
    restore_s: float = 0.0
    prefill_s: float = 0.0
    ttft_s: float = 0.0
    decode_s: float = 0.0
    commit_s: float = 0.0
    restore_busy_s: float = 0.0


@dataclass(frozen=True)
class Warning:
    """Something that went wrong and was mended; the response is right all the same."""

    reason: str
    message: str

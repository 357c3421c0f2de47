"""Prefill-token equivalents: what calls of a model cost, in the time that one prompt token takes to prefill.

Su et al., "Beyond Accuracy: Unveiling Inefficiency Patterns in Tool-Integrated Reasoning" (arXiv 2604.05404, section
3), weigh a trajectory of calls i as

    PTE = sum_i (D_prefill_i + gamma * L_seq_i * D_decode_i)

D_prefill: positions computed as a prompt. L_seq: length of the context in front of the decoding. D_decode: tokens
decoded. gamma: what reading one position of the cache costs a decoded token, over what prefilling one token costs; a
property of model and device. The paper's serving stack drops the cache at every pause, so its D_prefill is the whole
context each time. Here the cache is kept, and D_prefill is what was in fact computed: new positions, and those that had
been computed before but could not be reused. With nothing reusable the two agree.

The paper leaves out what a decoded token costs at any length (reading the weights, which many requests share there).
One agent on one machine pays it alone, so a measured ratio may have it as `per_token`; 0 is the paper's metric.
Restored positions count nothing: they are read, not computed. Their bytes and seconds are reported beside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from agentmem.types import Usage


@dataclass(frozen=True)
class DeviceRatio:
    """Decode cost to prefill cost, of one model on one device. One decoded token costs as much as prefilling

        per_token + per_position * (length of the context)

    tokens. Both are measured as seconds over seconds, so they have no unit; per_position is the paper's gamma.
    Raises ValueError for what is negative or not finite.
    """

    per_position: float
    per_token: float = 0.0

    def __post_init__(self) -> None:
        for value in (self.per_position, self.per_token):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError("a ratio of costs is finite and not negative")


@dataclass(frozen=True)
class Call:
    """One call of a model, in positions. Raises ValueError for what cannot be.

    new: prompt positions computed for the first time. nonreusable: remembered ones that were computed again, each time.
    context: the length in front of the first decoded token, reused positions included. decoded: tokens, with those that
    were sampled and not shown, and latent steps.
    """

    new: int
    nonreusable: int
    context: int
    decoded: int

    def __post_init__(self) -> None:
        if min(self.new, self.nonreusable, self.context, self.decoded) < 0:
            raise ValueError("counts are not negative")
        if self.new > self.context:
            raise ValueError("new positions are part of the context")

    @classmethod
    def of(cls, usage: Usage) -> Call:
        """A turn's, from what every response reports."""
        return cls(
            new=usage.prefill_tokens,
            nonreusable=usage.recomputed_tokens,
            context=usage.prompt_tokens,
            decoded=usage.generated_tokens + usage.latent_steps,
        )


@dataclass(frozen=True)
class Cost:
    """In prefill-token equivalents: of new prompt positions, of those computed again, and of decoding."""

    prefill: float
    nonreusable: float
    decode: float

    @property
    def total(self) -> float:
        return self.prefill + self.nonreusable + self.decode


def cost(calls: Iterable[Call], ratio: DeviceRatio) -> Cost:
    """What the calls cost. Costs of calls add up; batching calls may take less time than their cost says."""
    calls = list(calls)
    decode = sum(c.decoded * (ratio.per_token + ratio.per_position * c.context) for c in calls)
    return Cost(float(sum(c.new for c in calls)), float(sum(c.nonreusable for c in calls)), float(decode))

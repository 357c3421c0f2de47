"""A look at the daemon, and what two of them say about its speed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from agentmem_client import RunningRequest, Stats, Status, StepTimes

WAITING = ("QUEUED", "WAITING_FOR_ROOM")


@dataclass(frozen=True)
class Sample:
    """at: seconds by a monotonic clock."""

    at: float
    status: Status
    stats: Stats
    requests: tuple[RunningRequest, ...]

    @property
    def phases(self) -> Counter[str]:
        """How many requests are in each phase."""
        return Counter(request.phase for request in self.requests)

    @property
    def generated(self) -> int:
        """Tokens since the daemon's start. Its total has those of a turn once the turn has ended."""
        return self.stats.generated_tokens_total + sum(request.tokens_generated for request in self.requests)

    @property
    def prefilled(self) -> int:
        """As `generated`, of prompts."""
        return self.stats.prefill_tokens_total + sum(request.tokens_prefilled for request in self.requests)


@dataclass(frozen=True)
class Rates:
    """Tokens per second between two looks. requests: tokens generated, by request id."""

    generated: float
    prefill: float
    requests: dict[str, float]

    @classmethod
    def between(cls, before: Sample | None, now: Sample) -> Rates:
        """Zero without two looks, and where a turn was dropped or the daemon began anew."""
        if before is None or now.at <= before.at or before.status.pid != now.status.pid:
            return cls(0.0, 0.0, {})
        passed = now.at - before.at
        known = {request.request_id: request.tokens_generated for request in before.requests}

        def rate(count: int) -> float:
            return max(0, count) / passed

        return cls(
            rate(now.generated - before.generated),
            rate(now.prefilled - before.prefilled),
            {
                one.request_id: rate(one.tokens_generated - known[one.request_id])
                for one in now.requests
                if one.request_id in known
            },
        )


def steps_between(before: Sample | None, now: Sample) -> StepTimes:
    """What the steps between two looks took; those since the start if there were none, or this is the first look."""
    then, whole = None if before is None else before.stats.steps, now.stats.steps
    if then is None or whole.steps <= then.steps:
        return whole
    return StepTimes(**{name: value - getattr(then, name) for name, value in vars(whole).items()})

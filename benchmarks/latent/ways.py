"""Ways to answer: one agent, and each primitive by text and by state, with so many latent steps. One run of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agentmem.engine.engine import Engine
from agentmem.engine.request import ChatInput, Durability, Request, TokenInput
from agentmem.primitives.crew import Crew, Given, forget, temporary
from agentmem.primitives.flow import FlowResult, Medium
from agentmem.primitives.flows import FLOWS
from agentmem.primitives.pte import DeviceRatio, cost
from agentmem.primitives.together import Halt, run_together
from agentmem.types import DEFAULT_NAMESPACE, AgentRef, Message

PRIMITIVES = ("review", "vote", "plan_execute")
LATENT_STEPS = (0, 5, 20, 40)


@dataclass(frozen=True)
class Way:
    """One agent by text is the plain one: it is asked, and answers."""

    primitive: str
    medium: Medium
    latent_steps: int = 0

    @property
    def name(self) -> str:
        steps = f"_{self.latent_steps}" if self.medium is Medium.LATENT else ""
        return f"{self.primitive}_{self.medium.value}{steps}"


ONE = Way("answer", Medium.TEXT)


def all_ways(steps: tuple[int, ...] = LATENT_STEPS) -> Iterator[Way]:
    yield ONE
    yield from (Way("answer", Medium.LATENT, n) for n in steps if n)
    for primitive in PRIMITIVES:
        yield Way(primitive, Medium.TEXT)
        yield from (Way(primitive, Medium.LATENT, n) for n in steps)


@dataclass(frozen=True)
class Outcome:
    """tokens: written, those that nobody was shown included. prefill: computed as prompts; saved: that were not.

    bytes: read and written. fell_back: it handed over otherwise than asked.
    """

    text: str
    seconds: float
    tokens: int
    latent_steps: int
    prefill: int
    saved: int
    bytes: int
    pte: float
    fell_back: bool


def run(
    engine: Engine, way: Way, question: str, agent: AgentRef | None, ratio: DeviceRatio, max_tokens: int
) -> Outcome:
    """agent: whose memory the first agents begin with; None: they know nothing."""
    given = Given(agent=None if agent is None else agent.name)
    params = {"max_tokens": max_tokens, "latent_steps": way.latent_steps}
    with Crew(engine, given) as crew:
        result = FLOWS[way.primitive](crew, question, (), params, way.medium)
    return _outcome(result, ratio)


def _outcome(result: FlowResult, ratio: DeviceRatio) -> Outcome:
    roles = result.roles
    return Outcome(
        result.text,
        result.seconds,
        sum(r.generated_tokens for r in roles),
        sum(r.latent_steps for r in roles),
        sum(r.prefill_tokens for r in roles),
        sum(r.saved_tokens for r in roles),
        sum(r.bytes_read + r.bytes_written for r in roles),
        cost((call for r in roles for call in r.calls), ratio).total,
        bool(result.notes),
    )


class Reader:
    """A temporary agent that has read something, for the length of a block."""

    def __init__(self, engine: Engine, read: tuple[Message, ...] | tuple[int, ...]) -> None:
        self._engine, self._ref = engine, AgentRef(DEFAULT_NAMESPACE, temporary("reader"))
        said = ChatInput(read) if isinstance(read[0], Message) else TokenInput(read)  # type: ignore[arg-type]
        self._request = Request(self._ref, said, create=True, durability=Durability.WRITE_BEHIND)

    def __enter__(self) -> AgentRef:
        run_together(self._engine, [self._request], Halt(), lambda index, text: None)
        return self._ref

    def __exit__(self, *error: object) -> None:
        forget(self._engine, self._ref)

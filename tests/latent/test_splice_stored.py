"""Splices through the store: what comes back after a restart is what the numbers say it must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from agentmem.engine.context import Context
from agentmem.engine.request import Event, Failed, Finished, Request, Slice, SpliceInput, TokenInput
from agentmem.engine.run import Run
from agentmem.kv.state import AgentState
from agentmem.memory import incoming
from agentmem.memory.agent import TurnDraft
from agentmem.memory.memory import Memory
from agentmem.memory.needs import Wait
from agentmem.model.loader import LoadedModel
from agentmem.store.store import Store
from agentmem.types import AgentRef, Exactness, Reposition, TurnKind
from tests.latent.reference import block_diagonal, causal, error, forward
from tests.latent.states import ids, logits

LENGTHS = (37, 60, 270, 70)
TEXT = ids(9, 6)
BUDGET = 1 << 40


class Kept:
    """A memory on disk, in the thread of the test."""

    def __init__(self, folder: Path, model: LoadedModel) -> None:
        store = Store.open(folder)
        self.context = Context(model, store, Memory(store, model, BUDGET, BUDGET))

    def close(self) -> None:
        self.context.memory.close()
        self.context.store.close()

    def do(self, name: str, given: TokenInput | SpliceInput) -> Finished:
        events: list[Event] = []
        run = Run(self.context, Request(AgentRef("default", name), given, create=True), events.append)
        self._go_through(run.steps())
        assert isinstance(events[-1], Finished | Failed)
        if isinstance(events[-1], Failed):
            raise events[-1].error
        return events[-1]

    def state(self, name: str) -> AgentState:
        """What is restored of an agent, or was in RAM; to be thrown away."""
        agent = self.context.memory.find(AgentRef("default", name))
        assert agent is not None
        self._go_through(self.context.memory.restore(agent, TurnDraft(TurnKind.APPEND, "")))
        assert agent.state is not None
        return agent.state.fork()

    @staticmethod
    def _go_through(steps: Iterator[object]) -> None:
        for need in steps:
            if isinstance(need, Wait):
                wait(need.futures, timeout=60, return_when=FIRST_COMPLETED)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[LoadedModel], Kept]:
    return lambda model: Kept(tmp_path / "state", model)


@contextmanager
def using(kept: Kept) -> Iterator[Kept]:
    try:
        yield kept
    finally:
        kept.close()


def fill(kept: Kept, **how: object) -> Exactness:
    """Each part is a document; "all" has read a little, and is given them."""
    for number, length in enumerate(LENGTHS):
        kept.do("all" if not number else str(number), TokenInput(tuple(ids(number, length))))
    parts = tuple(Slice(str(number)) for number in range(1, len(LENGTHS)))
    return kept.do("all", SpliceInput(parts, **how)).usage.exactness  # type: ignore[arg-type]


def _joined() -> list[int]:
    return list(chain(*(ids(number, length) for number, length in enumerate(LENGTHS))))


def test_fp_a_restored_splice_is_a_prefill_under_a_block_diagonal_mask(
    unquantised: LoadedModel, opened: Callable[[LoadedModel], Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = unquantised
    with using(opened(model)) as kept:
        assert fill(kept) is Exactness.REPOSITIONED
        hot = logits(model, kept.state("all"), TEXT)
    want = forward(model, [*_joined(), *TEXT], block_diagonal(LENGTHS, len(TEXT)))[0][-len(TEXT) :]
    with using(opened(model)) as kept:
        got = logits(model, kept.state("all"), TEXT)
    assert np.array_equal(got, hot)
    assert error(got, want) < 1e-5
    laid = incoming._Laid
    monkeypatch.setattr(incoming, "_Laid", lambda rows, shift: laid(rows, 0))
    with using(opened(model)) as kept:
        assert error(logits(model, kept.state("all"), TEXT), want) > 0.1


def test_fp_a_restored_blend_of_all_is_a_prefill(
    unquantised: LoadedModel, opened: Callable[[LoadedModel], Kept]
) -> None:
    model = unquantised
    with using(opened(model)) as kept:
        assert fill(kept, reposition=Reposition.BLEND, ratio=1.0) is Exactness.BLENDED
        hot = logits(model, kept.state("all"), TEXT)
    tokens = [*_joined(), *TEXT]
    want = forward(model, tokens, causal(len(tokens)))[0][-len(TEXT) :]
    with using(opened(model)) as kept:
        got = logits(model, kept.state("all"), TEXT)
    assert np.array_equal(got, hot)
    assert error(got, want) < 1e-5


def test_a_blend_of_nothing_is_the_splice(one: LoadedModel, opened: Callable[[LoadedModel], Kept]) -> None:
    with using(opened(one)) as kept:
        assert fill(kept, reposition=Reposition.BLEND, ratio=0.0) is Exactness.REPOSITIONED
        kept.do("again", TokenInput(tuple(ids(0, LENGTHS[0]))))
        parts = tuple(Slice(str(number)) for number in range(1, len(LENGTHS)))
        kept.do("again", SpliceInput(parts))
    with using(opened(one)) as kept:
        assert np.array_equal(logits(one, kept.state("all"), TEXT), logits(one, kept.state("again"), TEXT))


@pytest.mark.parametrize("ratio", [0.15, 1.0])
def test_a_restored_blend_is_the_blend(one: LoadedModel, opened: Callable[[LoadedModel], Kept], ratio: float) -> None:
    with using(opened(one)) as kept:
        fill(kept, reposition=Reposition.BLEND, ratio=ratio)
        hot = logits(one, kept.state("all"), TEXT)
    with using(opened(one)) as kept:
        assert np.array_equal(logits(one, kept.state("all"), TEXT), hot)

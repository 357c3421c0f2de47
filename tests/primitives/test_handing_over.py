"""Handing over in latent space: what is spliced, and what becomes of it where a model cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings, Ticket
from agentmem.engine.request import Request, Sampling, Sink, Slice, SpliceInput
from agentmem.primitives.crew import Given
from agentmem.primitives.flow import Medium
from agentmem.primitives.together import Halt, run_together
from agentmem.types import AgentRef, Exactness
from tests.helpers.checkpoints import RECURRENT, WINDOWED, Spec, write
from tests.primitives.engines import CONTEXT, QUESTION, names, play, turn

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_what_several_did_is_spliced_behind_the_first(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by the positions that are its own, in order; nothing of it is computed again."""
    submit, spliced = engine.submit, []

    def watch(request: Request, sink: Sink) -> Ticket:
        if isinstance(request.input, SpliceInput):
            spliced.append((request.agent.name.split("/")[1], request.input))
        return submit(request, sink)

    monkeypatch.setattr(engine, "submit", watch)
    voted = play(engine, "vote", Medium.LATENT, solvers=3)
    planned = play(engine, "plan_execute", Medium.LATENT, executors=3)
    assert [(name, [one.agent.split("/")[1] for one in parts.parts]) for name, parts in spliced] == [
        ("selector", ["solver 2", "solver 3"]),
        ("aggregator", ["executor 2", "executor 3"]),
    ]
    assert all(one.start > 0 and one.end is None for _, parts in spliced for one in parts.parts)
    for result in (voted, planned):
        assert (result.exactness, result.notes) == (Exactness.LATENT, ())
        gathering = result.roles[-1].calls
        assert gathering[0].decoded == gathering[0].new == 0  # the splice
    assert planned.roles[1].generated_tokens == 0  # executors only think


@pytest.mark.reference
def test_what_others_did_matters(engine: Engine) -> None:
    """With another second solver the selector says something else: its state holds what that one did."""
    sampled = Given(context=CONTEXT, seed=11)
    chosen = {play(engine, "vote", Medium.LATENT, sampled, solvers=n, max_tokens=20).text for n in (1, 2, 3)}
    assert len(chosen) == 3


def test_a_reply_that_was_cut_short_is_closed_behind_a_splice_too(engine: Engine) -> None:
    """What follows begins as it would behind the part in its own timeline."""
    turn(engine, "part", QUESTION, sampling=Sampling(seed=1, max_tokens=2))
    turn(engine, "whole", CONTEXT)
    request = Request(AgentRef("default", "whole"), SpliceInput((Slice("part"),)))
    run_together(engine, [request], Halt(), lambda index, text: None)
    behind = [turn(engine, name, "and then?").finished.usage.prefill_tokens for name in ("part", "whole")]
    assert behind[0] == behind[1]
    for name in ("part", "whole"):
        engine.delete_agent(AgentRef("default", name))


@pytest.mark.parametrize(
    "spec", [WINDOWED, pytest.param(RECURRENT, marks=pytest.mark.slow)], ids=("window", "recurrent")
)
def test_where_latents_are_refused_text_is_handed_over(spec: Spec, tmp_path: Path) -> None:
    """And the result says so, with the layer and why. What needs no splice goes on by state."""
    checkpoint = write(tmp_path / "model", replace(spec, context=2500))
    engine = Engine.open(EngineSettings(tmp_path / "state", str(checkpoint)))
    try:
        for kind, medium in (("vote", Medium.BOTH), ("plan_execute", Medium.LATENT)):
            result = play(engine, kind, medium)
            (note,) = result.notes
            assert "handed over as text" in note
            assert "Layer 0" in note
            assert result.text
            assert result.roles[1].generated_tokens > 0  # executors write what cannot be spliced
        for kind, params in (("review", {"rounds": 1}), ("vote", {"solvers": 1}), ("plan_execute", {"executors": 1})):
            assert play(engine, kind, Medium.LATENT, **params).notes == ()
        assert names(engine) == []
    finally:
        engine.close()


def test_an_agent_that_cannot_be_deleted_keeps_no_other(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    delete = engine.delete_agent
    failing: list[AgentRef] = []

    def refuse_first(ref: AgentRef) -> None:
        if not failing:
            failing.append(ref)
            raise RuntimeError("not now")
        delete(ref)

    monkeypatch.setattr(engine, "delete_agent", refuse_first)
    with pytest.raises(RuntimeError, match="not now"):
        play(engine, "vote", Medium.TEXT, solvers=2)
    left = [name for name in names(engine) if name.startswith("run-")]
    assert left == [failing[0].name]
    delete(failing[0])

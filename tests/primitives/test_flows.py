"""Flows of agents: what they leave behind, what they change, and that side by side each is as it is alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import pytest

from agentmem.engine.engine import Engine, Ticket
from agentmem.engine.lane import DecodeBatch
from agentmem.engine.request import Request, Sampling, Sink
from agentmem.engine.thinking import ThinkBatch
from agentmem.errors import AgentmemError, Reason
from agentmem.primitives import prompts
from agentmem.primitives.crew import Given, Progress, sweep
from agentmem.primitives.flow import Medium
from agentmem.primitives.together import Halt
from agentmem.types import AgentRef, Exactness, FinishReason
from tests.primitives.engines import CONTEXT, KINDS, QUESTION, SMALL, counts, names, play, side_by_side, standing, turn

MEDIA = tuple(Medium)
SOME = tuple(zip(KINDS, (Medium.LATENT, Medium.BOTH, Medium.TEXT, Medium.LATENT), strict=True))
ALL_FLOWS = tuple(itertools.product(KINDS, MEDIA))
OTHERS = [pytest.param(*flow, marks=pytest.mark.slow) for flow in ALL_FLOWS if flow not in SOME]
BOTH = pytest.param(Medium.BOTH, marks=pytest.mark.slow)
STEPS = SMALL["latent_steps"]
pytestmark = pytest.mark.usefixtures("nothing_is_left")
Flows = Sequence[tuple[str, Medium]]


@pytest.mark.parametrize(("kind", "medium"), [*SOME, *OTHERS])
def test_every_role_is_accounted_for(engine: Engine, kind: str, medium: Medium) -> None:
    seen: list[Progress] = []
    result = play(engine, kind, medium, on_progress=seen.append)
    roles = {
        "answer": ["answer"],
        "review": ["solver", "critic"] if medium is Medium.TEXT else ["solver", "critic", "refiner"],
        "vote": ["reader", "solver", "selector"],
        "plan_execute": ["planner", "executor", "aggregator"],
    }[kind]
    assert [role.role for role in result.roles] == roles
    assert {event.role for event in seen} == set(roles)
    assert sum(role.generated_tokens for role in result.roles) > 0
    assert any(role.latent_steps for role in result.roles) is (medium is not Medium.TEXT)
    assert result.text == "".join(event.text for event in seen if event.label == seen[-1].label)[-len(result.text) :]
    for role in result.roles:
        assert role.seconds > 0
        assert role.prefill_tokens == sum(call.new + call.nonreusable for call in role.calls) > 0
        assert role.generated_tokens + role.latent_steps == sum(call.decoded for call in role.calls)


@pytest.mark.reference
@pytest.mark.parametrize("medium", [Medium.LATENT, BOTH])
def test_a_vote_of_one_is_a_handoff(engine: Engine, medium: Medium) -> None:
    """Must hold 8: the selector says what the solver's fork says, bit for bit: any other state would say otherwise."""
    voted = play(engine, "vote", medium, solvers=1, max_tokens=24)
    assert not voted.notes
    sampling = Sampling(SMALL["temperature"], seed=7, max_tokens=24)
    turn(engine, "reader", CONTEXT)
    turn(engine, "reader", QUESTION, steps=STEPS)
    engine.fork_agent(AgentRef("default", "reader"), "solver")
    solved = turn(engine, "solver", prompts.again(prompts.SOLVE, QUESTION), sampling=sampling)
    engine.fork_agent(AgentRef("default", "solver"), "selector")
    choose = prompts.SELECT if medium is Medium.LATENT else prompts.select([solved.text])
    chosen = turn(engine, "selector", prompts.again(choose, QUESTION), sampling=Sampling(seed=7, max_tokens=24))
    for name in ("reader", "solver", "selector"):
        engine.delete_agent(AgentRef("default", name))
    assert (voted.text, voted.exactness) == (chosen.text, Exactness.LATENT)
    assert voted.roles[-1].prefill_tokens == chosen.finished.usage.prefill_tokens


@pytest.mark.reference
@pytest.mark.parametrize("some", [SOME, pytest.param(ALL_FLOWS, marks=pytest.mark.slow)], ids=("some", "all"))
def test_a_run_leaves_the_agent_it_begins_with_as_it_was(engine: Engine, some: Flows) -> None:
    """Must hold 8: forks never change the parent, while several flows go on at once."""
    for name in ("parent", "twin"):
        turn(engine, name, CONTEXT)
        turn(engine, name, "remember", steps=STEPS)
    before = standing(engine, "parent")
    given = Given(agent="parent", context="the lazy dog sleeps", seed=3)
    side_by_side(*(partial(play, engine, kind, medium, given) for kind, medium in some))
    assert standing(engine, "parent") == before
    replies = [turn(engine, name, QUESTION, sampling=Sampling(max_tokens=12)) for name in ("parent", "twin")]
    assert replies[0].text == replies[1].text
    assert replies[0].finished.usage.recomputed_tokens == 0
    assert standing(engine, "parent")[3] == standing(engine, "twin")[3]  # keys stand for all that came before
    for name in ("parent", "twin"):
        engine.delete_agent(AgentRef("default", name))


@pytest.mark.reference
@pytest.mark.parametrize("some", [SOME, pytest.param(ALL_FLOWS, marks=pytest.mark.slow)], ids=("some", "all"))
def test_flows_side_by_side_equal_each_alone(engine: Engine, some: Flows) -> None:
    """Must hold 9."""
    flows = [
        partial(play, engine, kind, medium, Given(context=CONTEXT, seed=seed), max_tokens=10)
        for seed, (kind, medium) in enumerate(some)
    ]
    alone = [flow() for flow in flows]
    together = side_by_side(*flows)
    assert [(r.text, counts(r), r.exactness) for r in together] == [(r.text, counts(r), r.exactness) for r in alone]


@pytest.mark.parametrize(("kind", "params"), [("vote", {"solvers": 4}), ("plan_execute", {"executors": 4})])
def test_parallel_parts_go_in_one_batch(
    engine: Engine, kind: str, params: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, thinking = [0], [0]
    decode, think = DecodeBatch.step, ThinkBatch.step
    monkeypatch.setattr(DecodeBatch, "step", lambda batch, lanes: decoding.append(len(lanes)) or decode(batch, lanes))
    monkeypatch.setattr(ThinkBatch, "step", lambda batch, ones: thinking.append(len(ones)) or think(batch, ones))
    play(engine, kind, Medium.BOTH, **params, max_tokens=30, latent_steps=20)
    assert max(decoding) == 4
    assert max(thinking) == (4 if kind == "plan_execute" else 1)  # solvers share what was thought about the question


@pytest.mark.parametrize("reason", [FinishReason.CANCELLED, FinishReason.DEADLINE])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cancelled_run_ends_soon(engine: Engine, kind: str, reason: FinishReason) -> None:
    halt = Halt()
    expected = Reason.DEADLINE_PASSED if reason is FinishReason.DEADLINE else Reason.REQUEST_CANCELLED

    def at_the_first_words(progress: Progress) -> None:
        if progress.text:
            halt.cancel(reason)

    with pytest.raises(AgentmemError) as caught:
        play(engine, kind, Medium.BOTH, halt=halt, on_progress=at_the_first_words, max_tokens=3000)
    assert caught.value.reason is expected
    assert engine.stats().running == 0


def test_a_run_that_was_cancelled_before_it_began_makes_no_agent(engine: Engine) -> None:
    halt = Halt()
    halt.cancel()
    made = engine.stats().requests_total
    with pytest.raises(AgentmemError):
        play(engine, "vote", Medium.LATENT, halt=halt)
    assert engine.stats().requests_total == made


def test_one_that_is_refused_ends_the_others(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third solver; two are on their way by then."""
    submit, made = engine.submit, itertools.count()

    def refuse_the_fifth(request: Request, sink: Sink) -> Ticket:
        if next(made) == 4:
            raise AgentmemError(Reason.QUEUE_FULL, "the queue is full")
        return submit(request, sink)

    monkeypatch.setattr(engine, "submit", refuse_the_fifth)
    with pytest.raises(AgentmemError) as caught:
        play(engine, "vote", Medium.TEXT, max_tokens=2000)
    assert caught.value.reason is Reason.QUEUE_FULL
    assert (engine.stats().running, next(made)) == (0, 5)


def test_an_error_of_who_watches_ends_the_run(engine: Engine) -> None:
    def fail(progress: Progress) -> None:
        if progress.text:
            raise RuntimeError("watching failed")

    with pytest.raises(RuntimeError, match="watching failed"):
        play(engine, "vote", Medium.TEXT, on_progress=fail, max_tokens=500)
    assert engine.stats().running == 0


def test_what_a_crash_left_is_swept_away(engine: Engine) -> None:
    left = f"run-{'0a' * 16}/solver 1"
    for name in (left, "run-1", "run-of-mine/solver", "runner"):
        turn(engine, name, CONTEXT)
    sweep(engine)
    assert names(engine) == ["run-1", "run-of-mine/solver", "runner"]
    for name in names(engine):
        engine.delete_agent(AgentRef("default", name))


def test_review_ends_where_the_critic_agrees(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(prompts, "agrees", lambda critique: asked.append(critique) or True)
    for medium in (Medium.TEXT, Medium.BOTH):
        result = play(engine, "review", medium, rounds=5)
        assert [(role.role, role.agents) for role in result.roles] == [("solver", 1), ("critic", 1)]
    assert len(asked) == 2


@pytest.mark.parametrize("medium", [Medium.TEXT, Medium.LATENT, BOTH])
def test_review_ends_where_an_answer_stays(engine: Engine, medium: Medium, monkeypatch: pytest.MonkeyPatch) -> None:
    def rounds(stays: bool) -> int:
        monkeypatch.setattr(prompts, "same", lambda one, other: stays and bool(other))
        result = play(engine, "review", medium, rounds=3, max_tokens=3)
        critic = next(role for role in result.roles if role.role == "critic")
        return len(critic.calls) // (2 if medium is Medium.BOTH else 1)

    assert rounds(stays=False) == 3
    assert rounds(stays=True) == (2 if medium is Medium.LATENT else 1)  # there is nothing to compare with before


def test_what_agrees() -> None:
    assert all(prompts.agrees(text) for text in ("AGREED", "Agreed.", ' "AGREED" ', "**AGREED**"))
    assert not any(prompts.agrees(text) for text in ("", "Not AGREED", "I agree"))
    assert prompts.same("The Dog ", "the  dog")
    assert not prompts.same("the dog", "the dogs")

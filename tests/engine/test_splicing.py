"""Splices as turns of persistent timelines: what they are stays the same, bit for bit, wherever the agent goes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import ChatInput, Slice
from agentmem.engine.splicing import SpliceTurn
from agentmem.errors import Reason
from agentmem.memory.agent import Agent
from agentmem.types import Exactness, Message, Order, Reposition, Share
from tests.engine.runs import PROMPT, A, feed, recorded, refused, request, run, said
from tests.engine.splices import put, ref, restored, seen

DOCS = {"one": PROMPT[:300], "two": PROMPT[350:420], "three": PROMPT[100:640]}


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """With three documents, and an agent that has read a little."""
    for name, ids in DOCS.items():
        feed(engine, ref(name), *ids, tokens=None)
    feed(engine, A, *PROMPT[:37], tokens=None)
    return engine


@pytest.mark.parametrize("how", [{}, {"reposition": Reposition.BLEND, "ratio": 0.04}], ids=["reposition", "blend"])
def test_a_splice_survives_eviction_and_restart(
    filled: Engine, settings: EngineSettings, how: dict[str, object]
) -> None:
    engine = filled
    done = put(engine, A, ref("one"), Slice("three", 13, 530), ref("two"), **how)
    blended = "reposition" in how
    assert done.usage.exactness is (Exactness.BLENDED if blended else Exactness.REPOSITIONED)
    usage = done.usage
    assert (usage.prefill_tokens > 0) is blended
    accounted = usage.reused_hot_tokens + usage.reused_warm_tokens + usage.prefill_tokens
    assert accounted == usage.prompt_tokens
    assert done.parts == ((0, 37), (1, 337), (2, 854))
    feed(engine, A, *PROMPT[5:300], tokens=4)
    put(engine, A, ref("two"), **how)
    feed(engine, A, *PROMPT[9:20], tokens=None)
    before, said = seen(engine, A), recorded(engine)
    assert restored(engine, A) == before
    engine.close()
    with_restart = Engine.open(settings)
    try:
        with_restart.prefetch_agent(A)
        assert seen(with_restart, A) == before
        assert recorded(with_restart) == said
        assert said[37:337] == list(DOCS["one"])
        view = with_restart.get_agent(A)
        assert view.exactness is done.usage.exactness
        assert sum(block.used for block in view.blocks) == view.tokens
        assert {block.kind for block in view.blocks} == {"TEXT", "SPLICE"}
    finally:
        with_restart.close()


def test_no_part_changes_and_none_is_held_twice(filled: Engine) -> None:
    """A span that is put at two places counts once; the agents that it is shared with hold it as before."""
    engine = filled
    before = {name: seen(engine, ref(name)) for name in DOCS}
    put(engine, A, ref("three"), ref("three"), Slice("three", 256, 512))
    feed(engine, A, *PROMPT[:50], tokens=4)
    assert {name: seen(engine, ref(name)) for name in DOCS} == before
    memory = engine._context.memory
    stats = engine.stats()
    agents = [memory.find(ref(name)) for name in ("a", *DOCS)]
    alone = [memory.exclusive_bytes(agent) for agent in agents if agent is not None]
    assert sum(alone) < stats.hot_bytes
    for name in ("three", "a"):
        hot = engine.stats().hot_bytes
        agent = memory.find(ref(name))
        assert agent is not None
        expected = memory.exclusive_bytes(agent)
        assert engine.evict_agent(ref(name)).ram_bytes == expected
        assert hot - engine.stats().hot_bytes == expected


def test_parts_may_be_warm(filled: Engine) -> None:
    engine, parts = filled, (ref("one"), Slice("three", 13, 530))
    put(engine, ref("hot"), *parts, Slice("two", 1, 3))
    for name in DOCS:
        engine.evict_agent(ref(name))
    done = put(engine, ref("warm"), *parts, Slice("two", 1, 3))
    assert done.usage.bytes_read > 0
    assert seen(engine, ref("hot")) == seen(engine, ref("warm"))
    assert [b.key for b in engine.get_agent(ref("hot")).blocks] == [b.key for b in engine.get_agent(ref("warm")).blocks]


@pytest.mark.parametrize(
    "how", [Reposition.REPOSITION, pytest.param(Reposition.BLEND, marks=pytest.mark.slow)], ids=lambda how: how.value
)
def test_a_part_of_a_splice_can_be_spliced(filled: Engine, how: Reposition) -> None:
    engine = filled
    put(engine, ref("from"), Slice("three", 5), ref("one"), reposition=how, ratio=0.02)
    feed(engine, ref("from"), *PROMPT[:40], tokens=None)
    parts = (ref("two"), Slice("from", 20, 700), Slice("from", 560))
    put(engine, ref("hot"), *parts, reposition=how, ratio=0.02)
    engine.evict_agent(ref("from"))
    put(engine, ref("warm"), *parts, reposition=how, ratio=0.02)
    assert seen(engine, ref("hot")) == seen(engine, ref("warm")) == restored(engine, ref("hot"))


def test_a_part_is_the_same_whatever_its_agent_reads_later(filled: Engine) -> None:
    engine, parts = filled, (Slice("one", 3, 290), ref("two"))
    one = put(engine, ref("x"), *parts, order=Order.CANONICAL)
    feed(engine, ref("one"), *PROMPT[:100], tokens=None)
    other = put(engine, ref("y"), *parts, order=Order.CANONICAL)
    assert one.parts == other.parts
    assert engine.get_agent(ref("x")).blocks == engine.get_agent(ref("y")).blocks
    assert seen(engine, ref("x")) == seen(engine, ref("y"))


def test_canonical_order_does_not_depend_on_the_order_given(filled: Engine) -> None:
    engine, parts = filled, (ref("one"), ref("two"), Slice("three", 3, 280))
    one = put(engine, ref("x"), *parts, order=Order.CANONICAL)
    other = put(engine, ref("y"), *reversed(parts), order=Order.CANONICAL)
    assert seen(engine, ref("x")) == seen(engine, ref("y"))
    assert [(2 - number, start) for number, start in one.parts] == list(other.parts)
    put(engine, ref("z"), *(parts if one.parts[0][0] else reversed(parts)), order=Order.GIVEN)
    assert seen(engine, ref("x")) != seen(engine, ref("z"))


def test_what_goes_on_from_the_agents_own_timeline_is_a_handoff(filled: Engine) -> None:
    """A vote of one solver is a handoff to the selector."""
    engine = filled
    engine.fork_agent(A, "solver")
    feed(engine, ref("solver"), *PROMPT[37:300], tokens=5)
    engine.fork_agent(ref("solver"), "handoff")
    done = put(engine, A, Slice("solver", 37))
    assert done.usage.exactness is Exactness.EXACT
    for name in ("a", "handoff"):
        feed(engine, ref(name), *PROMPT[:9], tokens=None)
    assert seen(engine, A) == seen(engine, ref("handoff"))
    assert [b.key for b in engine.get_agent(A).blocks] == [b.key for b in engine.get_agent(ref("handoff")).blocks]


def test_exact_is_what_feeding_the_same_has(filled: Engine) -> None:
    engine = filled
    done = put(engine, A, Slice("one", 3, 290), ref("two"), reposition=Reposition.EXACT)
    assert done.usage.exactness is Exactness.EXACT
    feed(engine, ref("fed"), *PROMPT[:37], *DOCS["one"][3:290], *DOCS["two"], tokens=None)
    assert seen(engine, A) == seen(engine, ref("fed"))


def test_text_behind_a_splice_shares_nothing_with_the_same_text_elsewhere(filled: Engine) -> None:
    engine, text = filled, PROMPT[:600]
    put(engine, A, ref("one"))
    _, behind = feed(engine, A, *text, tokens=None)
    assert (behind.reused_hot_tokens, behind.prefill_tokens) == (337, 600)
    feed(engine, ref("plain"), *PROMPT[:37], *DOCS["one"], *text, tokens=None)
    keys = [{block.key for block in engine.get_agent(agent).blocks} for agent in (A, ref("plain"))]
    assert keys[0].isdisjoint(keys[1])
    # But what stands behind the same splice is the same.
    feed(engine, ref("like"), *PROMPT[:37], tokens=None)
    put(engine, ref("like"), ref("one"))
    assert feed(engine, ref("like"), *text, tokens=None)[1].prefill_tokens < 100
    assert seen(engine, A) == seen(engine, ref("like"))


def test_forks_and_rewinds_do_not_change_each_other(filled: Engine) -> None:
    engine = filled
    put(engine, A, ref("one"), ref("two"))
    feed(engine, A, *PROMPT[:290], tokens=3)
    before = seen(engine, A)
    engine.fork_agent(A, "b")
    engine.fork_agent(A, "at", at_turn=2)
    engine.prefetch_agent(ref("b"))
    assert seen(engine, ref("b")) == before
    feed(engine, ref("b"), *PROMPT[:20], tokens=3)
    feed(engine, ref("at"), *PROMPT[:290], tokens=3)
    assert seen(engine, ref("at")) == seen(engine, A) == before
    put(engine, ref("b"), Slice("a", 30, 200))
    assert seen(engine, A) == before
    engine.rewind_agent(A, 2)
    engine.prefetch_agent(A)
    feed(engine, A, *PROMPT[:290], tokens=3)
    assert seen(engine, A) == before
    engine.rewind_agent(A, 1)
    engine.prefetch_agent(A)
    feed(engine, A, *DOCS["one"], tokens=None)
    assert restored(engine, A) != before
    engine.rewind_agent(A, 3)
    engine.prefetch_agent(A)
    assert seen(engine, A) == before
    assert restored(engine, A) == before


def test_an_earlier_turn_is_only_what_the_timeline_goes_on_from(filled: Engine) -> None:
    """Not what has the same ids, spliced anew in another way; and a block that has grown since is the same."""
    engine = filled
    put(engine, A, ref("one"), reposition=Reposition.EXACT)
    put(engine, A, ref("two"))
    engine.rewind_agent(A, 1)
    put(engine, A, ref("one"))
    put(engine, A, ref("two"), reposition=Reposition.BLEND, ratio=0.1)
    for turn in (2, 3):
        with refused(Reason.INPUT_INVALID):
            put(engine, ref("x"), Slice("a", 20, turn=turn))
    put(engine, ref("whole"), Slice("one", 3, 290))
    feed(engine, ref("one"), *PROMPT[:500], tokens=None)
    put(engine, ref("earlier"), Slice("one", 3, 290, turn=1))
    assert seen(engine, ref("earlier")) == seen(engine, ref("whole"))
    put(engine, ref("spliced"), Slice("a", 20, turn=5))


@pytest.mark.parametrize("how", [Reposition.EXACT, Reposition.REPOSITION], ids=lambda how: how.value)
def test_a_message_that_is_open_where_a_part_ends_is_closed_by_the_next(engine: Engine, how: Reposition) -> None:
    """Whatever the part's agent read later."""
    chat = ChatInput((Message("user", ("hello",)),))
    run(engine, request(agent=ref("src"), input=chat, tokens=2))
    end = engine.get_agent(ref("src")).tokens
    run(engine, request(agent=ref("src"), input=chat, tokens=None))
    feed(engine, A, *PROMPT[:9], tokens=None)
    asked = {"open": Slice("src", turn=1), "cut": Slice("src", 0, end - 1, turn=1), "last": Slice("src")}
    for name, part in asked.items():
        engine.fork_agent(A, name)
        put(engine, ref(name), part, reposition=how)
    unclosed = {name: engine._context.memory.find(ref(name)).unclosed for name in asked}  # type: ignore[union-attr]
    assert unclosed == {"open": True, "cut": False, "last": engine._context.memory.find(ref("src")).unclosed}  # type: ignore[union-attr]


def test_a_splice_of_many_agents_does_not_make_ram_forget_its_own(
    engine: Engine, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else its state would stay in RAM, and nobody could evict it."""
    parts = [ref(f"part-{n}") for n in range(4)]
    for agent in (*parts, A):
        feed(engine, agent, *PROMPT[:9], tokens=None)
    engine.close()
    engine = Engine.open(settings)
    try:
        monkeypatch.setattr("agentmem.memory.lookup.WARM_KEPT", 2)
        with refused(Reason.INPUT_INVALID):
            put(engine, A, *parts, Slice("a", 5, 5))
        assert engine._context.memory.active() == set()
        put(engine, A, *parts)
        assert feed(engine, A, 7)[1].reused_hot_tokens == 9 + 4 * 9
        engine.evict_agent(A)
        assert engine.stats().hot_bytes == 0
    finally:
        engine.close()


@pytest.mark.parametrize("how", [Reposition.EXACT, Reposition.REPOSITION], ids=lambda how: how.value)
def test_an_agent_that_becomes_private_meanwhile_is_not_spliced(
    filled: Engine, monkeypatch: pytest.MonkeyPatch, how: Reposition
) -> None:
    """Be it that all of its parts are fed, or that the first is what follows in the agent's own timeline."""
    engine = filled
    engine.fork_agent(A, "solver")
    feed(engine, ref("solver"), *PROMPT[37:90], tokens=None)
    before, bring_back = seen(engine, A), SpliceTurn.bring_back

    def and_private(turn: SpliceTurn, agent: Agent) -> Iterator[object]:
        solver = engine._context.memory.find(ref("solver"))
        assert solver is not None
        solver.private = True
        yield from bring_back(turn, agent)

    monkeypatch.setattr(SpliceTurn, "bring_back", and_private)
    with refused(Reason.INPUT_INVALID):
        put(engine, A, Slice("solver", 37), reposition=how)
    assert seen(engine, A) == before


def test_what_cannot_be_spliced_is_refused(filled: Engine) -> None:
    engine = filled
    before = seen(engine, A)
    with refused(Reason.AGENT_NOT_FOUND):
        put(engine, A, ref("nobody"))
    for part in (Slice("one", 0, 301), Slice("one", 5, 5), Slice("one", -1, 5), Slice("one", 300)):
        with refused(Reason.INPUT_INVALID):
            put(engine, A, part)
    with refused(Reason.INPUT_INVALID):
        put(engine, A, ref("one"), reposition=Reposition.BLEND, check_layer=99)
    engine.update_agent(ref("one"), share=Share.PRIVATE)
    with refused(Reason.INPUT_INVALID):
        put(engine, A, ref("one"))
    with refused(Reason.TURN_MISMATCH):
        put(engine, A, ref("two"), expect_turn=7)
    with refused(Reason.AGENT_NOT_FOUND):
        put(engine, ref("new"), ref("two"), create=False)
    assert seen(engine, A) == before


def test_a_repeat_is_answered_with_what_was_made(filled: Engine) -> None:
    done = put(filled, A, ref("one"), ref("two"), request_id="r")
    again = put(filled, A, ref("one"), ref("two"), request_id="r")
    assert again.repeated_result
    assert (again.turn, again.parts) == (done.turn, done.parts)


def test_a_diff_tells_a_splice_from_text(filled: Engine) -> None:
    engine = filled
    for name in ("x", "y"):
        feed(engine, ref(name), *PROMPT[:37], tokens=None)
        put(engine, ref(name), ref("two"))
    assert engine.diff_agents(ref("x"), ref("y")).position == 107
    feed(engine, ref("z"), *PROMPT[:37], *DOCS["two"], tokens=None)
    diff = engine.diff_agents(ref("x"), ref("z"))
    assert (diff.position, diff.a_turn, diff.b_turn) == (37, 2, 1)


def test_agents_with_splices_say_in_a_batch_what_they_say_alone(filled: Engine) -> None:
    """Some have the same span at other positions, and one has none."""
    engine, names = filled, ["x", "y", "z"]
    feed(engine, ref("x"), *PROMPT[:60], tokens=None)
    for name in names[:2]:
        put(engine, ref(name), ref("three"), ref("one"))
    for name in names:
        feed(engine, ref(name), *PROMPT[9:50], tokens=None)
        engine.fork_agent(ref(name), f"{name}-alone")
    asked = [request(7, 8, tokens=24, agent=ref(name)) for name in names]
    alone = [said(run(engine, replace(one, agent=ref(f"{one.agent.name}-alone")))) for one in asked]
    with ThreadPoolExecutor(len(names)) as threads:
        spoken = list(threads.map(lambda one: said(run(engine, one)), asked))
    assert spoken == alone
    for name in names:
        assert seen(engine, ref(name)) == seen(engine, ref(f"{name}-alone"))

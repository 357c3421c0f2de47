"""Spans at a shift: what comes of it is attention over keys that were rotated for where they stand."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import mlx.core as mx
import numpy as np
import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.kv import alongside, fused
from agentmem.kv.batch import Batch
from agentmem.kv.rotation import Frequencies
from agentmem.kv.state import AgentState
from agentmem.latent.frequencies import frequencies
from agentmem.latent.splice import Part, splice
from agentmem.model.forward import decode, feed, last_logits
from agentmem.model.loader import LoadedModel
from agentmem.types import PrefillPath
from tests.latent.reference import Rows, block_diagonal, causal, error, forward, held
from tests.latent.states import ids, logits, part, prefilled, same

LENGTHS = (37, 60, 270, 70)
"""Of a prefix and three parts: none ends where a segment does."""


def _runs() -> list[list[int]]:
    return [ids(seed, length) for seed, length in enumerate(LENGTHS)]


def _spliced(model: LoadedModel, runs: list[list[int]]) -> AgentState:
    prefix, *parts = (prefilled(model, run) for run in runs)
    return splice(model, frequencies(model), prefix, [part(model, p) for p in parts]).state


def _behind(lengths: tuple[int, ...], count: int) -> np.ndarray:
    return block_diagonal(lengths, count)[-count:]


def test_fp_spliced_parts_are_a_prefill_under_a_block_diagonal_mask(
    unquantised: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, runs, text = unquantised, _runs(), ids(9, 6)
    want, _ = forward(model, [*chain(*runs), *text], block_diagonal(LENGTHS, len(text)))
    state = _spliced(model, runs)
    assert state.offset == sum(LENGTHS)
    assert error(logits(model, state, text), want[-len(text) :]) < 1e-5
    monkeypatch.setattr(Frequencies, "turn", lambda self, queries, shift: queries)  # the shift is left out
    assert error(logits(model, _spliced(model, runs), text), want[-len(text) :]) > 0.1


def test_fp_a_span_at_a_shift_is_keys_prefilled_there(unquantised: LoadedModel) -> None:
    """The keys and values of every layer, not what comes out at the end alone."""
    model, doc, text = unquantised, ids(1, 300), ids(2, 9)
    before = ids(3, 200)
    _, there = forward(model, before + doc + text, block_diagonal((200, 300), len(text)))
    state = _spliced(model, [before, doc])
    feed(model, state, text)
    for layer, (keys, values) in zip(state.full.layers, there, strict=True):
        (_, piece) = layer.pieces()[-1]
        for side, want in ((piece.keys, keys), (piece.values, values)):
            assert error(side[0][0][:, : len(text)], want[0, :, -len(text) :]) < 1e-5


def _rotated(model: LoadedModel, rows: Rows, start: int, shift: int) -> Rows:
    """Keys for `shift` positions further on, by the model's own rotations."""
    out = []
    for layer, (keys, values) in zip(model.network.layers, rows, strict=True):
        rope = layer.self_attn.rope
        moved = [
            rope(rope(keys[:, :, row : row + 1], offset=-start - row), offset=start + row + shift)
            for row in range(keys.shape[2])
        ]
        out.append((mx.concatenate(moved, axis=2), values))
    return out


def _joined(*parts: Rows) -> Rows:
    """One after the other."""
    return [
        (mx.concatenate([k for k, _ in sides], axis=2), mx.concatenate([v for _, v in sides], axis=2))
        for sides in zip(*parts, strict=True)
    ]


@pytest.mark.reference
def test_q4_a_splice_is_attention_over_the_dequantised_base(model: LoadedModel) -> None:
    runs, text = _runs(), ids(9, 6)
    states = [prefilled(model, run) for run in runs]
    bases = [held(model, state, 0, len(run)) for state, run in zip(states, runs, strict=True)]
    spliced = splice(model, frequencies(model), states[0], [part(model, s) for s in states[1:]])
    got, end = logits(model, spliced.state, text), sum(LENGTHS)
    own = held(model, spliced.state, end, end + len(text))
    starts = (0, *spliced.starts)
    moved = [_rotated(model, base, 0, start) for base, start in zip(bases, starts, strict=True)]
    for shifted, tolerable in ((moved, True), (bases, False)):
        rows = _joined(*shifted, own)
        want, _ = forward(model, text, _behind(LENGTHS, len(text)), end, rows)
        assert error(got, want) < 1e-5 if tolerable else error(got, want) > 0.1


@pytest.mark.reference
def test_the_part_of_a_solver_that_saw_the_question(one: LoadedModel) -> None:
    """Its rows begin inside a segment, and are attended to at the shift of where they came to stand."""
    question, text = ids(1, 300), ids(2, 5)
    root = prefilled(one, question)
    solvers = [root.fork() for _ in range(3)]
    for seed, solver in enumerate(solvers):
        feed(one, solver, ids(10 + seed, 40 + seed))
    bases = [held(one, solver, 300, solver.offset) for solver in solvers]
    spliced = splice(one, frequencies(one), root, [part(one, s, 300) for s in solvers])
    assert spliced.starts == (300, 340, 381)
    got = logits(one, spliced.state, text)
    own = held(one, spliced.state, 423, 428)
    moved = [_rotated(one, base, 300, start - 300) for base, start in zip(bases, spliced.starts, strict=True)]
    rows = _joined(held(one, root, 0, 300), *moved, own)
    want, _ = forward(one, text, causal(5, 423), 423, rows)
    assert error(got, want) < 1e-5


@pytest.mark.reference
def test_a_handoff_is_one_prefill_of_both(model: LoadedModel) -> None:
    a, b = ids(1, 500), ids(2, 30)
    whole = prefilled(model, a + b)
    handed = prefilled(model, a).fork()
    feed(model, handed, b)
    assert same(whole, handed)
    assert np.array_equal(logits(model, whole, b[:3]), logits(model, handed, b[:3]))


@pytest.mark.reference
def test_forks_and_splices_never_change_what_they_are_made_of(one: LoadedModel) -> None:
    """Nor one another, however their steps interleave."""
    made = prefilled(one, ids(1, 300))
    child, grandchild, doc = made.fork(), made.fork().fork(), prefilled(one, ids(2, 290))
    spliced = splice(one, frequencies(one), made, [part(one, doc)]).state
    doc.mark()
    family = {"made": made, "child": child, "grandchild": grandchild, "spliced": spliced}
    runs = {name: [ids(10 * seed + step, 17) for step in range(3)] for seed, name in enumerate(family, 1)}
    for step in range(3):
        for name in list(family)[:: -1 if step % 2 else 1]:
            feed(one, family[name], runs[name][step])
        assert doc.trim(280)  # its last rows are written anew
        feed(one, doc, ids(step, 10))
    for name in ("made", "child", "grandchild"):
        assert same(family[name], prefilled(one, ids(1, 300), *runs[name])), name
    assert same(doc, prefilled(one, ids(2, 280), ids(2, 10)))
    again = splice(one, frequencies(one), prefilled(one, ids(1, 300)), [part(one, prefilled(one, ids(2, 290)))]).state
    feed(one, again, [*chain(*runs["spliced"])])
    assert np.array_equal(logits(one, spliced, ids(7, 2)), logits(one, again, ids(7, 2)))


@pytest.mark.reference
@pytest.mark.parametrize("cuts", [pytest.param((1, 2, 3), marks=pytest.mark.slow), (186, 187, 257)])
def test_chunks_behind_a_splice_change_no_bit(one: LoadedModel, cuts: tuple[int, ...]) -> None:
    text, runs = ids(9, 260), _runs()
    whole, parts = _spliced(one, runs), _spliced(one, runs)
    feed(one, whole, text)
    for begin, end in zip((0, *cuts), (*cuts, 260), strict=True):
        feed(one, parts, text[begin:end])
        if begin == cuts[0]:
            parts = parts.fork()
    assert np.array_equal(logits(one, whole, text[:3]), logits(one, parts, text[:3]))


@pytest.mark.reference
@pytest.mark.parametrize("second_stream", [False, True])
def test_a_batch_of_splices_is_each_alone_and_shares_what_it_can(
    one: LoadedModel, second_stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One document at three positions, twice in one agent, and where it came from, in one pass."""
    monkeypatch.setattr(alongside, "helps", lambda units: second_stream and units > 2)
    turns = frequencies(one)
    doc, other = prefilled(one, ids(1, 512)), prefilled(one, ids(2, 90))

    def family() -> list[AgentState]:
        d, o = part(one, doc), part(one, other)
        made = [splice(one, turns, None, parts).state for parts in ((o, d), (o, o, d), (d, o, d), (o,), (d, o))]
        plain = doc.fork()
        return [*made, plain, prefilled(one, ids(3, 300))]

    together, alone = family(), family()
    for step in range(3):
        tokens = ids(step, len(together))
        got = np.array(decode(one, together, mx.array(tokens)))
        for place, (state, token) in enumerate(zip(alone, tokens, strict=True)):
            assert np.array_equal(got[place], np.array(decode(one, [state], mx.array([token])))[0]), place
        for state in (*together, *alone):
            state.evaluate()
    cache = Batch(together).layers[0]
    monkeypatch.setattr(alongside, "helps", lambda units: False)  # or else what is shared may be cut
    cache.update_and_fetch(*(mx.zeros((len(together), 2, 1, 64)) for _ in "kv"))
    ((_, plan),) = cache.plans(1, 4)
    shared = [stretch for stretch in plan.stretches if len(stretch.members) > 1]
    assert any(set(stretch.shifts) == {0, 90, 180} for stretch in shared)


@pytest.mark.reference
@pytest.mark.parametrize("before", [10, 300, 700])
def test_a_second_stream_knows_which_rows_are_used(
    one: LoadedModel, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, doc = frequencies(one), prefilled(one, ids(1, 900))
    state = splice(one, turns, prefilled(one, ids(2, before)), [part(one, doc, 100)]).state
    monkeypatch.setattr(alongside, "helps", lambda units: False)
    whole = logits(one, state.fork(), ids(3, 3))
    monkeypatch.setattr(alongside, "helps", lambda units: units > 1)
    assert np.array_equal(logits(one, state, ids(3, 3)), whole)


@pytest.mark.reference
def test_a_splice_of_a_splice_and_a_cut_span(one: LoadedModel) -> None:
    turns, runs, text = frequencies(one), [ids(1, 37), ids(2, 600), ids(3, 20)], ids(9, 4)
    a, b, c = (prefilled(one, run) for run in runs)
    inner = splice(one, turns, None, [part(one, b), part(one, c)]).state
    outer = splice(one, turns, a, [part(one, inner, 100)]).state
    flat = splice(one, turns, a, [part(one, b, 100), part(one, c)]).state
    whole = logits(one, outer.fork(), text)
    assert np.array_equal(whole, logits(one, flat, text))
    span = b.full.spans[0]
    halves = span.cut(1)
    for holder in list(span.holders):
        holder.replace(span, halves)
    assert outer.full.layers[0].spans[1].segments == 1
    assert np.array_equal(logits(one, outer, text), whole)


def test_bytes_of_a_span_are_held_once(one: LoadedModel) -> None:
    doc = prefilled(one, ids(1, 1024))
    doc.full.freeze()
    made = [splice(one, frequencies(one), prefilled(one, ids(n, n)), [part(one, doc)]).state for n in (3, 4)]
    assert all(state.full.spans[-1] is doc.full.spans[0] for state in made)
    twice = splice(one, frequencies(one), None, [part(one, doc), part(one, doc)]).state
    assert twice.offset == 2048
    assert twice.nbytes == doc.nbytes


def test_parts_of_another_model_are_refused(one: LoadedModel) -> None:
    state = prefilled(one, ids(1, 5))
    with pytest.raises(AgentmemError) as error:
        splice(one, frequencies(one), None, [Part(state, 0, 5, "another")])
    assert error.value.reason is Reason.MODEL_MISMATCH


def test_last_logits_do_not_move_the_shift(one: LoadedModel) -> None:
    """Tokens in one run, and one by one."""
    text = ids(9, 6)
    run, steps = _spliced(one, _runs()), _spliced(one, _runs())
    assert error(last_logits(one, run, text), logits(one, steps, text)[-1]) < 1e-6


def test_fp_a_fused_chunk_behind_a_splice_is_the_references_but_for_rounding(
    unquantised: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose rows lie out of order, some of them not the agent's, and their keys rotated for other positions."""
    taken, attend = [], fused.attend
    monkeypatch.setattr(fused, "attend", lambda *given: taken.append(0) or attend(*given))
    turns, doc = frequencies(unquantised), prefilled(unquantised, ids(1, 600))
    given = [part(unquantised, doc, 300, 590), part(unquantised, doc, 20, 500)]
    by_both = [splice(unquantised, turns, prefilled(unquantised, ids(2, 37)), given).state for _ in "ab"]
    said = []
    for path, state in zip((PrefillPath.REFERENCE, PrefillPath.FUSED), by_both, strict=True):
        model = replace(unquantised, prefill=path)
        feed(model, state, ids(9, 300))
        feed(model, state, ids(8, 40))
        said.append(logits(unquantised, state, ids(7, 2)))
    assert len(taken) == 2 * len(turns)
    assert error(said[1], said[0]) < 1e-5

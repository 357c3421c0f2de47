"""`run` and `bench primitives` against a daemon that answers what the test tells it to."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from agentmem.v1 import primitives_pb2, types_pb2
from tests.cli.conftest import Agentmem
from tests.client.scripted import ScriptedDaemon, fail

PLAN = (
    '{"version":1,"nodes":[{"id":"answer","type":"answer","params":{"medium":"text"},"inputs":[]}],"output":"answer"}'
)
Message = primitives_pb2.RunResponse


def opening(**fields: Any) -> Message:
    return Message(started=primitives_pb2.RunStarted(plan=PLAN, **fields))


def wrote(text: str, agent: str = "solver 1") -> Message:
    progress = primitives_pb2.RunProgress(
        node="answer", role="solver", agent=agent, activity=primitives_pb2.RUN_ACTIVITY_WRITING, text=text
    )
    return Message(progress=progress)


def finish(text: str, notes: tuple[str, ...] = (), pte: float | None = 120.4, tokens: int = 3) -> Message:
    role = primitives_pb2.RoleUsage(
        node="answer", role="solver", agents=2, generated_tokens=tokens, latent_steps=5, prefill_tokens=40,
        saved_tokens=70, seconds=0.25, bytes_read=1, bytes_written=2_000, pte=pte,
    )  # fmt: skip
    done = primitives_pb2.RunFinished(
        text=text, exactness=types_pb2.EXACTNESS_LATENT, roles=[role], notes=notes, seconds=1.5, seed=7, plan=PLAN
    )
    return Message(finished=done)


def script(daemon: ScriptedDaemon, *messages: Message) -> None:
    daemon.answers["Run"] = lambda request, context: messages


def test_run_prints_the_answer_alone(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    script(daemon, opening(), wrote(""), wrote("draft"), finish("the answer", ("Text was handed over.",)))
    result = agentmem("run", "what?")
    assert (result.code, result.out, result.err) == (0, "the answer\n", "Text was handed over.\n")
    (request,) = daemon.seen
    assert request == primitives_pb2.RunRequest(namespace="default", query="what?", priority=types_pb2.PRIORITY_NORMAL)


def test_every_option_is_sent(daemon: ScriptedDaemon, agentmem: Agentmem, tmp_path: Any) -> None:
    script(daemon, opening(), finish("x"))
    (tmp_path / "context").write_text("read this")
    options = (
        "-p plan_execute -m both -a mine -c CONTEXT --max-tokens 9 --latent-steps 0 --temperature 0.5 --rounds 2 "
        "--solvers 3 --executors 4 --seed 5 --priority high -n work"
    )
    words = options.replace("CONTEXT", str(tmp_path / "context")).split()
    assert agentmem("run", "-", *words, stdin=b"what?").code == 0
    assert daemon.seen == [
        primitives_pb2.RunRequest(
            namespace="work", query="what?", primitive=primitives_pb2.PRIMITIVE_PLAN_EXECUTE,
            medium=primitives_pb2.MEDIUM_BOTH, agent="mine", context="read this", max_tokens=9, latent_steps=0,
            temperature=0.5, rounds=2, solvers=3, executors=4, seed=5, priority=types_pb2.PRIORITY_HIGH,
        )
    ]  # fmt: skip
    agentmem("run", "what?", "--plan", "-", stdin=PLAN.encode())
    agentmem("run", "what?", "--compose")
    assert [(request.plan, request.compose) for request in daemon.seen[1:]] == [(PLAN, False), ("", True)]
    assert agentmem("run", "-", "--plan", "-").code == 2


def test_explain_says_who_does_what_and_what_it_cost(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    chosen = opening(why="It is short.", source=primitives_pb2.PLAN_SOURCE_POOL, entry_id="quick-fact")
    script(daemon, chosen, wrote(""), wrote("draft"), finish("x"))
    lines = agentmem("run", "what?", "--explain").err.splitlines()
    assert lines[:5] == [
        "plan: of the knowledge pool's entry quick-fact", "why: It is short.", "  answer: answer (medium text)",
        "  output: answer", "answer, solver 1: writing",
    ]  # fmt: skip
    assert lines[5].split()[:3] == ["NODE", "ROLE", "AGENTS"]
    assert lines[6].split() == "answer solver 2 3 5 40 70 250 ms 2.0 kB 120".split()
    assert lines[7] == "1.50 s in all, LATENT, seed 7"


def test_as_json(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    script(daemon, opening(), finish("x", pte=None))
    document = json.loads(agentmem("run", "what?", "--json").out)
    assert list(document) == ["text", "exactness", "roles", "notes", "seconds", "seed", "plan", "entry_id"]
    assert document["roles"][0]["pte"] is None
    assert document["exactness"] == "LATENT"


def test_ctrl_c_cancels_the_run(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    ended = Event()

    def endless(request: Any, context: Any) -> Iterator[Message]:
        context.add_callback(ended.set)
        yield opening()
        yield wrote("so far")
        os.kill(os.getpid(), signal.SIGINT)
        ended.wait(10)

    daemon.answers["Run"] = endless
    result = agentmem("run", "what?")
    assert (result.code, result.out, result.err) == (130, "", "cancelled\n")
    assert ended.wait(10)


TASKS = "\n".join(
    json.dumps(task)
    for task in (
        {"id": "a", "question": "one?", "answer": "Cedar-42", "context": "known"},
        {"id": "b", "question": "two?", "answer": ["nine", "9"]},
        {"id": "c", "question": "three?", "answer": "x"},
    )
).encode()


def test_bench_prints_a_table_and_one_json_object_last(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    def answer(request: Any, context: Any) -> list[Message]:
        if request.query == "three?":
            fail(context, "FAILED_PRECONDITION", "CONTEXT_OVERFLOW", "Too long.")
        notes = ("Text was handed over.",) if request.query == "two?" else ()
        return [opening(), finish("It is cedar-42." if request.query == "one?" else "It is 19.", notes)]

    daemon.answers["Run"] = answer
    result = agentmem("bench", "primitives", "--tasks", "-", "-p", "vote", "-m", "latent", "-m", "text", stdin=TASKS)
    assert result.code == 0
    *table, last = result.out.splitlines()
    assert table[0].split()[:3] == ["PRIMITIVE", "MEDIUM", "RIGHT"]
    assert table[1].split()[:7] == ["vote", "latent", "1/3", "33.3%", "6.1%", "to", "79.2%"]
    assert table[1].split()[7:9] == ["3.0", "5.0"]  # of a task that finished
    scores = json.loads(last)["scores"]
    assert [(s["medium"], s["tasks"], s["right"], s["notes"], s["failed"]) for s in scores] == [
        (medium, 3, 1, {"Text was handed over.": 1}, {"CONTEXT_OVERFLOW": 1}) for medium in ("latent", "text")
    ]
    assert scores[0]["interval"] == pytest.approx([0.0615, 0.7923], abs=1e-4)
    assert (scores[0]["generated_tokens"], scores[0]["pte"]) == (6, pytest.approx(240.8))
    assert [(r.query, r.context, r.seed) for r in daemon.seen[:3]] == [
        ("one?", "known", 0), ("two?", "", 0), ("three?", "", 0),
    ]  # fmt: skip
    assert "1 of 3 tasks failed [CONTEXT_OVERFLOW]" in result.err


def test_bench_stops_at_what_no_task_can_mend(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    result = agentmem("bench", "primitives", "--tasks", "-", "-p", "debate", stdin=TASKS)
    assert (result.code, result.out) == (2, "")
    assert agentmem("bench", "primitives", "--tasks", "-", "-m", "smoke", stdin=TASKS).code == 2
    for tasks, word in (
        (b"{", "Line 1 is not JSON"), (b'{"question": "x"}', "no answer"), (b'\n{"answer": "x"}', "Line 2"),
        (b"[]", "Line 1 is not a JSON object"), (b"", "no tasks"), (b'{"question": "x", "answer": [1]}', "no answer"),
    ):  # fmt: skip
        result = agentmem("bench", "primitives", "--tasks", "-", stdin=tasks)
        assert (result.code, result.out) == (1, "")
        assert word in result.err
        assert "TASKS_INVALID" in result.err
    assert daemon.seen == []


@pytest.mark.parametrize("interrupted", [True, False])
def test_bench_prints_what_was_measured_before_it_was_stopped(
    daemon: ScriptedDaemon, agentmem: Agentmem, interrupted: bool
) -> None:
    ended = Event()

    def answer(request: Any, context: Any) -> Iterator[Message]:
        yield opening()
        if request.query == "two?":
            if not interrupted:
                fail(context, "INVALID_ARGUMENT", "INPUT_INVALID", "No.")
            context.add_callback(ended.set)
            os.kill(os.getpid(), signal.SIGINT)
            ended.wait(10)
        yield finish("It is cedar-42.")

    daemon.answers["Run"] = answer
    result = agentmem("bench", "primitives", "--tasks", "-", "-p", "vote", stdin=TASKS)
    assert result.code == (130 if interrupted else 1)
    (score,) = json.loads(result.out.splitlines()[-1])["scores"]
    assert (score["tasks"], score["right"], score["finished"], score["failed"]) == (1, 1, 1, {})
    assert [request.query for request in daemon.seen] == ["one?", "two?"]

"""What `agentmem run --explain` says of the plan, and where it came from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentmem.v1 import primitives_pb2 as pb
from agentmem.v1 import types_pb2
from tests.cli.conftest import Agentmem
from tests.client.scripted import ScriptedDaemon

PLAN = {
    "version": 1,
    "nodes": [
        {"id": "draft", "type": "answer", "params": {"medium": "text"}, "inputs": []},
        {"id": "check", "type": "review", "params": {"medium": "both", "rounds": 2}, "inputs": ["draft"]},
    ],
    "output": "check",
}


def answer(daemon: ScriptedDaemon, **started: Any) -> None:
    events = [
        pb.RunResponse(started=pb.RunStarted(plan=json.dumps(PLAN), **started)),
        pb.RunResponse(progress=pb.RunProgress(node="draft", role="answer", agent="answer", activity=3)),
        pb.RunResponse(
            finished=pb.RunFinished(
                text="Done.", exactness=types_pb2.EXACTNESS_EXACT, plan=json.dumps(PLAN), entry_id="essay",
                roles=[pb.RoleUsage(role="organizer", agents=1, pte=7.4), pb.RoleUsage(node="draft", role="answer")],
            )
        ),
    ]  # fmt: skip
    daemon.answers["Run"] = lambda request, context: iter(events)


def test_where_the_plan_came_from(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    near = [pb.PoolEntry(id="essay", similarity=1), pb.PoolEntry(id="letter", similarity=0.333)]
    answer(daemon, source=pb.PLAN_SOURCE_POOL, entry_id="essay", why="Texts get better.", nearest=near, fallback="Hm.")
    result = agentmem("run", "write", "--explain")
    assert (result.code, result.out) == (0, "Done.\n")
    assert result.err.splitlines()[:8] == [
        "Hm.",
        "nearest in the knowledge pool: essay 1.00, letter 0.33",
        "plan: of the knowledge pool's entry essay",
        "why: Texts get better.",
        "  draft: answer (medium text)",
        "  check: review (medium both, rounds 2), reads draft",
        "  output: check",
        "draft, answer: writing",
    ]
    rows = [line.split() for line in result.err.splitlines()[9:11]]
    assert [(row[0], row[1], row[-1]) for row in rows] == [("-", "organizer", "7"), ("draft", "answer", "-")]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (pb.PLAN_SOURCE_MODEL, "plan: the model's\nwhy: so\n"),
        (pb.PLAN_SOURCE_DEFAULT, "the default"),
        (pb.PLAN_SOURCE_GIVEN, "plan: given"),
    ],
)
def test_other_origins(daemon: ScriptedDaemon, agentmem: Agentmem, source: pb.PlanSource, words: str) -> None:
    answer(daemon, source=source, why="so")
    assert words in agentmem("run", "write", "--explain").err


def test_a_plan_has_one_origin(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    for wrong in (["--compose", "-p", "vote"], ["--plan", "-", "-c", "-"], ["--plan", "x", "--compose"]):
        assert agentmem("run", "write", *wrong).code == 2
    assert daemon.seen == []

"""`log`, `fork`, `rewind`, `diff`: what they send, and what they print."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentmem.v1 import agents_pb2, types_pb2
from tests.cli.conftest import Agentmem
from tests.cli.test_commands import AGENT_KEYS, TURN_KEYS, an_agent
from tests.client.scripted import ScriptedDaemon, fail


def a_turn(number: int, kind: types_pb2.TurnKind, start: int, end: int, *said: str, role: str = "user") -> Any:
    messages = [
        types_pb2.TurnMessage(
            message=types_pb2.ChatMessage(role=role, parts=[types_pb2.ContentPart(text=text)]), start=start, end=end
        )
        for text in said
    ]
    return types_pb2.Turn(number=number, kind=kind, start=start, end=end, messages=messages)


TURNS = [
    a_turn(1, types_pb2.TURN_KIND_APPEND, 0, 290, "one\n two " + "x" * 60),
    a_turn(2, types_pb2.TURN_KIND_GENERATE, 290, 300, "hi", "ho"),
    a_turn(3, types_pb2.TURN_KIND_REWIND, 290, 290),
]


def test_log(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["ListTurns"] = lambda r, c: agents_pb2.ListTurnsResponse(turns=TURNS)
    result = agentmem("log", "bob")
    header, *rows = result.out.splitlines()
    assert header.split() == ["TURN", "KIND", "POSITIONS", "TOKENS", "FINISH", "WHEN", "SAID"]
    assert rows[0].split(maxsplit=6) == ["1", "APPEND", "0..290", "290", "-", "-", "user: one two " + "x" * 39 + "…"]
    assert rows[1].split()[-2:] == ["user:", "hi"]
    assert rows[2].split() == ["3", "REWIND", "290..290", "0", "-", "-", "-"]
    assert daemon.seen[0].include_messages


def test_log_as_json(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["ListTurns"] = lambda r, c: agents_pb2.ListTurnsResponse(turns=TURNS)
    document = json.loads(agentmem("log", "bob", "--json").out)
    assert list(document) == ["agent", "turns"]
    assert [list(turn) for turn in document["turns"]] == [[*TURN_KEYS, "messages"]] * 3
    assert [m["message"]["content"] for m in document["turns"][1]["messages"]] == ["hi", "ho"]


def test_an_agent_without_turns(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["ListTurns"] = lambda r, c: agents_pb2.ListTurnsResponse()
    result = agentmem("log", "bob")
    assert (result.code, result.out, result.err) == (0, "", "bob has no turns.\n")


def test_fork(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["ForkAgent"] = lambda r, c: agents_pb2.ForkAgentResponse(tokens_to_recompute=7)
    daemon.answers["GetAgent"] = lambda r, c: agents_pb2.GetAgentResponse(agent=an_agent("eve", turn=1))
    result = agentmem("fork", "bob", "eve", "--at", "2", "-n", "team")
    assert (result.code, result.out) == (0, "")
    assert result.err == "eve begins with 300 tokens, 7 of them to be recomputed. Its last turn is 1.\n"
    document = json.loads(agentmem("fork", "bob", "eve", "--json").out)
    assert list(document) == ["agent", "tokens_to_recompute"]
    assert list(document["agent"]) == AGENT_KEYS
    first, info, second, _ = daemon.seen
    assert (first.agent.namespace, first.agent.name, first.new_name, first.at_turn) == ("team", "bob", "eve", 2)
    assert (info.agent.name, second.HasField("at_turn")) == ("eve", False)


def test_rewind(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["RewindAgent"] = lambda r, c: agents_pb2.RewindAgentResponse(agent=an_agent(turn=4))
    result = agentmem("rewind", "bob", "--to", "0", "--json")
    assert result.err == "bob goes on with 300 tokens. Its last turn is 4.\n"
    document = json.loads(result.out)
    assert (document["agent"]["turn"], document["tokens_to_recompute"]) == (4, 0)
    assert daemon.seen[0].to_turn == 0


def test_a_turn_that_is_not_there(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["RewindAgent"] = lambda r, c: fail(c, "NOT_FOUND", "TURN_NOT_FOUND", "bob has no turn 9")
    result = agentmem("rewind", "bob", "--to", "9")
    assert (result.code, result.err) == (1, "error: Bob has no turn 9. [TURN_NOT_FOUND]\n")


@pytest.mark.parametrize(
    ("fields", "said", "rows"),
    [
        (
            {"position": 200, "a_turn": 2, "a_tokens": 300, "b_tokens": 200},
            "They part at position 200.\n",
            [["bob", "300", "200", "2"], ["eve", "200", "200", "-"]],
        ),
        ({"a_turn": 1, "b_turn": 1, "a_tokens": 3, "b_tokens": 2}, "They have nothing in common.\n", None),
        ({"position": 3, "a_tokens": 3, "b_tokens": 3}, "Their timelines are the same.\n", None),
    ],
)
def test_diff(
    daemon: ScriptedDaemon, agentmem: Agentmem, fields: dict[str, int], said: str, rows: list[list[str]] | None
) -> None:
    daemon.answers["DiffAgents"] = lambda r, c: agents_pb2.DiffAgentsResponse(**fields)
    result = agentmem("diff", "bob", "eve")
    assert (result.code, result.err) == (0, said)
    header, *found = result.out.splitlines()
    assert header.split() == ["AGENT", "TOKENS", "IN", "COMMON", "PARTS", "IN", "TURN"]
    assert rows is None or [row.split() for row in found] == rows


def test_diff_as_json(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["DiffAgents"] = lambda r, c: agents_pb2.DiffAgentsResponse(position=2, a_tokens=2, b_tokens=2)
    assert json.loads(agentmem("diff", "bob", "eve", "--json").out) == {
        "position": 2, "a_turn": 0, "b_turn": 0, "a_tokens": 2, "b_tokens": 2, "same": True,
    }  # fmt: skip

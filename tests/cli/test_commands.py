"""Commands against a daemon that answers what the test tells it to."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from agentmem.v1 import admin_pb2, agents_pb2, generation_pb2, latent_pb2, types_pb2
from tests.cli.conftest import Agentmem
from tests.client.scripted import ScriptedDaemon, delta, fail, opening, say

AGENT_KEYS = [
    "name", "namespace", "id", "turn", "tokens", "residency", "model_matches", "state_id", "create_time",
    "last_used_time", "disk_bytes", "ram_bytes", "exactness", "pinned", "expire_time", "share",
    "unsaved_turns",
]  # fmt: skip
TURN_KEYS = ["number", "kind", "start", "end", "create_time", "finish_reason", "exactness", "request_id"]


def an_agent(name: str = "bob", **fields: Any) -> agents_pb2.Agent:
    ref = types_pb2.AgentRef(namespace="default", name=name)
    known = {"turn": 2, "tokens": 300, "residency": types_pb2.RESIDENCY_HOT, "model_matches": True, "disk_bytes": 2500}
    return agents_pb2.Agent(ref=ref, exactness=types_pb2.EXACTNESS_EXACT, **{**known, **fields})


def list_them(daemon: ScriptedDaemon, *agents: agents_pb2.Agent) -> None:
    daemon.answers["ListAgents"] = lambda request, context: agents_pb2.ListAgentsResponse(agents=agents)


def test_ls(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    list_them(daemon, an_agent("a very long name " * 10), an_agent("eve", model_matches=False))
    result = agentmem("ls")
    assert result.code == 0
    header, first, second = result.out.splitlines()
    assert header.split() == ["NAME", "STATE", "TURNS", "TOKENS", "RAM", "DISK", "LAST", "USED"]
    assert first.startswith("a very long name " * 10)
    assert first.split()[-8:] == ["hot", "2", "300", "0", "B", "2.5", "kB", "-"]
    assert "other model" in second


def test_ls_as_json(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    list_them(daemon, an_agent())
    document = json.loads(agentmem("ls", "--json").out)
    assert list(document) == ["agents"]
    assert list(document["agents"][0]) == AGENT_KEYS
    assert document["agents"][0]["residency"] == "HOT"


def test_nothing_to_list(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    list_them(daemon)
    result = agentmem("ls")
    assert (result.code, result.out) == (0, "")
    assert "agentmem chat" in result.err
    assert json.loads(agentmem("ls", "--json").out) == {"agents": []}


def test_ps_asks_for_hot_agents_of_the_namespace(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    list_them(daemon, an_agent())
    agentmem("-n", "work", "ps")
    agentmem("ps", "-n", "play")
    agentmem("-n", "work", "ls", "-n", "play")
    agentmem("ls")
    assert [(r.namespace, r.hot_only) for r in daemon.seen] == [
        ("work", True), ("play", True), ("play", False), ("default", False),
    ]  # fmt: skip


def script_show(daemon: ScriptedDaemon) -> None:
    blocks = [
        agents_pb2.BlockUse(key="ab" * 32, kind=types_pb2.BLOCK_KIND_TEXT, start=0, used=256, bytes=165_736),
        agents_pb2.BlockUse(key="cd" * 32, kind=types_pb2.BLOCK_KIND_TEXT, start=256, used=44, bytes=30_000),
    ]
    turns = [
        types_pb2.Turn(number=1, kind=types_pb2.TURN_KIND_APPEND, start=0, end=290),
        types_pb2.Turn(
            number=2, kind=types_pb2.TURN_KIND_GENERATE, start=290, end=300, finish_reason=types_pb2.FINISH_REASON_STOP
        ),
    ]
    model = admin_pb2.ModelInfo(name="m", context_limit=2048)
    daemon.answers["GetAgent"] = lambda r, c: agents_pb2.GetAgentResponse(agent=an_agent(blocks=blocks))
    daemon.answers["ListTurns"] = lambda r, c: agents_pb2.ListTurnsResponse(turns=turns)
    daemon.answers["GetStatus"] = lambda r, c: admin_pb2.GetStatusResponse(phase="SERVING", model=model)


def test_show(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    script_show(daemon)
    out = agentmem("show", "bob").out
    rows = [line.split() for line in out.splitlines()]
    assert ["1", "APPEND", "0..290", "290", "-", "-"] in rows
    assert ["2", "GENERATE", "290..300", "10", "STOP", "-"] in rows
    assert ["abababababab", "TEXT", "0", "256", "165736"] in rows
    assert ["tokens", "300", "of", "2048", "(15%)"] in rows
    assert rows[7:10] == [["pinned", "no"], ["expires", "never"], ["shares", "with", "its", "namespace"]]
    assert ["blocks", "2", "(196", "kB)"] in rows


def test_show_as_json(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    script_show(daemon)
    document = json.loads(agentmem("--json", "show", "bob").out)
    assert list(document) == ["agent", "turns", "totals"]
    assert list(document["agent"]) == [*AGENT_KEYS, "blocks"]
    assert [list(turn) for turn in document["turns"]] == [TURN_KEYS] * 2
    assert document["agent"]["blocks"][1] == {
        "key": "cd" * 32, "kind": "TEXT", "start": 256, "used": 44, "bytes": 30_000,
    }  # fmt: skip
    assert document["totals"] == {
        "tokens": 300, "context_limit": 2048, "turns": 2, "blocks": 2, "block_bytes": 195_736, "disk_bytes": 2500,
        "ram_bytes": 0,
    }  # fmt: skip


def test_an_error_is_one_line_with_its_reason(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["GetAgent"] = lambda r, c: fail(c, "NOT_FOUND", "AGENT_NOT_FOUND", "there is no such agent")
    result = agentmem("show", "bob", "--json")
    assert (result.code, result.out, result.err) == (1, "", "error: There is no such agent. [AGENT_NOT_FOUND]\n")


def test_rm(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    def delete(request: Any, context: Any) -> agents_pb2.DeleteAgentResponse:
        if request.agent.name == "nobody":
            fail(context, "NOT_FOUND", "AGENT_NOT_FOUND", "There is no such agent.")
        return agents_pb2.DeleteAgentResponse(freed_bytes=5000)

    daemon.answers["DeleteAgent"] = delete
    refused = agentmem("rm", "bob")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert not daemon.seen
    done = agentmem("rm", "--yes", "--json", "nobody", "bob")
    assert done.code == 1  # the others go all the same
    assert json.loads(done.out) == {"deleted": [{"agent": "bob", "freed_bytes": 5000}]}
    assert "[AGENT_NOT_FOUND]" in done.err
    assert not any(request.dry_run for request in daemon.seen)


def test_rm_can_be_rehearsed(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["DeleteAgent"] = lambda r, c: agents_pb2.DeleteAgentResponse(freed_bytes=5000)
    rehearsed, done = agentmem("rm", "bob", "--dry-run", "--json"), agentmem("rm", "bob", "-y", "--json")
    assert (rehearsed.code, rehearsed.out) == (done.code, done.out) == (0, done.out)
    assert (rehearsed.err, done.err) == ("Would forget bob (5.0 kB).\n", "Forgot bob (5.0 kB freed).\n")
    assert [request.dry_run for request in daemon.seen] == [True, False]


def appended(request: Any, context: Any) -> generation_pb2.AppendResponse:
    return generation_pb2.AppendResponse(turn=3, durable=True, usage=types_pb2.Usage(prompt_tokens=9, prefill_tokens=4))


def test_append(daemon: ScriptedDaemon, agentmem: Agentmem, tmp_path: Path) -> None:
    daemon.answers["Append"] = appended
    text = tmp_path / "text.txt"
    text.write_bytes("naïve\r\n".encode())
    result = agentmem("append", "bob", str(text))
    assert (result.code, result.out) == (0, "")
    assert result.err == "bob remembers 9 tokens, 4 of them computed now.\n"
    assert json.loads(agentmem("append", "bob", "-", "--raw", "--json", stdin=b"raw").out)["turn"] == 3
    chat, raw = daemon.seen
    (message,) = chat.input.chat.messages
    assert (message.role, message.parts[0].text, chat.create) == ("user", "naïve\r\n", True)
    assert raw.input.text == "raw"
    assert chat.durability == generation_pb2.DURABILITY_DURABLE


def test_append_behind(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["Append"] = lambda request, context: generation_pb2.AppendResponse(turn=3)
    result = agentmem("append", "bob", "-", "--write-behind", "--priority", "low", "--json", stdin=b"text")
    assert (result.code, json.loads(result.out)["durable"]) == (0, False)
    assert result.err == "turn 3 is in RAM, and will be on disk soon\n"
    assert daemon.seen[0].durability == generation_pb2.DURABILITY_WRITE_BEHIND
    assert daemon.seen[0].priority == types_pb2.PRIORITY_LOW


def test_splice(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    usage = types_pb2.Usage(prompt_tokens=90, prefill_tokens=4, exactness=types_pb2.EXACTNESS_BLENDED)
    parts = [latent_pb2.SplicedPart(part=1, start=7), latent_pb2.SplicedPart(part=0, start=19)]
    daemon.answers["Splice"] = lambda request, context: latent_pb2.SpliceResponse(
        turn=3, durable=True, usage=usage, parts=parts
    )
    result = agentmem("splice", "bob", "a:b:3-", "c", "--reposition", "blend", "--ratio", "0.5")
    assert (result.code, result.out) == (0, "")
    assert result.err == "bob remembers 90 tokens, 4 of them computed now: c at 7, a:b:3- at 19 (blended).\n"
    assert json.loads(agentmem("splice", "bob", "c:-9", "--json").out)["parts"][0] == {"part": 1, "start": 7}
    given, plain = daemon.seen
    assert [(part.agent, part.start, part.HasField("end")) for part in given.parts] == [
        ("a:b", 3, False),
        ("c", 0, False),
    ]
    assert (given.reposition, given.ratio, plain.HasField("ratio")) == (latent_pb2.REPOSITION_BLEND, 0.5, False)
    assert [(part.agent, part.start, part.end) for part in plain.parts] == [("c", 0, 9)]
    assert agentmem("splice", "bob").code == agentmem("splice", "bob", "c", "--ratio", "2").code == 2


@pytest.mark.parametrize(
    ("name", "written"),
    [("c", "c"), ("notes:1-3", "notes:1-3:-"), ("notes:-", "notes:-:-"), ("a:b", "a:b"), ("x:1-3:-", "x:1-3:-:-")],
)
def test_any_name_can_be_that_of_a_part(
    daemon: ScriptedDaemon, agentmem: Agentmem, tmp_path: Path, name: str, written: str
) -> None:
    """Where it ends like a range, by leaving out both ends of one behind it: `span add` says so."""
    daemon.answers["CreateAgent"] = lambda request, context: agents_pb2.CreateAgentResponse(
        agent={"ref": request.agent}
    )
    daemon.answers["Append"] = lambda request, context: generation_pb2.AppendResponse(turn=1, durable=True)
    daemon.answers["Splice"] = lambda request, context: latent_pb2.SpliceResponse(turn=3, durable=True)
    (tmp_path / "doc.txt").write_text("Rules.")
    told = agentmem("span", "add", name, str(tmp_path / "doc.txt")).err
    assert told.endswith(f"agentmem splice AGENT {written}\n")
    assert agentmem("splice", "bob", written, f"{name}:2-4").code == 0
    assert [(part.agent, part.start, part.HasField("end")) for part in daemon.seen[-1].parts] == [
        (name, 0, False),
        (name, 2, True),
    ]


def test_span(daemon: ScriptedDaemon, agentmem: Agentmem, tmp_path: Path) -> None:
    daemon.answers["CreateAgent"] = lambda request, context: agents_pb2.CreateAgentResponse(
        agent={"ref": request.agent}
    )
    daemon.answers["Append"] = lambda request, context: generation_pb2.AppendResponse(
        turn=1, durable=True, usage=types_pb2.Usage(prompt_tokens=9)
    )
    (tmp_path / "doc.txt").write_text("Rules.")
    result = agentmem("span", "add", "rules", str(tmp_path / "doc.txt"))
    assert (result.code, result.err.partition(";")[0]) == (0, "rules has 9 tokens")
    made, read = daemon.seen
    assert (made.agent.name, read.agent.name, read.input.text, read.create) == ("rules", "rules", "Rules.", False)

    def agent(name: str, turn: int) -> agents_pb2.Agent:
        return agents_pb2.Agent(ref=types_pb2.AgentRef(name=name), turn=turn)

    def turns(request: agents_pb2.ListTurnsRequest, context: object) -> agents_pb2.ListTurnsResponse:
        role = "text" if request.agent.name == "rules" else "user"
        entry = types_pb2.TurnMessage(message=types_pb2.ChatMessage(role=role))
        turn = types_pb2.Turn(number=1, kind=types_pb2.TURN_KIND_APPEND, messages=[entry])
        return agents_pb2.ListTurnsResponse(turns=[turn])

    listed = [agent("rules", 1), agent("talked-to", 1), agent("went-on", 2)]
    daemon.answers["ListAgents"] = lambda request, context: agents_pb2.ListAgentsResponse(agents=listed)
    daemon.answers["ListTurns"] = turns
    assert [one["name"] for one in json.loads(agentmem("span", "list", "--json").out)["agents"]] == ["rules"]


def test_a_span_that_cannot_be_read_leaves_no_agent(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    def refuse(request: object, context: Any) -> None:
        fail(context, "INVALID_ARGUMENT", "CONTEXT_OVERFLOW", "Too long.")

    daemon.answers["CreateAgent"] = lambda request, context: agents_pb2.CreateAgentResponse()
    daemon.answers["Append"] = refuse
    daemon.answers["DeleteAgent"] = lambda request, context: agents_pb2.DeleteAgentResponse()
    result = agentmem("span", "add", "rules", "-", stdin=b"Rules.")
    assert (result.code, result.err) == (1, "error: Too long. [CONTEXT_OVERFLOW]\n")
    *_, deleted = daemon.seen
    assert isinstance(deleted, agents_pb2.DeleteAgentRequest)
    assert deleted.agent.name == "rules"
    daemon.answers["CreateAgent"] = lambda request, context: fail(context, "ALREADY_EXISTS", "AGENT_EXISTS", "Taken.")
    assert agentmem("span", "add", "rules", "-", stdin=b"Rules.").code == 1
    assert [type(request).__name__ for request in daemon.seen[3:]] == ["CreateAgentRequest"]  # another's stays


def test_think(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    usage = types_pb2.Usage(prompt_tokens=9, latent_steps=5, exactness=types_pb2.EXACTNESS_LATENT)
    daemon.answers["Think"] = lambda request, context: latent_pb2.ThinkResponse(turn=3, durable=True, usage=usage)
    result = agentmem("think", "bob", "--steps", "5", "--text", "Why?", "--projection", "softmax")
    assert (result.code, result.out) == (0, "")
    assert result.err == "bob took 5 latent steps; it remembers 14 positions.\n"
    assert json.loads(agentmem("think", "bob", "--steps", "5", "--json").out)["usage"]["latent_steps"] == 5
    assert ", 5 latent steps" in agentmem("think", "bob", "--steps", "5", "--stats").err
    given, alone, _ = daemon.seen
    (message,) = given.input.chat.messages
    assert (message.role, message.parts[0].text, given.create, given.steps) == ("user", "Why?", True, 5)
    assert (given.projection, alone.projection) == (latent_pb2.PROJECTION_SOFTMAX, latent_pb2.PROJECTION_RIDGE)
    assert (alone.HasField("input"), alone.create) == (False, False)
    assert agentmem("think", "bob").code == agentmem("think", "bob", "--steps", "0").code == 2


def test_a_file_that_is_not_utf8_is_not_sent(
    daemon: ScriptedDaemon, agentmem: Agentmem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.bin"
    text.write_bytes("é".encode() + b"\xff!")
    result = agentmem("append", "bob", str(text))
    assert result.code == 1
    assert result.err == (
        f"error: {text} is not valid UTF-8: byte 0xff at offset 2. Nothing was sent. [INVALID_UTF8]\n"
    )
    assert "[INVALID_UTF8]" in agentmem("chat", "bob", "-", stdin=b"\xc3").err
    assert "[INVALID_UTF8]" in agentmem("chat", "bob", os.fsdecode(b"a\xff")).err
    assert "[FILE_UNREADABLE]" in agentmem("append", "bob", str(tmp_path)).err
    monkeypatch.chdir(tmp_path)
    said = agentmem("append", "bob", "none.txt").err  # names are said as they are
    assert said == "error: none.txt cannot be read: No such file or directory. [FILE_UNREADABLE]\n"
    assert not daemon.seen


def test_chat_sends_what_it_is_told(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["Generate"] = lambda r, c: iter(say("Hel", "lo"))
    options = "--system S --temperature 0.5 --top-p 0.9 --top-k 4 --seed 7 --max-tokens 9 --stop a --stop b --rebuild"
    result = agentmem("chat", "bob", "hi", *options.split())
    assert (result.code, result.out) == (0, "Hello\n")
    assert result.err == "warning: Recomputed. [BLOCK_CORRUPT]\n"
    (request,) = daemon.seen
    assert [(m.role, m.parts[0].text) for m in request.input.chat.messages] == [("system", "S"), ("user", "hi")]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) == (0.5, 0.9, 4, 7)
    assert (sampling.max_tokens, list(sampling.stop), request.rebuild) == (9, ["a", "b"], True)


def test_chat_sends_a_schema_from_a_file(daemon: ScriptedDaemon, agentmem: Agentmem, tmp_path: Path) -> None:
    daemon.answers["Generate"] = lambda r, c: iter(say("1"))
    (tmp_path / "schema.json").write_text('{"type": "integer"}')
    assert agentmem("chat", "bob", "hi", "--json-schema", str(tmp_path / "schema.json")).code == 0
    assert daemon.seen[0].sampling.json_schema == '{"type": "integer"}'
    missing = agentmem("chat", "bob", "hi", "--json-schema", str(tmp_path / "none.json"))
    assert (missing.code, len(daemon.seen)) == (1, 1)
    assert "none.json cannot be read" in missing.err


@pytest.mark.parametrize("arguments", [["-"], []])
def test_chat_reads_standard_input(daemon: ScriptedDaemon, agentmem: Agentmem, arguments: list[str]) -> None:
    daemon.answers["Generate"] = lambda r, c: iter(say("Hi\n"))
    assert agentmem("chat", "bob", *arguments, stdin="zwei\nZeilen ä".encode()).out == "Hi\n"
    assert daemon.seen[0].input.chat.messages[0].parts[0].text == "zwei\nZeilen ä"


def test_chat_as_json(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["Generate"] = lambda r, c: iter(say("Hel", "lo"))
    document = json.loads(agentmem("chat", "bob", "hi", "--json").out)
    assert list(document) == [
        "text", "turn", "finish_reason", "stop_sequence", "usage", "timings", "durable", "warnings", "seed",
        "repeated_result", "request_id", "token_ids",
    ]  # fmt: skip
    assert document["text"] == "Hello"
    assert document["usage"]["reused_warm_tokens"] == 300


def test_chat_behind(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    def answer(request: Any, context: Any) -> Iterator[Any]:
        *before, last = say("Hello")
        last.finished.durable = False
        yield from (*before, last)

    daemon.answers["Generate"] = answer
    result = agentmem("chat", "bob", "hi", "--write-behind", "--priority", "high")
    assert result.out == "Hello\n"
    assert "turn 1 is in RAM" in result.err
    assert daemon.seen[0].durability == generation_pb2.DURABILITY_WRITE_BEHIND
    assert daemon.seen[0].priority == types_pb2.PRIORITY_HIGH


def test_chat_stats_go_to_stderr(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["Generate"] = lambda r, c: iter(say("Hello"))
    result = agentmem("chat", "bob", "hi", "--stats")
    assert result.out == "Hello\n"
    assert "300 from disk" in result.err
    assert "250 ms to the first token" in result.err
    assert "44 tokens from position 256 [BLOCK_CORRUPT]" in result.err


def test_a_stream_that_breaks_off_keeps_what_came(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    def answer(request: Any, context: Any) -> Iterator[Any]:
        yield from (opening(), delta("Hel"))
        fail(context, "DATA_LOSS", "BLOCK_UNRECOVERABLE", "Turn 2 is lost.")

    daemon.answers["Generate"] = answer
    result = agentmem("chat", "bob", "hi")
    assert (result.code, result.out) == (1, "Hel\n")
    assert result.err == "error: Turn 2 is lost. [BLOCK_UNRECOVERABLE]\n"


def test_ctrl_c_cancels_the_stream(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    cancelled = Event()

    def answer(request: Any, context: Any) -> Iterator[Any]:
        context.add_callback(cancelled.set)
        yield from (opening(), delta("Hel"))
        os.kill(os.getpid(), signal.SIGINT)
        while context.is_active():
            yield delta("lo")

    daemon.answers["Generate"] = answer
    result = agentmem("chat", "bob", "hi")
    assert result.code == 130
    assert result.out == "" or result.out.endswith("\n")  # how much came before the signal is a matter of luck
    assert "cancelled" in result.err
    assert cancelled.wait(10)

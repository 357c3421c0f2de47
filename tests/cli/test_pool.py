"""`agentmem pool`: what it sends and prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentmem.v1 import primitives_pb2 as pb
from tests.cli.conftest import Agentmem
from tests.client.scripted import ScriptedDaemon


def entry(id: str = "essay", **fields: Any) -> pb.PoolEntry:
    known = {"title": "An essay", "source": "shipped", "plan": "{}", "tags": ["text"]}
    return pb.PoolEntry(id=id, **{**known, **fields})


def test_list(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    pages = {
        "": pb.ListPoolResponse(entries=[entry(outcomes=2, mean_score=0.75)], next_page_token="p"),
        "p": pb.ListPoolResponse(entries=[entry("learned-1", source="learned")]),
    }
    daemon.answers["ListPool"] = lambda r, c: pages[r.page_token]
    rows = [line.split() for line in agentmem("pool", "list").out.splitlines()]
    assert rows == [
        ["ID", "TITLE", "SOURCE", "SCORED", "MEAN"],
        ["essay", "An", "essay", "shipped", "2", "0.75"],
        ["learned-1", "An", "essay", "learned", "0", "-"],
    ]
    document = json.loads(agentmem("pool", "list", "--json").out)
    assert list(document["entries"][0]) == [
        "id", "title", "description", "tags", "plan", "why", "source", "outcomes", "mean_score", "similarity",
    ]  # fmt: skip
    assert document["entries"][0]["tags"] == ["text"]


def test_list_what_is_nearest(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    daemon.answers["ListPool"] = lambda r, c: pb.ListPoolResponse(entries=[entry(similarity=0.5)])
    assert agentmem("pool", "list", "write an essay").out.splitlines()[1].split()[-1] == "0.50"
    assert (daemon.seen[0].query, daemon.seen[0].page_size) == ("write an essay", 5)
    daemon.answers["ListPool"] = lambda r, c: pb.ListPoolResponse()
    nothing = agentmem("pool", "list", "zzzyzx")
    assert (nothing.code, nothing.out) == (0, "")
    assert "nothing like it" in nothing.err


def test_record_and_forget(daemon: ScriptedDaemon, agentmem: Agentmem, tmp_path: Path) -> None:
    known = entry("learned-1", outcomes=3, mean_score=0.5)
    daemon.answers["RecordOutcome"] = lambda r, c: pb.RecordOutcomeResponse(entry=known)
    daemon.answers["ForgetOutcome"] = lambda r, c: pb.ForgetOutcomeResponse(forgotten=r.entry_id == "learned-1")
    (tmp_path / "plan.json").write_text('{"version": 1}')
    done = agentmem(
        "pool", "record", "why?", "--plan", str(tmp_path / "plan.json"), "--score", "0.5", "--entry", "essay"
    )
    assert (done.code, done.err) == (0, "learned-1: scored 3 times, 0.50 on average.\n")
    (sent,) = daemon.seen
    assert (sent.query, sent.plan, sent.score, sent.entry_id) == ("why?", '{"version": 1}', 0.5, "essay")
    assert sent.request_id
    assert agentmem("pool", "record", "why?", "--plan", "-", "--score", "1.5", stdin=b"{}").code == 2
    assert agentmem("pool", "forget", "learned-1").code == 0
    assert agentmem("pool", "forget", "essay").code == 1


def test_export_and_import(daemon: ScriptedDaemon, agentmem: Agentmem, tmp_path: Path) -> None:
    file = tmp_path / "pool.jsonl"
    daemon.answers["ExportPool"] = lambda r, c: iter(
        [pb.ExportPoolResponse(chunk=b"a\n"), pb.ExportPoolResponse(chunk=b"b\n")]
    )
    got: list[bytes] = []

    def take(stream: Any, context: object) -> pb.ImportPoolResponse:
        got.extend(message.chunk for message in stream)
        return pb.ImportPoolResponse(changed=1)

    daemon.answers["ImportPool"] = take
    assert agentmem("pool", "export", str(file)).code == 0
    assert file.read_bytes() == b"a\nb\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert agentmem("pool", "export", str(file)).code != 0  # nobody there to ask whether to replace it
    assert agentmem("pool", "export", str(file), "--yes").code == 0
    done = agentmem("pool", "import", str(file))
    assert (done.code, done.err) == (0, "1 entry came or changed.\n")
    assert b"".join(got) == b"a\nb\n"
    assert agentmem("pool", "import", str(tmp_path / "none")).code == 1

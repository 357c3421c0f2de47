"""`prune`, `df`, `verify`, `namespace`, `export`, `import`: what they send, what they print, and when they ask."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from agentmem_daemon.cli.app import run

from agentmem.v1 import admin_pb2, agents_pb2, maintenance_pb2, types_pb2
from tests.cli.conftest import Agentmem
from tests.cli.test_commands import AGENT_KEYS, an_agent
from tests.client.scripted import ScriptedDaemon, fail

BOB = types_pb2.AgentRef(namespace="default", name="bob")
PRUNED = [
    maintenance_pb2.Pruned(kind="AGENT", agent=BOB, turn=3, freed_bytes=5000),
    maintenance_pb2.Pruned(kind="ORPHAN", freed_bytes=200),
]


def script_prune(daemon: ScriptedDaemon, *pruned: maintenance_pb2.Pruned) -> None:
    daemon.answers["Prune"] = lambda r, c: maintenance_pb2.PruneResponse(pruned=pruned)


def test_prune_prints_the_same_list_dry_and_real(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    script_prune(daemon, *PRUNED)
    for as_json in ([], ["--json"]):
        rehearsed = agentmem("prune", "--older-than", "30d", "--dry-run", *as_json)
        done = agentmem("prune", "--older-than", "30d", "--yes", *as_json)
        assert (rehearsed.code, rehearsed.out) == (done.code, done.out) == (0, done.out)
        assert rehearsed.err == "5.2 kB would be freed. A dry run: nothing was deleted.\n"
        assert done.err == "5.2 kB freed.\n"
    document = json.loads(done.out)
    assert list(document) == ["pruned", "freed_bytes"]
    assert document["pruned"][0] == {
        "kind": "AGENT", "agent": "bob", "namespace": "default", "turn": 3, "freed_bytes": 5000,
    }  # fmt: skip
    rows = [line.split() for line in agentmem("prune", "-y").out.splitlines()]
    assert rows == [
        ["WHAT", "AGENT", "TURN", "FREED"],
        ["agent", "bob", "-", "5.0", "kB"],
        ["orphan", "-", "-", "200", "B"],
    ]
    assert [(r.older_than.seconds, r.dry_run) for r in daemon.seen[:2]] == [(30 * 86_400, True), (30 * 86_400, False)]
    assert daemon.seen[-1].WhichOneof("what") is None


def test_what_prune_is_told(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    script_prune(daemon)
    agentmem("prune", "--expired", "-y", "-n", "team")
    result = agentmem("prune", "--history", "bob", "-y", "--json")
    assert (json.loads(result.out), result.err) == ({"pruned": [], "freed_bytes": 0}, "There is nothing to prune.\n")
    expired, history = daemon.seen
    assert (expired.namespace, expired.expired, history.history_of) == ("team", True, "bob")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code", "runs"), [("y\n", 0, [True, False]), ("n\n", 1, [True])])
def test_prune_shows_the_list_before_it_asks(
    daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any, answer: str, code: int, runs: list[bool]
) -> None:
    script_prune(daemon, *PRUNED)
    monkeypatch.setattr(sys, "argv", ["agentmem", "--socket", str(daemon.socket), "prune", "--expired"])
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert run() == code
    printed = capsys.readouterr()
    assert "bob" in printed.err.partition("Delete these for good (5.2 kB)?")[0]
    assert ("bob" in printed.out) == (code == 0)
    assert [request.dry_run for request in daemon.seen] == runs


def test_df(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    agents = [
        maintenance_pb2.AgentDiskUsage(agent=name, exclusive_bytes=1000, shared_bytes=7000, record_bytes=30)
        for name in ("bob", "eve")
    ]
    team = maintenance_pb2.NamespaceDiskUsage(namespace="team", agents=agents, shared_bytes=7000, total_bytes=9060)
    usage = maintenance_pb2.GetDiskUsageResponse(namespaces=[team], orphaned_bytes=500, total_bytes=9560)
    usage.budget_bytes = 20_000
    daemon.answers["GetDiskUsage"] = lambda r, c: usage
    result = agentmem("df")
    rows = [line.split() for line in result.out.splitlines()]
    assert rows[1] == ["team", "bob", "1.0", "kB", "7.0", "kB", "30", "B"]
    assert ["namespace", "team", "9.1", "kB", "7.0", "kB", "shared"] in rows
    assert ["orphaned", "500", "B", "agentmem", "prune"] in rows
    assert ["total", "9.6", "kB"] in rows
    assert rows[-1] == ["budget", "20", "kB", "for", "the", "namespaces,", "45%", "used"]
    document = json.loads(agentmem("-n", "team", "df", "--json").out)
    assert list(document) == [
        "namespaces", "orphaned_bytes", "quarantined_bytes", "catalog_bytes", "total_bytes", "budget_bytes",
    ]  # fmt: skip
    assert list(document["namespaces"][0]) == ["namespace", "agents", "shared_bytes", "total_bytes"]
    assert document["namespaces"][0]["agents"][1] == {
        "agent": "eve", "exclusive_bytes": 1000, "shared_bytes": 7000, "record_bytes": 30,
    }  # fmt: skip


def test_events(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    answer = maintenance_pb2.ListEventsResponse()
    daemon.answers["ListEvents"] = lambda r, c: answer
    empty = agentmem("events")
    assert (empty.code, empty.out, empty.err) == (0, "", "Nothing happened.\n")
    recomputed = answer.events.add(number=7, kind="BLOCK_RECOMPUTED", agent=BOB, reason="BLOCK_EVICTED", end=300)
    recomputed.time.FromSeconds(0)
    answer.events.add(number=8, kind="STARTED", reason="UNCLEAN")
    rows = [line.split() for line in agentmem("events", "--agent", "bob", "-n", "team").out.splitlines()]
    assert rows[0] == ["WHEN", "WHAT", "NAMESPACE", "AGENT", "BYTES", "POSITIONS", "REASON"]
    assert rows[1][2:] == ["BLOCK_RECOMPUTED", "default", "bob", "-", "0..300", "BLOCK_EVICTED"]
    assert rows[2] == ["-", "STARTED", "-", "-", "-", "-", "UNCLEAN"]
    document = json.loads(agentmem("-n", "team", "events", "--since", "2h", "--json").out)
    assert document["events"][0] == {
        "number": 7, "time": "1970-01-01T00:00:00+00:00", "kind": "BLOCK_RECOMPUTED", "agent": "bob",
        "namespace": "default", "reason": "BLOCK_EVICTED", "bytes": 0, "start": 0, "end": 300,
    }  # fmt: skip
    whole, some, recent = daemon.seen
    assert (whole.HasField("namespace"), whole.agent, whole.HasField("since")) == (False, "", False)
    assert (some.namespace, some.agent, recent.namespace) == ("team", "bob", "team")
    assert abs(recent.since.ToSeconds() - time.time() + 7200) < 60


def test_verify(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    report = maintenance_pb2.VerifyResponse(blocks=3, records=2, bytes=5000)
    daemon.answers["Verify"] = lambda r, c: report
    result = agentmem("verify")
    assert (result.code, result.out) == (0, "")
    assert result.err == "Checked 3 blocks and 2 records (5.0 kB): all is as it was written.\n"
    report.problems.add(kind="BLOCK", reason="BLOCK_CORRUPT", namespace="team", agent="bob", turn=2)
    found = agentmem("verify")
    assert found.code == 1
    assert found.out.splitlines()[1].split() == ["block", "team", "bob", "2", "BLOCK_CORRUPT"]
    assert found.err.endswith(": 1 problem.\n")
    report.repaired = 1
    mended = agentmem("verify", "--repair", "-n", "team", "--json")
    assert (mended.code, mended.err.endswith(": 1 problem, 1 mended.\n")) == (0, True)
    assert list(json.loads(mended.out)) == ["blocks", "records", "bytes", "problems", "repaired", "ok"]
    assert [(r.HasField("namespace"), r.namespace, r.repair) for r in daemon.seen] == [
        (False, "", False), (False, "", False), (True, "team", True),
    ]  # fmt: skip


def test_namespaces(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    namespaces = [admin_pb2.Namespace(name="default", agents=3), admin_pb2.Namespace(name="team")]
    daemon.answers["ListNamespaces"] = lambda r, c: admin_pb2.ListNamespacesResponse(namespaces=namespaces)
    daemon.answers["CreateNamespace"] = lambda r, c: admin_pb2.CreateNamespaceResponse()
    assert [line.split() for line in agentmem("namespace", "ls").out.splitlines()] == [
        ["NAMESPACE", "AGENTS", "CREATED"], ["default", "3", "-"], ["team", "0", "-"],
    ]  # fmt: skip
    assert json.loads(agentmem("--json", "namespace", "ls").out)["namespaces"][0] == {
        "name": "default", "create_time": None, "agents": 3,
    }  # fmt: skip
    assert json.loads(agentmem("namespace", "create", "team", "--json").out) == {"namespace": "team"}
    assert daemon.seen[-1].name == "team"


def test_a_namespace_is_removed(daemon: ScriptedDaemon, agentmem: Agentmem) -> None:
    def delete(request: Any, context: Any) -> admin_pb2.DeleteNamespaceResponse:
        if not request.force:
            fail(context, "FAILED_PRECONDITION", "NAMESPACE_NOT_EMPTY", "It has 2 agents.")
        return admin_pb2.DeleteNamespaceResponse(agents=2, freed_bytes=5000)

    daemon.answers["DeleteNamespace"] = delete
    unasked = agentmem("namespace", "rm", "team")
    assert (unasked.code, "--yes" in unasked.err, daemon.seen) == (2, True, [])
    refused = agentmem("namespace", "rm", "team", "-y", "--json")
    assert (refused.code, refused.out, refused.err) == (1, "", "error: It has 2 agents. [NAMESPACE_NOT_EMPTY]\n")
    rehearsed = agentmem("namespace", "rm", "team", "--force", "--dry-run", "--json")
    done = agentmem("namespace", "rm", "team", "--force", "-y", "--json")
    assert json.loads(done.out) == {"namespace": "team", "agents": 2, "freed_bytes": 5000}
    assert (rehearsed.code, rehearsed.out, done.code) == (0, done.out, 0)
    assert rehearsed.err == "Would remove team (2 agents, 5.0 kB).\n"
    assert done.err == "Removed team (2 agents, 5.0 kB freed).\n"
    assert [(r.name, r.force, r.dry_run) for r in daemon.seen] == [
        ("team", False, False), ("team", True, True), ("team", True, False),
    ]  # fmt: skip


def test_export_and_import(daemon: ScriptedDaemon, agentmem: Agentmem, tmp_path: Path) -> None:
    daemon.answers["ExportAgent"] = lambda r, c: [agents_pb2.ExportAgentResponse(chunk=b"abc")]
    daemon.answers["ImportAgent"] = lambda r, c: agents_pb2.ImportAgentResponse(agent=an_agent("eve"))
    file = tmp_path / "bob.agentmem"
    result = agentmem("export", "bob", str(file), "--json")
    assert json.loads(result.out) == {"agent": "bob", "file": str(file), "bytes": 3}
    refused = agentmem("export", "bob", str(file))
    assert (refused.code, "--yes" in refused.err) == (2, True)
    assert agentmem("export", "bob", str(file), "-y").err == f"bob is in {file} (3 B).\n"
    done = agentmem("import", str(file), "--as", "eve", "--text-only", "-n", "team", "--json")
    assert list(json.loads(done.out)["agent"]) == AGENT_KEYS
    assert done.err == "eve remembers 300 tokens.\n"
    header, chunk = daemon.seen[-1]
    assert (header.header.agent.name, header.header.agent.namespace, header.header.text_only) == ("eve", "team", True)
    assert chunk.chunk == b"abc"


def test_files_that_cannot_be(daemon: ScriptedDaemon, agentmem: Agentmem, tmp_path: Path) -> None:
    daemon.answers["ExportAgent"] = lambda r, c: [agents_pb2.ExportAgentResponse(chunk=b"abc")]
    daemon.answers["ImportAgent"] = lambda r, c: fail(c, "INVALID_ARGUMENT", "IMPORT_INVALID", "It was changed.")
    for result in (
        agentmem("export", "bob", str(tmp_path / "no" / "folder")),
        agentmem("export", "-y", "bob", str(tmp_path)),
    ):
        assert (result.code, result.err.endswith("[FILE_UNWRITABLE]\n")) == (1, True)
    for missing in (tmp_path / "none", tmp_path):
        result = agentmem("import", str(missing))
        assert (result.code, result.err.endswith("[FILE_UNREADABLE]\n")) == (1, True)
    (tmp_path / "file").write_bytes(b"x")
    assert agentmem("import", str(tmp_path / "file")).err == "error: It was changed. [IMPORT_INVALID]\n"

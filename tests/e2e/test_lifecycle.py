"""Pins, time to live, eviction, export and import, disk usage, verification, namespaces, and the doctor."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from agentmem_client import AgentExists, AgentmemError, Client, FailedPrecondition, ModelMismatch, NotFound, Reply

from tests.helpers.checkpoints import ALL, Spec, with_other_weights
from tests.helpers.daemon import Daemon

pytestmark = pytest.mark.reference

IDS = [5 + i % 470 for i in range(600)]
OTHER_IDS = [7 + i % 333 for i in range(600)]


def said(client: Client, name: str, ids: list[int], space: str = "default") -> Reply:
    return client.agent(name, space).generate(token_ids=ids, max_tokens=8, include_token_ids=True)


def names(client: Client, space: str) -> list[str]:
    return [agent.name for agent in client.agents(space)]


def block_files(daemon: Daemon) -> set[Path]:
    return set(daemon.state.glob("blocks/**/*.safetensors"))


def test_pinned_agents_survive_prune(client: Client, shared: Daemon, space: str) -> None:
    for name in ("a", "b", "kept"):
        client.agent(name, space).append(token_ids=[*IDS[:300], ord(name[0])])
    assert client.agent("kept", space).pin().pinned
    files = block_files(shared)
    would_go = client.prune(space, older_than=0, dry_run=True)
    assert [(p.kind, p.agent, p.namespace) for p in would_go if p.kind == "AGENT"] == [
        ("AGENT", "a", space), ("AGENT", "b", space),
    ]  # fmt: skip
    assert (names(client, space), block_files(shared)) == (["a", "b", "kept"], files)
    assert client.prune(space, older_than=0) == would_go
    assert names(client, space) == ["kept"]
    assert sum(p.freed_bytes for p in would_go) > 0
    assert block_files(shared) < files
    assert said(client, "kept", [3], space).usage.recomputed_tokens == 0
    client.agent("kept", space).unpin()
    client.prune(space, older_than=0)
    assert names(client, space) == []


def test_only_what_is_old_enough_is_pruned(client: Client, space: str) -> None:
    client.agent("young", space).append(token_ids=[1])
    assert not [p for p in client.prune(space, older_than=3600) if p.kind == "AGENT"]
    assert names(client, space) == ["young"]


def test_an_expired_agent_goes_with_the_next_prune(client: Client, space: str) -> None:
    short = client.agent("short", space)
    before = time.time()
    info = short.create(ttl=0.2)
    assert info.expire_time is not None
    assert before <= info.expire_time.timestamp() <= time.time() + 0.3
    short.append(token_ids=[1])
    client.agent("long", space).create(ttl=3600)
    client.agent("saved", space).create(ttl=0.2)
    assert client.agent("saved", space).update(ttl=0).expire_time is None
    client.agent("pinned", space).create(ttl=0.2, pinned=True)
    time.sleep(0.4)
    assert short.info().tokens == 1  # it can be used until it is pruned
    would_go = client.prune(space, expired=True, dry_run=True)
    assert "short" in names(client, space)
    assert client.prune(space, expired=True) == would_go
    assert [p.agent for p in would_go if p.kind == "AGENT"] == ["short"]
    assert names(client, space) == ["long", "pinned", "saved"]


def test_rm_leaves_no_trace(client: Client, shared: Daemon, space: str) -> None:
    marker = "xyzzy-plugh-4712"
    files = block_files(shared)
    agent = client.agent(marker, space)
    agent.chat(f"my password is {marker} " * 20, max_tokens=4)
    freed = agent.delete(dry_run=True)
    assert names(client, space) == [marker]
    assert agent.delete() == freed > 0
    assert block_files(shared) == files
    assert not [p for p in shared.state.rglob("*") if p.is_file() and marker.encode() in p.read_bytes()]


def test_evict_to_warm(client: Client, space: str) -> None:
    agent = client.agent("a", space)
    agent.append(token_ids=IDS)
    assert agent.info().residency == "HOT"
    would = agent.evict(dry_run=True)
    assert agent.info().residency == "HOT"
    assert agent.evict() == would
    assert (would.ram_bytes > 0, would.disk_bytes) == (True, 0)
    info = agent.info()
    assert (info.residency, info.ram_bytes, info.tokens) == ("WARM", 0, 600)
    reply = said(client, "a", [3], space)
    assert (reply.usage.reused_warm_tokens, reply.usage.recomputed_tokens) == (600, 0)
    assert reply.token_ids == said(client, "cold", [*IDS, 3], space).token_ids


def test_evict_to_cold(client: Client, shared: Daemon, space: str) -> None:
    before = block_files(shared)
    agent = client.agent("a", space)
    agent.append(token_ids=IDS)
    files = block_files(shared)
    would = agent.evict("cold", dry_run=True)
    assert block_files(shared) == files
    assert agent.evict("cold") == would
    assert would.disk_bytes > 0
    assert block_files(shared) == before
    assert agent.info().residency == "COLD"
    reply = said(client, "a", [3], space)
    assert reply.usage.recomputed_tokens == 600
    assert reply.token_ids == said(client, "cold", [*IDS, 3], space).token_ids
    agent.evict()
    assert said(client, "a", [4], space).usage.recomputed_tokens == 0  # it is on disk again


def test_evicting_to_cold_hurts_nobody_else(client: Client, space: str) -> None:
    client.agent("a", space).append(token_ids=IDS)
    client.agent("a", space).fork("b")
    client.agent("a", space).evict("cold")
    client.agent("b", space).evict()
    assert said(client, "b", [3], space).usage.recomputed_tokens == 0


def test_prefetch(client: Client, space: str) -> None:
    agent = client.agent("a", space)
    agent.append(token_ids=IDS)
    agent.evict()
    done = agent.prefetch()
    assert (done.hot_tokens, done.warm_tokens, done.recomputed_tokens) == (0, 600, 0)
    assert done.bytes_read > 0
    assert agent.info().residency == "HOT"
    assert agent.prefetch().hot_tokens == 600
    assert said(client, "a", [3], space).usage.reused_hot_tokens == 600


def test_an_exported_agent_goes_on_elsewhere(
    client: Client, space: str, daemon_on: Callable[..., Daemon], shared: Daemon, tmp_path: Path
) -> None:
    agent, file = client.agent("a", space), tmp_path / "a.agentmem"
    agent.chat("the quick brown fox " * 30, max_tokens=8)
    agent.append(token_ids=IDS[:200])
    tokens = agent.info().tokens
    assert agent.export(file) == file.stat().st_size
    wanted = agent.chat("jumps over", max_tokens=8).text
    agent.delete()

    back = client.import_agent(file, namespace=space)
    assert (back.name, back.tokens, back.model_matches) == ("a", tokens, True)
    elsewhere = daemon_on(shared.model, name="elsewhere").start()
    assert elsewhere.import_agent(file, "renamed").name == "renamed"
    for handle in (agent, elsewhere.agent("renamed")):
        said_before = [m.message for t in handle.turns(include_messages=True) for m in t.messages]
        assert said_before[0].content == "the quick brown fox " * 30
        reply = handle.chat("jumps over", max_tokens=8)
        assert (reply.text, reply.usage.recomputed_tokens, reply.warnings) == (wanted, 0, ())


def test_an_import_takes_no_name_that_is_taken(client: Client, space: str, tmp_path: Path) -> None:
    agent = client.agent("a", space)
    agent.append(token_ids=[1, 2, 3])
    agent.export(tmp_path / "file")
    with pytest.raises(AgentExists):
        client.import_agent(tmp_path / "file", namespace=space)
    for _ in range(2):
        assert client.import_agent(tmp_path / "file", "b", space, request_id=f"import-{space}").tokens == 3
    assert names(client, space) == ["a", "b"]


def test_a_changed_file_is_refused(client: Client, space: str, tmp_path: Path) -> None:
    client.agent("a", space).append(token_ids=IDS[:300])
    client.agent("a", space).export(tmp_path / "sound")
    sound, rng = (tmp_path / "sound").read_bytes(), random.Random(3)
    flipped = []
    for _ in range(60):
        data = bytearray(sound)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        flipped.append(bytes(data))
    cut = [sound[: rng.randrange(len(sound))] for _ in range(20)]
    for number, data in enumerate([*flipped, *cut, b"", b"x", sound[:-1], sound + b"\0", sound + sound, sound[::-1]]):
        (tmp_path / "changed").write_bytes(data)
        with pytest.raises(AgentmemError) as caught:
            client.import_agent(tmp_path / "changed", "b", space)
        assert (caught.value.reason, caught.value.code) == ("IMPORT_INVALID", "INVALID_ARGUMENT"), number
    assert names(client, space) == ["a"]
    assert not client.verify(space).problems
    assert client.import_agent(tmp_path / "sound", "b", space).tokens == 300


def test_another_model_takes_only_the_text(
    client: Client, space: str, daemon_on: Callable[..., Daemon], shared: Daemon, tmp_path: Path
) -> None:
    client.agent("a", space).append(token_ids=IDS)
    client.agent("a", space).export(tmp_path / "file")
    assert shared.model is not None
    other = daemon_on(with_other_weights(shared.model, tmp_path / "other", ALL[0]), name="elsewhere").start()
    with pytest.raises(ModelMismatch) as caught:
        other.import_agent(tmp_path / "file")
    assert caught.value.reason == "MODEL_MISMATCH"
    assert not [*other.agents()]
    assert other.import_agent(tmp_path / "file", text_only=True).tokens == 600
    reply = said(other, "a", [3])
    assert reply.usage.recomputed_tokens == 600
    assert reply.token_ids == said(other, "cold", [*IDS, 3]).token_ids


def test_df_adds_up_to_what_lies_on_disk(checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]) -> None:
    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    client.agent("a").append(token_ids=IDS[:512])
    client.agent("a").fork("b").append(token_ids=[3, 4])
    client.agent("c", "team").append(token_ids=OTHER_IDS)
    usage = client.disk_usage()
    spaces = {n.namespace: n for n in usage.namespaces}
    a, b = spaces["default"].agents
    assert (a.agent, b.agent, spaces["team"].agents[0].agent) == ("a", "b", "c")
    assert a.shared_bytes == b.shared_bytes == spaces["default"].shared_bytes > 0
    assert (a.exclusive_bytes, spaces["team"].shared_bytes) == (0, 0)
    assert b.exclusive_bytes > 0
    on_disk = [
        p for p in daemon.state.rglob("*") if p.is_file() and p.parts[len(daemon.state.parts)] in ("blocks", "turns")
    ]
    assert sum(p.stat().st_size for p in on_disk) == sum(n.total_bytes for n in usage.namespaces) + usage.orphaned_bytes
    assert usage.total_bytes >= sum(n.total_bytes for n in usage.namespaces) + usage.catalog_bytes
    assert usage.orphaned_bytes == 0


def test_verify_finds_what_is_damaged_and_repair_mends_it(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    client.agent("a").append(token_ids=IDS)
    client.agent("b").append(token_ids=OTHER_IDS)
    report = client.verify()
    assert (report.ok, report.problems, report.blocks, report.records) == (True, (), 6, 2)
    assert report.bytes > 0
    key = client.agent("a").info().blocks[1].key
    daemon.kill()
    file = next(daemon.state.glob(f"blocks/**/{key}.safetensors"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    client = daemon.start()
    for _ in range(2):  # looking changes nothing
        report = client.verify()
        (problem,) = report.problems
        assert (problem.kind, problem.namespace, problem.agent, report.repaired) == ("BLOCK", "default", "a", 0)
        assert file.read_bytes() == data
    assert client.verify(repair=True).ok
    assert not client.verify().problems
    reply = said(client, "a", [3])
    assert reply.usage.recomputed_tokens <= 256
    assert reply.token_ids == said(client, "cold", [*IDS, 3]).token_ids


def test_namespaces_share_nothing(client: Client, space: str) -> None:
    other = f"{space}-2"
    for name in (space, other, other):
        client.create_namespace(name)
    client.agent("a", space).append(token_ids=IDS)
    usage = client.agent("a", other).append(token_ids=IDS).usage
    assert (usage.reused_hot_tokens, usage.reused_warm_tokens, usage.prefill_tokens) == (0, 0, 600)
    keys = [{block.key for block in client.agent("a", name).info().blocks} for name in (space, other)]
    assert not keys[0] & keys[1]
    assert {n.name: n.agents for n in client.namespaces()}.items() >= {space: 1, other: 1}.items()


def test_a_namespace_that_was_removed_is_no_more(client: Client, space: str) -> None:
    client.agent("a", space).append(token_ids=IDS)
    with pytest.raises(FailedPrecondition) as refused:
        client.delete_namespace(space)
    assert refused.value.reason == "NAMESPACE_NOT_EMPTY"
    would = client.delete_namespace(space, force=True, dry_run=True)
    assert client.delete_namespace(space, force=True, request_id="gone") == would
    assert (would.agents, would.freed_bytes > 0) == (1, True)
    assert space not in {namespace.name for namespace in client.namespaces()}
    with pytest.raises(NotFound):
        client.delete_namespace(space)
    usage = client.agent("a", space).append(token_ids=IDS).usage
    assert (usage.reused_hot_tokens, usage.reused_warm_tokens, usage.prefill_tokens) == (0, 0, 600)
    assert client.delete_namespace(space, force=True, request_id="gone") == would, "a repeat removes nothing"
    assert client.agent("a", space).info().turn == 1


def test_a_private_agent_neither_gives_nor_takes(client: Client, space: str) -> None:
    private = client.agent("private", space)
    assert private.create(share="private").share == "PRIVATE"
    private.append(token_ids=IDS)
    taken = client.agent("public", space).append(token_ids=IDS).usage
    assert (taken.reused_hot_tokens, taken.reused_warm_tokens) == (0, 0)


def doctor(daemon: Daemon) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "agentmem_daemon.cli",
        "--json",
        "doctor",
        "--rebuild",
        "--state",
        str(daemon.state),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_doctor_makes_a_lost_catalog_anew(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    client.agent("a").append(token_ids=IDS[:300])
    first = said(client, "a", [3])
    client.agent("a").fork("b", at_turn=1)
    client.agent("a").rewind(1)
    refused = doctor(daemon)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "[STORE_LOCKED]" in refused.stderr
    daemon.kill()
    for file in daemon.state.glob("catalog.sqlite*"):
        file.unlink()
    done = doctor(daemon)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["agents"], report["turns"], report["set_aside"], report["problems"]) == (2, 4, None, [])
    client = daemon.start()
    for name in ("a", "b"):
        reply = said(client, name, [3])
        assert (reply.token_ids, reply.usage.recomputed_tokens) == (first.token_ids, 0)

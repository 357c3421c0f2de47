"""What the engine says arrives whole on the wire."""

from __future__ import annotations

import pytest
from agentmem_daemon import responses

from agentmem.engine.request import Delta, Finished, ReusePlan, Started
from agentmem.engine.status import AgentView, BlockView
from agentmem.engine.views import (
    LayerInfo,
    ModelInfo,
    TurnView,
)
from agentmem.store.problems import Problem, ProblemKind
from agentmem.store.rows import AgentUsage, DiskUsage, NamespaceUsage, Pruned, PrunedKind
from agentmem.store.verify import Verified
from agentmem.types import (
    AgentRef,
    BlockKind,
    Exactness,
    FinishReason,
    Message,
    PrefixMiss,
    Residency,
    Share,
    Timings,
    ToolCall,
    TurnKind,
    TurnMessage,
    Usage,
    Warning,
)
from agentmem.v1 import types_pb2

USAGE = Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, Exactness.LATENT, [PrefixMiss(256, 12, "BLOCK_CORRUPT")])
TIMINGS = Timings(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
WARNINGS = (Warning("BLOCK_CORRUPT", "mended"),)


def test_agent() -> None:
    view = AgentView(
        AgentRef("team", "🙂"), "id1", 2, 300, Residency.WARM, True, "sid", 1700000000.25, 1700000001.5, 10, 20,
        blocks=(BlockView("k1", "TEXT", 0, 256, 99),), pinned=True, expires=1800000000.0, share=Share.PRIVATE,
        unsaved_turns=3,
    )  # fmt: skip
    agent = responses.agent(view)
    assert (agent.ref.namespace, agent.ref.name, agent.id) == ("team", "🙂", "id1")
    assert (agent.pinned, agent.share, agent.expire_time.seconds) == (True, types_pb2.SHARE_PRIVATE, 1800000000)
    assert (agent.turn, agent.tokens, agent.model_matches, agent.state_id) == (2, 300, True, "sid")
    assert (agent.residency, agent.exactness) == (types_pb2.RESIDENCY_WARM, types_pb2.EXACTNESS_EXACT)
    assert (agent.create_time.ToMilliseconds(), agent.last_used_time.ToMilliseconds()) == (1700000000250, 1700000001500)
    assert (agent.disk_bytes, agent.ram_bytes, agent.unsaved_turns) == (10, 20, 3)
    block = agent.blocks[0]
    assert (block.key, block.kind, block.start, block.used, block.bytes) == (
        "k1",
        types_pb2.BLOCK_KIND_TEXT,
        0,
        256,
        99,
    )


@pytest.mark.parametrize("include", [True, False])
def test_turn(include: bool) -> None:
    message = Message("assistant", ("a", "b"), (ToolCall("1", "look", "{}"),), "", "why")
    view = TurnView(
        4, TurnKind.GENERATE, 10, 20, 5.0, FinishReason.LENGTH, Exactness.EXACT, "r", (TurnMessage(message, 10, 18),)
    )
    turn = responses.turn(view, include_messages=include)
    assert (turn.number, turn.kind, turn.start, turn.end) == (4, types_pb2.TURN_KIND_GENERATE, 10, 20)
    assert (turn.finish_reason, turn.request_id) == (types_pb2.FINISH_REASON_LENGTH, "r")
    assert len(turn.messages) == include
    if include:
        assert (turn.messages[0].start, turn.messages[0].end) == (10, 18)
        sent = turn.messages[0].message
        assert (sent.role, [p.text for p in sent.parts], sent.reasoning) == ("assistant", ["a", "b"], "why")
        assert sent.tool_calls[0] == types_pb2.ToolCall(id="1", name="look", arguments="{}")


def test_started_and_finished() -> None:
    started = responses.generate_event(Started(3, 1, ReusePlan(10, 4, 5, 1), "r"), False)
    assert started is not None
    plan = started.started.plan
    assert (started.started.turn, started.started.queue_position, started.started.request_id) == (3, 1, "r")
    assert (plan.remembered_tokens, plan.hot_tokens, plan.warm_tokens, plan.cold_tokens) == (10, 4, 5, 1)

    event = Finished(3, FinishReason.STOP_SEQUENCE, "END", USAGE, TIMINGS, True, WARNINGS, 2**64 - 1, True)
    message = responses.generate_event(event, False)
    assert message is not None
    finished, appended = message.finished, responses.append_response(event)
    assert (finished.finish_reason, finished.stop_sequence) == (types_pb2.FINISH_REASON_STOP_SEQUENCE, "END")
    assert finished.seed == 2**64 - 1
    for sent in (finished, appended):
        assert (sent.turn, sent.durable, sent.repeated_result) == (3, True, True)
        assert (sent.usage.prompt_tokens, sent.usage.bytes_written) == (1, 9)
        assert sent.usage.exactness == types_pb2.EXACTNESS_LATENT
        assert sent.usage.misses[0] == types_pb2.PrefixMiss(position=256, tokens=12, reason="BLOCK_CORRUPT")
        assert (sent.timings.queue_s, sent.timings.commit_s) == (0.1, 0.6)
        assert sent.warnings[0] == types_pb2.Warning(reason="BLOCK_CORRUPT", message="mended")


def test_deltas_carry_ids_only_if_asked() -> None:
    with_ids, without = (responses.generate_event(Delta("é", (1, 2)), include) for include in (True, False))
    assert with_ids is not None
    assert without is not None
    assert (with_ids.delta.text, list(with_ids.delta.token_ids), list(without.delta.token_ids)) == ("é", [1, 2], [])
    assert responses.generate_event(Delta("", (1,)), False) is None
    assert responses.generate_event(Delta("", (1,)), True) is not None


def test_model_info() -> None:
    layers = (LayerInfo(0, 3, "full_attention", 2, 64, 4, 64),)
    info = ModelInfo("m", "llama", "sid", "tid", 2048, "fast", "fused", 0.25, "cpu", "float32", layers, 7_000_000, 640)
    sent = responses.model_info(info)
    assert (sent.name, sent.context_limit, sent.bytes, sent.bytes_per_token) == ("m", 2048, 7_000_000, 640)
    assert (sent.numerics, sent.prefill_path, sent.logit_tolerance) == ("fast", "fused", 0.25)
    assert (sent.layers[0].last, sent.layers[0].group_size) == (3, 64)


@pytest.mark.parametrize(
    ("wrapper", "prefix", "words"),
    [
        (types_pb2.BlockKind, "BLOCK_KIND", BlockKind),
        (types_pb2.Exactness, "EXACTNESS", Exactness),
        (types_pb2.Residency, "RESIDENCY", Residency),
        (types_pb2.TurnKind, "TURN_KIND", TurnKind),
        (types_pb2.FinishReason, "FINISH_REASON", FinishReason),
        (types_pb2.Share, "SHARE", Share),
    ],
)
def test_enums_match_the_contract_word_for_word(wrapper, prefix, words) -> None:
    assert {f"{prefix}_{word.name}" for word in words} | {f"{prefix}_UNSPECIFIED"} == set(wrapper.keys())


def test_an_agent_that_never_expires_has_no_expire_time() -> None:
    view = AgentView(AgentRef("team", "bob"), "id1", 0, 0, Residency.WARM, True, "", 1.0, 1.0, 0, 0)
    agent = responses.agent(view)
    assert not agent.HasField("expire_time")
    assert (agent.pinned, agent.share) == (False, types_pb2.SHARE_NAMESPACE)


def test_disk_usage_with_its_sums() -> None:
    agents = (AgentUsage("bob", 10, 500, 3), AgentUsage("eve", 20, 500, 4))
    sent = responses.disk_usage(DiskUsage((NamespaceUsage("team", agents, 500),), 100, 20, 3, 900))
    assert (sent.orphaned_bytes, sent.quarantined_bytes, sent.catalog_bytes, sent.total_bytes) == (100, 20, 3, 660)
    assert sent.budget_bytes == 900
    (team,) = sent.namespaces
    assert (team.namespace, team.shared_bytes, team.total_bytes) == ("team", 500, 537)
    assert [(a.agent, a.exclusive_bytes, a.shared_bytes, a.record_bytes) for a in team.agents] == [
        ("bob", 10, 500, 3), ("eve", 20, 500, 4),
    ]  # fmt: skip


def test_what_is_pruned_and_what_is_wrong() -> None:
    bob = AgentRef("team", "bob")
    turn, orphan = (
        responses.pruned(p) for p in (Pruned(PrunedKind.TURN, bob, 3, 7), Pruned(PrunedKind.ORPHAN, None, 0, 9))
    )
    assert (turn.kind, turn.agent.namespace, turn.agent.name) == ("TURN", "team", "bob")
    assert (turn.turn, turn.freed_bytes) == (3, 7)
    assert (orphan.kind, orphan.HasField("agent"), orphan.freed_bytes) == ("ORPHAN", False, 9)
    problems = (
        Problem(ProblemKind.RECORD, "RECORD_CORRUPT", "team", "bob", 2),
        Problem(ProblemKind.BLOCK, "BLOCK_MISSING"),
    )
    sent = responses.verify(Verified(5, 6, 7, problems, 1))
    assert (sent.blocks, sent.records, sent.bytes, sent.repaired) == (5, 6, 7, 1)
    assert [(p.kind, p.reason, p.namespace, p.agent, p.turn) for p in sent.problems] == [
        ("RECORD", "RECORD_CORRUPT", "team", "bob", 2), ("BLOCK", "BLOCK_MISSING", "", "", 0),
    ]  # fmt: skip

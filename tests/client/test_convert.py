from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta

import pytest
from agentmem_client import Message, ToolCall, convert
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agentmem.v1 import admin_pb2, agents_pb2, maintenance_pb2, types_pb2


def test_an_agent() -> None:
    info = convert.agent(
        agents_pb2.Agent(
            ref=types_pb2.AgentRef(namespace="default", name="al/ice 🙂"),
            turn=3,
            tokens=700,
            residency=types_pb2.RESIDENCY_WARM,
            exactness=types_pb2.EXACTNESS_EXACT,
            model_matches=True,
            create_time=Timestamp(seconds=86400),
            expire_time=Timestamp(seconds=2 * 86400),
            share=types_pb2.SHARE_PRIVATE,
            pinned=True,
            blocks=[agents_pb2.BlockUse(key="k", kind=types_pb2.BLOCK_KIND_TEXT, start=256, used=100, bytes=9)],
        )
    )
    assert (info.name, info.namespace, info.turn, info.tokens) == ("al/ice 🙂", "default", 3, 700)
    assert (info.residency, info.exactness, info.blocks[0].kind) == ("WARM", "EXACT", "TEXT")
    assert info.create_time == datetime(1970, 1, 2, tzinfo=UTC)
    assert (info.pinned, info.share, info.expire_time) == (True, "PRIVATE", datetime(1970, 1, 3, tzinfo=UTC))
    assert info.last_used_time is None
    assert convert.agent(agents_pb2.Agent()).expire_time is None
    with pytest.raises(FrozenInstanceError):
        info.turn = 4  # type: ignore[misc]


def test_a_turn_with_its_messages() -> None:
    message = types_pb2.ChatMessage(
        role="assistant",
        parts=[types_pb2.ContentPart(text="a"), types_pb2.ContentPart(text="b")],
        tool_calls=[types_pb2.ToolCall(id="1", name="f", arguments="{}")],
    )
    turn = convert.turn(
        types_pb2.Turn(
            number=2,
            kind=types_pb2.TURN_KIND_GENERATE,
            start=10,
            end=20,
            finish_reason=types_pb2.FINISH_REASON_STOP_SEQUENCE,
            messages=[types_pb2.TurnMessage(message=message, start=12, end=19)],
        )
    )
    assert (turn.number, turn.kind, turn.finish_reason) == (2, "GENERATE", "STOP_SEQUENCE")
    assert turn.messages[0].message == Message("assistant", "ab", tool_calls=(ToolCall("1", "f", "{}"),))
    assert (turn.messages[0].start, turn.messages[0].end) == (12, 19)


def test_an_appended_turn_has_no_finish_reason() -> None:
    assert convert.turn(types_pb2.Turn(kind=types_pb2.TURN_KIND_APPEND)).finish_reason == ""


def test_a_value_of_a_newer_daemon_keeps_its_number() -> None:
    assert convert.turn(types_pb2.Turn(kind=99)).kind == "99"  # type: ignore[arg-type]


def test_status_and_stats() -> None:
    status = convert.status(
        admin_pb2.GetStatusResponse(
            phase="SERVING",
            uptime=Duration(seconds=90),
            model=admin_pb2.ModelInfo(name="m", layers=[admin_pb2.LayerInfo(last=3, kind="full")]),
        )
    )
    assert status.uptime == timedelta(seconds=90)
    assert status.model is not None
    assert status.model.layers[0].last == 3
    assert convert.status(admin_pb2.GetStatusResponse(phase="LOADING")).model is None
    stats = convert.stats(admin_pb2.GetStatsResponse(mlx_peak_bytes=5, steps=admin_pb2.StepTimes(steps=3, graph_s=0.5)))
    assert (stats.mlx_peak_bytes, stats.steps.steps, stats.steps.graph_s) == (5, 3, 0.5)


def test_requests_that_run_and_wait() -> None:
    one = admin_pb2.RunningRequest(
        agent=types_pb2.AgentRef(namespace="team", name="bob"),
        phase=admin_pb2.REQUEST_PHASE_SET_ASIDE,
        priority=types_pb2.PRIORITY_LOW,
        waited_s=2.5,
    )
    (request,) = convert.requests(admin_pb2.ListRequestsResponse(requests=[one]))
    assert (request.agent, request.namespace, request.waited_s) == ("bob", "team", 2.5)
    assert (request.phase, request.priority) == ("SET_ASIDE", "LOW")


def test_two_timelines_are_the_same_if_neither_goes_on() -> None:
    same = convert.diff(agents_pb2.DiffAgentsResponse(position=9, a_turn=0, b_turn=0, a_tokens=9, b_tokens=9))
    longer = convert.diff(agents_pb2.DiffAgentsResponse(position=9, a_turn=0, b_turn=3, a_tokens=9, b_tokens=12))
    assert (same.same, longer.same, longer.b_turn) == (True, False, 3)


def test_what_is_pruned_and_what_is_wrong_name_their_agents() -> None:
    bob = types_pb2.AgentRef(namespace="team", name="bob")
    pruned = convert.pruned(
        maintenance_pb2.PruneResponse(
            pruned=[
                maintenance_pb2.Pruned(kind="TURN", agent=bob, turn=2, freed_bytes=7),
                maintenance_pb2.Pruned(kind="ORPHAN", freed_bytes=9),
            ]
        )
    )
    assert [(p.kind, p.namespace, p.agent, p.turn, p.freed_bytes) for p in pruned] == [
        ("TURN", "team", "bob", 2, 7), ("ORPHAN", "", "", 0, 9),
    ]  # fmt: skip
    problem = maintenance_pb2.Problem(kind="BLOCK", agent="bob", turn=2, reason="BLOCK_CORRUPT")
    report = convert.verify_report(maintenance_pb2.VerifyResponse(blocks=3, problems=[problem]))
    assert (report.blocks, report.problems[0].agent, report.problems[0].reason, report.ok) == (
        3, "bob", "BLOCK_CORRUPT", False,
    )  # fmt: skip
    assert convert.verify_report(maintenance_pb2.VerifyResponse(problems=[problem], repaired=1)).ok


def test_disk_usage() -> None:
    bob = maintenance_pb2.AgentDiskUsage(agent="bob", exclusive_bytes=1, shared_bytes=2)
    team = maintenance_pb2.NamespaceDiskUsage(namespace="team", total_bytes=3, agents=[bob])
    usage = convert.disk_usage(maintenance_pb2.GetDiskUsageResponse(namespaces=[team], total_bytes=4, budget_bytes=9))
    assert (usage.budget_bytes, usage.budgeted_bytes) == (9, 3)
    assert (usage.total_bytes, usage.namespaces[0].namespace, usage.namespaces[0].total_bytes) == (4, "team", 3)
    assert (usage.namespaces[0].agents[0].agent, usage.namespaces[0].agents[0].shared_bytes) == ("bob", 2)

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta

import pytest
from agentmem_client import Message, ToolCall, convert
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agentmem.v1 import admin_pb2, agents_pb2, types_pb2


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
            blocks=[agents_pb2.BlockUse(key="k", kind=types_pb2.BLOCK_KIND_TEXT, start=256, used=100, bytes=9)],
        )
    )
    assert (info.name, info.namespace, info.turn, info.tokens) == ("al/ice 🙂", "default", 3, 700)
    assert (info.residency, info.exactness, info.blocks[0].kind) == ("WARM", "EXACT", "TEXT")
    assert info.create_time == datetime(1970, 1, 2, tzinfo=UTC)
    assert info.last_used_time is None
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
    assert convert.stats(admin_pb2.GetStatsResponse(agents=2, mlx_peak_bytes=5)).mlx_peak_bytes == 5

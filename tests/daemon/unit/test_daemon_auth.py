"""The token: its file is private and lasts; without it nothing answers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import grpc
import pytest
from agentmem_daemon.auth import load_or_create_token
from agentmem_daemon.errors import StartError
from agentmem_daemon.server import SERVICES
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from agentmem.errors import Reason
from agentmem.v1 import admin_pb2, admin_pb2_grpc, generation_pb2, generation_pb2_grpc


def test_token_is_made_once_and_private(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token = load_or_create_token(file)
    assert len(bytes.fromhex(token)) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_or_create_token(file) == token
    assert os.listdir(tmp_path) == ["token"]


@pytest.mark.parametrize("content", ["", "abc", "z" * 64, "a" * 65, "\u00e9" * 64])
def test_broken_token_files_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(StartError, match="holds no token"):
        load_or_create_token(file)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_token_files_that_others_can_read_are_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    load_or_create_token(file)
    file.chmod(mode)
    with pytest.raises(StartError, match="only you can read"):
        load_or_create_token(file)


def test_odd_token_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("link", "folder", "fifo"):
        with pytest.raises(StartError):
            load_or_create_token(tmp_path / name)


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer " + "0" * 64),),
        (("authorization", "ab" * 32),),
        (("authorization", "bearer " + "ab" * 32),),
        (("authorization", "Bearer "),),
        (("authorization", "Bearer " + "ab" * 32), ("authorization", "Bearer x")),
        (("token-bin", b"ab"),),
    ],
)
def test_calls_without_the_token_are_refused(served, metadata) -> None:
    async def scenario() -> None:
        async with served() as it:
            generate = generation_pb2_grpc.GenerationServiceStub(it.channel).Generate
            reflect = reflection_pb2_grpc.ServerReflectionStub(it.channel).ServerReflectionInfo
            question = reflection_pb2.ServerReflectionRequest(list_services="")
            calls = [
                admin_pb2_grpc.AdminServiceStub(it.channel).GetStatus(admin_pb2.GetStatusRequest(), metadata=metadata),
                health_pb2_grpc.HealthStub(it.channel).Check(health_pb2.HealthCheckRequest(), metadata=metadata),
                generate(generation_pb2.GenerateRequest(), metadata=metadata).read(),
                reflect(iter([question]), metadata=metadata).read(),
                it.channel.unary_unary("/agentmem.v1.Nothing/Here")(b"", metadata=metadata),
            ]
            for call in calls:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
                assert reason_of(caught.value) == Reason.TOKEN_INVALID.value

    asyncio.run(scenario())


def test_calls_with_the_token_pass(served) -> None:
    async def scenario() -> None:
        async with served() as it:
            health = health_pb2_grpc.HealthStub(it.channel)
            for name in ("", *SERVICES):
                answer = await health.Check(health_pb2.HealthCheckRequest(service=name), metadata=it.metadata)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            reflect = reflection_pb2_grpc.ServerReflectionStub(it.channel).ServerReflectionInfo
            question = reflection_pb2.ServerReflectionRequest(list_services="")
            reply = await reflect(iter([question]), metadata=it.metadata).read()
            assert set(SERVICES) <= {service.name for service in reply.list_services_response.service}

    asyncio.run(scenario())


def reason_of(error: grpc.aio.AioRpcError) -> str:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(details).details[0].Unpack(info)
    assert info.domain == "agentmem"
    return info.reason

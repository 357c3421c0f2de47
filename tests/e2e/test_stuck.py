"""A step that hangs, in a real daemon: everybody can see it, nobody is turned away, and it passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Event
from pathlib import Path

import grpc
import pytest
from agentmem_client import Client
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.helpers.checkpoints import Spec
from tests.helpers.forked import ForkedDaemon


def hang(armed: Event) -> None:
    """To take a token's text takes as long as it is armed."""
    from agentmem.engine.reply import Reply

    real = Reply.add

    def slow(self: Reply, token: int) -> str:
        while armed.is_set():
            time.sleep(0.01)
        return real(self, token)

    Reply.add = slow  # type: ignore[method-assign]


def health(client: Client) -> int:
    endpoint = client._endpoint
    with grpc.insecure_channel(endpoint.target, endpoint.channel_options) as channel:
        request = health_pb2.HealthCheckRequest(service="agentmem.v1.GenerationService")
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=5, metadata=endpoint.metadata()).status


def wait_for(client: Client, phase: str) -> str:
    deadline = time.monotonic() + 20
    while (status := client.status()).phase != phase:
        assert time.monotonic() < deadline, status
        time.sleep(0.02)
    return status.message


def test_a_stuck_step(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., ForkedDaemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTMEM_STUCK_S", "0.5")
    daemon = daemon_on(checkpoint(Spec(layers=1)), options=("--max-batch", "1"))
    daemon.tamper = hang
    with daemon.start() as client, ThreadPoolExecutor() as calls:
        assert health(client) == health_pb2.HealthCheckResponse.SERVING
        daemon.armed.set()
        running = calls.submit(client.agent("alice").generate, token_ids=[5, 6, 7], max_tokens=3)
        message = wait_for(client, "STUCK")
        assert "one step has lasted since 20" in message
        assert "longer than 0.5 s" in message
        assert health(client) == health_pb2.HealthCheckResponse.NOT_SERVING
        waiting = calls.submit(client.agent("bob").append, token_ids=[5, 6])
        while [request.agent for request in client.requests()] != ["alice", "bob"]:
            time.sleep(0.02)
        assert (client.stats().queued, client.stats().max_batch) == (1, 1)
        assert not running.done()
        daemon.armed.clear()
        assert running.result(20).usage.generated_tokens == 3
        assert waiting.result(20).turn == 1
        wait_for(client, "SERVING")
        assert health(client) == health_pb2.HealthCheckResponse.SERVING
        assert [event.kind for event in client.events()] == ["STARTED", "STUCK", "UNSTUCK"]

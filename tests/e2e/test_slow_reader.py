"""A client that does not read its stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from agentmem_client import Client

from agentmem.v1 import generation_pb2, generation_pb2_grpc, types_pb2
from tests.helpers.checkpoints import Spec
from tests.helpers.daemon import Daemon

PROMPT = [5 + i % 90 for i in range(40)]
TOKENS = 300


@pytest.fixture
def client(checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]) -> Client:
    return daemon_on(checkpoint(Spec(layers=1))).start()


@pytest.fixture
def narrow(client: Client) -> Iterator[generation_pb2_grpc.GenerationServiceStub]:
    """A connection that takes next to nothing which is not read: no more than one message waits at our side."""
    endpoint = client._endpoint
    options = [*endpoint.channel_options, ("grpc.http2.lookahead_bytes", 1), ("grpc.http2.bdp_probe", 0)]
    with grpc.insecure_channel(endpoint.target, options) as channel:
        yield generation_pb2_grpc.GenerationServiceStub(channel)


def test_it_stalls_nobody_and_gets_all_when_it_reads_on(
    client: Client, narrow: generation_pb2_grpc.GenerationServiceStub
) -> None:
    """Its own turn is not held up either: what it has not read yet waits in the daemon."""
    request = generation_pb2.GenerateRequest(
        agent=types_pb2.AgentRef(name="slow"),
        input=types_pb2.Input(token_ids=types_pb2.TokenIds(ids=PROMPT)),
        sampling=generation_pb2.Sampling(max_tokens=TOKENS, temperature=1.0, seed=1),
        create=True,
        include_token_ids=True,
    )
    stream = narrow.Generate(request, timeout=60, metadata=client._endpoint.metadata())
    assert next(stream).HasField("started")

    def quick(number: int) -> tuple[int, ...]:
        agent = client.agent(f"quick-{number}")
        reply = agent.generate(
            token_ids=PROMPT, max_tokens=TOKENS, temperature=1.0, seed=1, include_token_ids=True, timeout=30
        )
        return reply.token_ids

    with ThreadPoolExecutor() as calls:
        others = list(calls.map(quick, range(3)))
    assert client.agent("slow").info(timeout=5).turn == 1
    *deltas, last = stream
    ids = tuple(token for message in deltas for token in message.delta.token_ids)
    assert len(ids) == last.finished.usage.generated_tokens
    assert others == [ids] * 3

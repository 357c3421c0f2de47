"""A hand-written engine and a real grpc.aio server around it, on a unix socket."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from agentmem_client.discovery import socket_target
from agentmem_daemon.readiness import Readiness
from agentmem_daemon.server import Server
from agentmem_daemon.traces import Traces

from agentmem.engine.request import Delta, Event, Finished, Request, ReusePlan, Sink, Started
from agentmem.engine.status import AgentView
from agentmem.errors import AgentmemError, Reason
from agentmem.types import AgentRef, Exactness, FinishReason, Residency, Timings, TurnKind, Usage

TOKEN = "ab" * 32
MODEL = SimpleNamespace(
    name="stand-in",
    architecture="llama",
    state_id="s",
    tokenizer_id="t",
    context_limit=2048,
    numerics="reference",
    device="cpu",
    compute_dtype="float32",
    layers=(SimpleNamespace(first=0, last=3, kind="full_attention", kv_heads=2, head_dim=64, bits=4, group_size=64),),
    bytes=1,
    bytes_per_token=2,
)


def finished(reason: FinishReason = FinishReason.STOP) -> Finished:
    return Finished(3, reason, "", Usage(), Timings(ttft_s=0.5), True, (), 7)


STARTED = Started(3, 0, ReusePlan(10, 4, 6, 0), "r1")
SCRIPT: tuple[Event, ...] = (STARTED, Delta("Hé", (1, 2)), Delta("", (3,)), Delta("!", (4,)), finished())


class StandInEngine:
    """Plays `script` on a thread of its own; without a Finished at its end it then waits for `cancel`."""

    def __init__(self) -> None:
        self.script: tuple[Event, ...] = SCRIPT
        self.refusal: Exception | None = None
        self.submitted: list[Request] = []
        self.cancelled = threading.Event()
        self.cancel_reason: FinishReason | None = None
        self.names = [f"agent-{n}" for n in range(5)]
        self.closed_with: float | None = None
        self.step_age = 0.0
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def list_namespaces(self) -> list[Any]:
        """Looked at before the daemon serves, too."""
        return self.__getattr__("list_namespaces")() if "list_namespaces" in self.answers else []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Methods that the test answers for: each call is noted."""
        if name not in self.__dict__.get("answers", ()):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            answer = self.answers[name]
            return answer(*args) if callable(answer) else answer

        return call

    def submit(self, request: Request, sink: Sink) -> StandInEngine:
        if self.refusal is not None:
            raise self.refusal
        self.submitted.append(request)
        threading.Thread(target=self._play, args=(sink,), daemon=True).start()
        return self

    def _play(self, sink: Sink) -> None:
        for event in self.script:
            sink(event)
        if isinstance(self.script[-1], Started | Delta) and self.cancelled.wait(10):
            sink(finished(FinishReason.CANCELLED))

    def cancel(self, reason: FinishReason = FinishReason.CANCELLED) -> None:
        self.cancel_reason = reason
        self.cancelled.set()

    def get_agent(self, ref: AgentRef) -> AgentView:
        if self.refusal is not None:
            raise self.refusal
        if ref.name not in self.names:
            raise AgentmemError(Reason.AGENT_NOT_FOUND, f"There is no agent {ref.name}.", agent=ref.name)
        return AgentView(ref, ref.name, 1, 2, Residency.HOT, True, "s", 1.5, 2.5, 3, 4)

    def list_agents(self, namespace: str, after: str, limit: int, hot_only: bool) -> list[AgentView]:
        return [self.get_agent(AgentRef(namespace, name)) for name in self.names if name > after][:limit]

    def list_turns(self, ref: AgentRef, after: int, limit: int) -> list[SimpleNamespace]:
        turns = [
            SimpleNamespace(
                number=n,
                kind=TurnKind.APPEND,
                start=n,
                end=n + 1,
                created=1.0,
                finish_reason=None,
                exactness=Exactness.EXACT,
                request_id="",
                messages=(),
            )
            for n in range(1, 6)
        ]
        return [turn for turn in turns if turn.number > after][:limit]

    def step_age_s(self) -> float:
        return self.step_age

    def model_info(self) -> SimpleNamespace:
        return MODEL

    def close(self, deadline_s: float) -> None:
        self.closed_with = deadline_s


@dataclass
class Served:
    engine: StandInEngine
    readiness: Readiness
    server: Server
    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {TOKEN}"),)


@pytest.fixture
def engine() -> StandInEngine:
    return StandInEngine()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A private folder whose path is short enough for a socket; pytest's own may not be."""
    path = Path(tempfile.mkdtemp(prefix="agentmem-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def served(folder: Path, engine: StandInEngine) -> Callable[..., object]:
    """`async with served() as it`: a running server; `served(ready=False)` leaves it loading."""

    @asynccontextmanager
    async def serve(ready: bool = True, traces: Traces | None = None) -> AsyncIterator[Served]:
        readiness = Readiness()
        server = Server(readiness, folder, TOKEN, traces)
        await server.start(folder / "a b#%.sock", None)
        if ready:
            readiness.serving(engine, MODEL)  # type: ignore[arg-type]
            await server.healthy()
        try:
            async with grpc.aio.insecure_channel(socket_target(folder / "a b#%.sock")) as channel:
                yield Served(engine, readiness, server, channel)
        finally:
            await server.stop(0)

    return serve

"""A daemon that answers what the test tells it to, over real gRPC on a unix socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, NoReturn

import grpc
from agentmem_client import discovery
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from agentmem.v1 import generation_pb2, types_pb2
from agentmem.v1.admin_pb2_grpc import AdminServiceServicer, add_AdminServiceServicer_to_server
from agentmem.v1.agents_pb2_grpc import AgentServiceServicer, add_AgentServiceServicer_to_server
from agentmem.v1.generation_pb2_grpc import GenerationServiceServicer, add_GenerationServiceServicer_to_server
from agentmem.v1.latent_pb2_grpc import LatentServiceServicer, add_LatentServiceServicer_to_server
from agentmem.v1.maintenance_pb2_grpc import MaintenanceServiceServicer, add_MaintenanceServiceServicer_to_server
from agentmem.v1.primitives_pb2_grpc import PrimitivesServiceServicer, add_PrimitivesServiceServicer_to_server

TOKEN = "a-token"
STREAMS = ("Generate", "ExportAgent", "Run", "ExportPool")
UPLOADS = ("ImportAgent", "ImportPool")
Answer = Callable[[Any, grpc.ServicerContext], Any]


def fail(context: grpc.ServicerContext, code: str, reason: str, message: str, **metadata: str) -> NoReturn:
    """Ends the call as the daemon does: google.rpc.Status with ErrorInfo in the trailing metadata."""
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="agentmem", metadata=metadata))
    status_code = grpc.StatusCode[code]
    status = status_pb2.Status(code=status_code.value[0], message=message, details=[info])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(status_code, message)


def say(*words: str, turn: int = 1) -> list[generation_pb2.GenerateResponse]:
    """A whole stream: started, one delta per word, finished."""
    return [opening(turn), *(delta(word) for word in words), finish(turn)]


def opening(turn: int = 1, queue_position: int = 0) -> generation_pb2.GenerateResponse:
    plan = generation_pb2.ReusePlan(remembered_tokens=300, warm_tokens=300)
    started = generation_pb2.Started(turn=turn, queue_position=queue_position, plan=plan, request_id="r")
    return generation_pb2.GenerateResponse(started=started)


def delta(text: str) -> generation_pb2.GenerateResponse:
    return generation_pb2.GenerateResponse(delta=generation_pb2.Delta(text=text, token_ids=[len(text)]))


def finish(turn: int = 1) -> generation_pb2.GenerateResponse:
    usage = types_pb2.Usage(
        prompt_tokens=310,
        reused_warm_tokens=300,
        prefill_tokens=10,
        exactness=types_pb2.EXACTNESS_EXACT,
        misses=[types_pb2.PrefixMiss(position=256, tokens=44, reason="BLOCK_CORRUPT")],
    )
    return generation_pb2.GenerateResponse(
        finished=generation_pb2.Finished(
            turn=turn,
            finish_reason=types_pb2.FINISH_REASON_STOP,
            usage=usage,
            timings=types_pb2.Timings(ttft_s=0.25),
            durable=True,
            warnings=[types_pb2.Warning(reason="BLOCK_CORRUPT", message="Recomputed.")],
            seed=7,
        )
    )


class ScriptedDaemon:
    """answers: what to do per method. seen: every request that came, retries included."""

    def __init__(self, socket: Path, token: str = TOKEN) -> None:
        self.socket = socket
        self._token = token
        self.answers: dict[str, Answer] = {}
        self.seen: list[Any] = []
        socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        discovery.token_path(socket).write_text(token + "\n")
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        services = (
            (AgentServiceServicer, add_AgentServiceServicer_to_server),
            (GenerationServiceServicer, add_GenerationServiceServicer_to_server),
            (AdminServiceServicer, add_AdminServiceServicer_to_server),
            (LatentServiceServicer, add_LatentServiceServicer_to_server),
            (MaintenanceServiceServicer, add_MaintenanceServiceServicer_to_server),
            (PrimitivesServiceServicer, add_PrimitivesServiceServicer_to_server),
        )
        for base, add in services:
            methods = [name for name in vars(base) if name[0].isupper()]
            add(type("Scripted", (base,), {name: self._handler(name) for name in methods})(), self._server)
        self._server.add_insecure_port(discovery.socket_target(socket))

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def _handler(self, name: str) -> Callable[..., Any]:
        def check(request: Any, context: grpc.ServicerContext) -> Answer:
            self.seen.append(request)
            if dict(context.invocation_metadata()).get("authorization") != f"Bearer {self._token}":
                fail(context, "UNAUTHENTICATED", "TOKEN_INVALID", "The token is wrong.")
            if name not in self.answers:
                fail(context, "UNIMPLEMENTED", "NOT_IMPLEMENTED", f"{name} is not implemented.")
            return self.answers[name]

        def stream(servicer: Any, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            yield from check(request, context)(request, context)

        def unary(servicer: Any, request: Any, context: grpc.ServicerContext) -> Any:
            return check(request, context)(request, context)

        def upload(servicer: Any, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
            return unary(servicer, list(requests), context)

        return stream if name in STREAMS else upload if name in UPLOADS else unary

"""Errors on the wire: AgentmemError as a gRPC status with google.rpc details; anything else as INTERNAL with an id."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from agentmem.errors import AgentmemError, Code, Reason
from agentmem_daemon.logs import stack_of

ERROR_DOMAIN = "agentmem"
DETAILS_KEY = "grpc-status-details-bin"
OWN_METHODS = "/agentmem."

logger = logging.getLogger(__name__)

Behaviour = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]


class StartError(Exception):
    """The daemon cannot start here. `message` is a sentence that says what to do; `exit_code` is the command's."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message, self.exit_code = message, exit_code


def status_of(error: AgentmemError) -> status_pb2.Status:
    """google.rpc.Status with ErrorInfo, and RetryInfo where the error says how many seconds to wait."""
    status = status_pb2.Status(code=_grpc_code(error).value[0], message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason.value, domain=ERROR_DOMAIN, metadata=error.metadata)
    status.details.add().Pack(info)
    if "retry_after_s" in error.metadata:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(float(error.metadata["retry_after_s"]) * 1000))
        status.details.add().Pack(retry)
    return status


async def abort(context: grpc.aio.ServicerContext, error: AgentmemError) -> None:
    """Ends the call with the error. Does not return: gRPC raises its own AbortError."""
    details = ((DETAILS_KEY, status_of(error).SerializeToString()),)
    await context.abort(_grpc_code(error), error.message, details)


def _grpc_code(error: AgentmemError) -> grpc.StatusCode:
    return grpc.StatusCode[error.code.value]


def unexpected(method: str, error: Exception) -> AgentmemError:
    """Logs a mistake of ours under a fresh id, without its message, and makes the answer that names the id."""
    error_id = secrets.token_hex(6)
    logger.error("%s failed, error id %s\n%s", method, error_id, stack_of(error))
    return AgentmemError(
        Reason.INTERNAL,
        f"Something went wrong inside the daemon. Its log says more under error id {error_id}.",
        error_id=error_id,
    )


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Guards every method of our own services, so that no servicer handles errors itself.

    All of them take one request or stream and are coroutines (`context.write` sends), hence one guard fits all.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(OWN_METHODS):
            return handler
        if handler.request_streaming:
            make, behaviour = grpc.stream_unary_rpc_method_handler, handler.stream_unary
        elif handler.response_streaming:
            make, behaviour = grpc.unary_stream_rpc_method_handler, handler.unary_stream
        else:
            make, behaviour = grpc.unary_unary_rpc_method_handler, handler.unary_unary
        return make(_guarded(behaviour, method), _or_none(handler.request_deserializer), handler.response_serializer)


def _or_none(deserialise: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """gRPC answers bytes that cannot be read with UNKNOWN and the parser's own words; as None they reach the guard."""

    def read(data: bytes) -> Any:
        try:
            return deserialise(data)
        except DecodeError:
            return None

    return read


def unreadable() -> AgentmemError:
    return AgentmemError(Reason.INPUT_INVALID, "The bytes of this request are not a message of its method.")


def _guarded(behaviour: Behaviour, method: str) -> Behaviour:
    async def call(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            if request is None:
                raise unreadable()
            return await behaviour(request, context)
        except AgentmemError as error:
            level = logging.WARNING if error.code in (Code.INTERNAL, Code.DATA_LOSS) else logging.INFO
            logger.log(level, "%s refused: %s", method, error.reason.value)
            answer = error
        except Exception as error:
            answer = unexpected(method, error)
        await abort(context, answer)

    return call

"""The token: a file that only its owner can read, and the check that every call carries its content."""

from __future__ import annotations

import hmac
import os
import re
import secrets
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc

from agentmem.errors import AgentmemError, Reason
from agentmem_daemon.errors import StartError, abort

TOKEN_BYTES = 32
_TOKEN = re.compile(r"[0-9a-f]{64}")


def load_or_create_token(path: Path) -> str:
    """The token in `path`; made on first use, then kept. Raises StartError if the file is unsafe or broken."""
    try:
        try:
            return _read_token(path)
        except FileNotFoundError:
            _create_token(path)
            return _read_token(path)
    except OSError as error:
        raise StartError(f"The token file {path} cannot be used: {error.strerror}.") from error


def _read_token(path: Path) -> str:
    # O_NONBLOCK: a FIFO in its place must not hang the start.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
            raise StartError(
                f"The token file {path} is not a plain file that only you can read. Delete it; a new one will be made."
            )
        token = file.read(1024).strip().decode("ascii", "replace")
    if not _TOKEN.fullmatch(token):
        raise StartError(f"The token file {path} holds no token. Delete it; a new one will be made.")
    return token


def _create_token(path: Path) -> None:
    """Writes a whole token beside `path` and links it into place, so that no reader ever sees half of one."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(TOKEN_BYTES) + "\n")
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Lets a call through, to any service, only with `authorization: Bearer <token>`."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        metadata = handler_call_details.invocation_metadata or ()
        given = [_as_bytes(value) for key, value in metadata if key == "authorization"]
        if len(given) == 1 and hmac.compare_digest(given[0], self._expected):
            return await continuation(handler_call_details)
        # A stream handler fits every kind of call, and it refuses without reading the request.
        handler = await continuation(handler_call_details)
        refuse = _refuse_after_one if handler is not None and handler.request_streaming else _refuse
        return grpc.stream_stream_rpc_method_handler(refuse)


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


async def _refuse(requests: Any, context: grpc.aio.ServicerContext) -> None:
    await abort(
        context,
        AgentmemError(
            Reason.TOKEN_INVALID,
            "The token is missing or wrong. Send the content of the daemon's token file as 'authorization: Bearer …'.",
        ),
    )


async def _refuse_after_one(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
    # A client whose first message is still on its way when the call ends reports INTERNAL instead of our status.
    async for _ in requests:
        break
    await _refuse(requests, context)

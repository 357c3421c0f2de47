"""gRPC failures as the client's exceptions. Rich details are decoded here: grpcio-status pins protobuf too tightly."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from agentmem_client.endpoint import Endpoint
from agentmem_client.errors import AgentmemError, make_error

_DETAILS = "grpc-status-details-bin"
_TOO_LATE = (
    "The call took longer than its timeout. What it was to change may still be changed: to be sure, repeat it with the "
    "same request_id."
)


def from_rpc_error(error: Any, endpoint: Endpoint) -> AgentmemError:
    """error: a grpc.RpcError of a finished call, sync or async; both answer code, details and trailing_metadata."""
    code = error.code().name
    status = _status(error.trailing_metadata())
    if status is None:
        # Nothing from the daemon's own hand: if the connection failed, is there a daemon at all?
        if code == "UNAVAILABLE" and not endpoint.is_listening():
            return endpoint.not_running()
        if code == "DEADLINE_EXCEEDED":
            return make_error(code, "", _TOO_LATE)
        return make_error(code, "", error.details() or code)
    info = _error_info(status)
    return make_error(code, info.reason, status.message or error.details() or code, info.metadata)


def _status(trailing: Any) -> status_pb2.Status | None:
    for key, value in trailing or ():
        if key == _DETAILS:
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _error_info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        try:
            if detail.Unpack(info):
                break
        except DecodeError:
            continue
    return info

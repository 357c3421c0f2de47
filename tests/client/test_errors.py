"""Errors travel from a servicer through real gRPC into exceptions."""

from __future__ import annotations

import grpc
import pytest
from agentmem_client import AgentmemError, Client, errors

from .scripted import ScriptedDaemon, fail


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("NOT_FOUND", "AGENT_NOT_FOUND", errors.AgentNotFound),
        ("NOT_FOUND", "MODEL_NOT_FOUND", errors.NotFound),
        ("ALREADY_EXISTS", "AGENT_EXISTS", errors.AlreadyExists),
        ("INVALID_ARGUMENT", "EMPTY_INPUT", errors.InvalidRequest),
        ("FAILED_PRECONDITION", "MODEL_MISMATCH", errors.ModelMismatch),
        ("FAILED_PRECONDITION", "CONTEXT_OVERFLOW", errors.ContextOverflow),
        ("FAILED_PRECONDITION", "TOKENIZER_MISMATCH", errors.FailedPrecondition),
        ("ABORTED", "TURN_MISMATCH", errors.TurnMismatch),
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL", errors.ResourceExhausted),
        ("DATA_LOSS", "BLOCK_UNRECOVERABLE", errors.DataLoss),
        ("DEADLINE_EXCEEDED", "", errors.DeadlineExceeded),
        ("CANCELLED", "REQUEST_CANCELLED", errors.Cancelled),
        ("UNAUTHENTICATED", "TOKEN_INVALID", errors.Unauthenticated),
        ("UNIMPLEMENTED", "NOT_IMPLEMENTED", errors.NotImplementedByDaemon),
        ("INTERNAL", "INTERNAL", errors.InternalError),
        ("OUT_OF_RANGE", "OF_A_NEWER_DAEMON", errors.AgentmemError),
    ],
)
def test_each_status_has_its_exception(
    daemon: ScriptedDaemon, client: Client, code: str, reason: str, kind: type[AgentmemError]
) -> None:
    daemon.answers["GetAgent"] = lambda request, context: fail(context, code, reason, "What to do.", limit="2048")
    with pytest.raises(AgentmemError) as caught:
        client.agent("alice").info()
    error = caught.value
    assert type(error) is kind or (reason == "AGENT_EXISTS" and isinstance(error, kind))
    assert (error.code, error.reason, error.message, error.metadata) == (code, reason, "What to do.", {"limit": "2048"})


def test_a_call_that_the_daemon_does_not_offer(client: Client) -> None:
    with pytest.raises(errors.NotImplementedByDaemon):
        client.agent("alice").rewind(1)


def test_an_error_without_details_keeps_its_message(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.answers["GetAgent"] = lambda request, context: context.abort(grpc.StatusCode.INTERNAL, "Plain.")
    with pytest.raises(errors.InternalError, match="Plain"):
        client.agent("alice").info()


def test_details_that_do_not_parse_are_left_out(daemon: ScriptedDaemon, client: Client) -> None:
    def answer(request: object, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
        context.abort(grpc.StatusCode.ABORTED, "Plain.")

    daemon.answers["GetAgent"] = answer
    with pytest.raises(errors.TurnMismatch, match="Plain") as caught:
        client.agent("alice").info()
    assert caught.value.reason == ""

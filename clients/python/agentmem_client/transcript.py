"""What a Generate stream has said so far, message by message; the part that sync and async streams share."""

from __future__ import annotations

from agentmem.v1 import generation_pb2
from agentmem_client import convert
from agentmem_client.errors import AgentmemError, Cancelled, InternalError
from agentmem_client.types import Delta, Reply, Started


class Transcript:
    """started: the first message, kept when a queued request reports once more that it runs."""

    def __init__(self, request_id: str) -> None:
        self.started: Started | None = None
        self.ended = False
        self.cancelled = False
        self._request_id = request_id
        self._texts: list[str] = []
        self._token_ids: list[int] = []
        self._reply: Reply | None = None
        self._error: AgentmemError | None = None

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def take(self, message: generation_pb2.GenerateResponse) -> Delta | None:
        """Notes the message; the delta if it was one."""
        event = message.WhichOneof("event")
        if event == "started":
            self.started = self.started or convert.started(message.started)
        elif event == "delta":
            delta = convert.delta(message.delta)
            self._texts.append(delta.text)
            self._token_ids += delta.token_ids
            return delta
        elif event == "finished":
            self._reply = convert.reply(
                message.finished, text=self.text, token_ids=tuple(self._token_ids), request_id=self._request_id
            )
        return None

    def end(self, error: AgentmemError | None = None) -> None:
        """The stream has ended, with `error` or well. Raises it, unless the caller wanted the end."""
        self.ended = True
        if self.cancelled:
            self._error = Cancelled("The caller cancelled the stream.", reason="REQUEST_CANCELLED")
            return
        if error is None and self._reply is None:
            error = InternalError("The stream ended without its final message; whether the turn committed is unknown.")
        self._error = error
        if error is not None:
            raise error

    def opening(self) -> Started:
        """`started`, or the error that came instead."""
        if self.started is None:
            raise self._error or InternalError("The stream did not begin with its opening message.")
        return self.started

    def result(self) -> Reply:
        """The reply, or the error that ended the stream. RuntimeError while there is more to read."""
        if not self.ended:
            raise RuntimeError("The reply is not complete yet: iterate to the end, or call drain().")
        if self._reply is None:
            raise self._error or InternalError("The stream ended without its final message.")
        return self._reply

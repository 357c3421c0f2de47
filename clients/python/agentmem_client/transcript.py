"""What a stream has said so far, message by message; the part that sync and async streams share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from agentmem.v1 import generation_pb2, primitives_pb2
from agentmem_client import convert
from agentmem_client.errors import AgentmemError, Cancelled, InternalError, StreamUnfinished
from agentmem_client.run_types import RunProgress, RunResult, RunStarted
from agentmem_client.types import Delta, Reply, Started

Opening = TypeVar("Opening")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Transcript(ABC, Generic[Opening, Item, Result]):
    """started: the first message."""

    incomplete = "The stream ended without its final message."

    def __init__(self) -> None:
        self.started: Opening | None = None
        self.ended = False
        self.cancelled = False
        self._result: Result | None = None
        self._error: AgentmemError | None = None

    @abstractmethod
    def take(self, message: Any) -> Item | None:
        """Notes the message; what it brought for the caller, if anything."""

    def end(self, error: AgentmemError | None = None) -> None:
        """The stream has ended, with `error` or well. Raises it, unless the caller wanted the end."""
        self.ended = True
        if self.cancelled:
            return
        if error is None and self._result is None:
            error = InternalError(self.incomplete)
        self._error = error
        if error is not None:
            raise error

    def opening(self) -> Opening:
        """`started`, or the error that came instead."""
        if self.started is None:
            raise self._end() or InternalError("The stream did not begin with its opening message.")
        return self.started

    def result(self) -> Result:
        """What the last message said, or the error that ended the stream: Cancelled from the moment when the caller
        cancelled it. Raises StreamUnfinished while there is more to read.
        """
        if self._result is not None:
            return self._result
        if (error := self._end()) is not None:
            raise error
        if not self.ended:
            message = (
                "The stream has not been read to its end: go on with it, or call drain(). Breaking out of a loop does "
                "not end it; cancel() does, and so does leaving its `with` block."
            )
            raise StreamUnfinished(message)
        raise InternalError(self.incomplete)

    def _end(self) -> AgentmemError | None:
        """The error that ended the stream."""
        if self.cancelled:
            return Cancelled("The caller cancelled the stream.", reason="REQUEST_CANCELLED")
        return self._error


class ReplyTranscript(Transcript[Started, Delta, Reply]):
    """Of Generate. `started` is kept when a queued request reports once more that it runs."""

    incomplete = "The stream ended without its final message; whether the turn committed is unknown."

    def __init__(self, request_id: str) -> None:
        super().__init__()
        self._request_id = request_id
        self._texts: list[str] = []
        self._token_ids: list[int] = []

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def take(self, message: generation_pb2.GenerateResponse) -> Delta | None:
        event = message.WhichOneof("event")
        if event == "started":
            self.started = self.started or convert.started(message.started)
        elif event == "delta":
            delta = convert.delta(message.delta)
            self._texts.append(delta.text)
            self._token_ids += delta.token_ids
            return delta
        elif event == "finished":
            self._result = convert.reply(
                message.finished, text=self.text, token_ids=tuple(self._token_ids), request_id=self._request_id
            )
        return None


class RunTranscript(Transcript[RunStarted, RunProgress, RunResult]):
    """Of Run."""

    def take(self, message: primitives_pb2.RunResponse) -> RunProgress | None:
        event = message.WhichOneof("event")
        if event == "started":
            self.started = convert.run_started(message.started)
        elif event == "progress":
            return convert.run_progress(message.progress)
        elif event == "finished":
            self._result = convert.run_result(message.finished)
        return None

"""A reply as it grows: sampled ids, text in whole characters, and why it ends."""

from __future__ import annotations

from agentmem.engine.request import Sampling
from agentmem.engine.stops import StopFilter
from agentmem.model.loader import LoadedModel
from agentmem.types import FinishReason, Message, TurnMessage


class Reply:
    """`start`: the position of its first token. Ends at the model's end token, a stop sequence, or its length."""

    def __init__(self, model: LoadedModel, sampling: Sampling, start: int) -> None:
        room = model.context_limit - start
        self._left = room if sampling.max_tokens is None else min(room, sampling.max_tokens)
        self._eos = model.text.eos_ids
        self._detokenizer = model.text.detokenizer()
        self._stops = StopFilter(sampling.stop)
        self._position = start
        self._text: list[str] = []
        self.finish_reason: FinishReason | None = None
        self.interrupted = False

    @property
    def stop_sequence(self) -> str:
        return self._stops.matched

    def add(self, token: int) -> str:
        """Takes the next token; returns the text that may be sent."""
        self._position += 1
        self._left -= 1
        text = ""
        if token in self._eos:
            self.finish_reason = FinishReason.STOP
        else:
            self._detokenizer.add_token(token)
            text = self._stops.push(self._detokenizer.last_segment)
            if self._stops.matched:
                self.finish_reason = FinishReason.STOP_SEQUENCE
            elif self._left == 0:
                self.finish_reason = FinishReason.LENGTH
        if self.finish_reason in (FinishReason.STOP, FinishReason.LENGTH):
            text += self._rest()
        self._text.append(text)
        return text

    def interrupt(self, reason: FinishReason) -> None:
        """Ends the reply from outside; held-back text counts as said, since its tokens were fed."""
        self.interrupted = True
        self.finish_reason = reason
        self._text.append(self._rest())

    def message(self, role: str, start: int) -> TurnMessage:
        return TurnMessage(Message(role, ("".join(self._text),)), start, self._position)

    def _rest(self) -> str:
        self._detokenizer.finalize()
        rest = self._stops.push(self._detokenizer.last_segment) + self._stops.flush()
        if self._stops.matched:
            self.finish_reason = FinishReason.STOP_SEQUENCE
        return rest

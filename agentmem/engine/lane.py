"""An agent's place in the batch while it replies, and the step that decodes all of them at once.

A token is sampled lazily, from the logits behind the one before it, and fed in the next step. A step is begun before
the tokens of the one before are read (`ahead`), so that the device computes while Python goes on: what an agent's run
learns lags a step behind what its state holds, and once it knows that a token is the last, that was fed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence

import mlx.core as mx

from agentmem.engine.steptimes import StepTimes
from agentmem.kv.state import AgentState
from agentmem.memory.agent import Agent
from agentmem.model.forward import decode
from agentmem.model.loader import LoadedModel

Sampler = Callable[[mx.array, int], mx.array]
"""From logits [vocab] and the position of the token to be, to the token, not evaluated; raises what it likes."""


class Lane:
    """position: of the reply's first token, which is sampled from `logits`, those behind the prompt."""

    def __init__(self, agent: Agent, sampler: Sampler, position: int, logits: mx.array) -> None:
        self.agent, self._sampler, self._position = agent, sampler, position
        self._unread: deque[mx.array] = deque()
        self._error: Exception | None = None
        self._ended = False
        self._fed, self._read = -1, 0  # tokens of the reply; the prompt's logits are sampled first
        self.pending: mx.array | None = None
        """Sampled, and not in the state yet."""
        self.sample(logits)
        self._fresh = True
        """The first token can be read before any step."""

    def sample(self, logits: mx.array) -> None:
        """logits: those behind what the state holds now. One agent's failure to sample is its own."""
        self.pending = None
        self._fed += 1
        if self._ended:
            return
        try:
            self.pending = self._sampler(logits, self._position)
            self._unread.append(self.pending)
        except Exception as error:
            self._error = error
        self._position += 1

    @property
    def state(self) -> AgentState:
        state = self.agent.state
        assert state is not None
        return state

    @property
    def oldest(self) -> mx.array | None:
        """The token that the run reads next, if that can go on while later ones are computed."""
        return self._unread[0] if len(self._unread) > 1 else None

    @property
    def holds_last(self) -> bool:
        """Whether the token that was read last is in the state."""
        return self._fed >= self._read

    def ready(self, ahead: bool) -> bool:
        """Whether the run can go on: with a token, an error, or because its last token is in the state."""
        return len(self._unread) > ahead or self._error is not None or (self._ended and self.holds_last)

    def next(self) -> Generator[Lane, None, int]:
        """The next token of the reply."""
        if not self._fresh:
            yield self
        self._fresh = False
        self._read += 1
        if not self._unread and self._error is not None:
            raise self._error
        token = self._unread.popleft().item()
        assert isinstance(token, int)
        return token

    def end(self) -> Generator[Lane, None, None]:
        """Ends the reply with the token that was read last: afterwards it is in the state, and nothing behind it."""
        self._ended = True
        if not self.holds_last:
            yield self


class DecodeBatch:
    def __init__(self, model: LoadedModel, ahead: bool, times: StepTimes) -> None:
        self._model, self.ahead, self._times = model, ahead, times

    def step(self, lanes: Sequence[Lane]) -> list[Lane]:
        """Feeds each lane's pending token and samples the next; returns those whose runs can go on."""
        feeding = [lane for lane in lanes if lane.pending is not None]
        if feeding:
            self._feed(feeding)
        return [lane for lane in lanes if lane.ready(self.ahead)]

    def _feed(self, lanes: Sequence[Lane]) -> None:
        began = time.perf_counter()
        states = [lane.state for lane in lanes]
        logits = decode(self._model, states, mx.stack([lane.pending for lane in lanes if lane.pending is not None]))
        built = time.perf_counter()
        for row, lane in enumerate(lanes):
            lane.sample(logits[row])
        sampled = time.perf_counter()
        evaluate = mx.async_eval if self.ahead else mx.eval
        evaluate([lane.pending for lane in lanes if lane.pending is not None], [state.arrays() for state in states])
        if self.ahead:
            mx.eval([lane.oldest for lane in lanes if lane.oldest is not None])  # what the runs are about to read
        times = self._times
        times.graph_s += built - began
        times.sample_s += sampled - built
        times.device_s += time.perf_counter() - sampled
        times.steps += 1
        times.tokens += len(lanes)
